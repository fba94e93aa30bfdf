// Joins the snapshots on this machine and the archives in the container. Listings lag behind and contain little, so
// every fact behind a decision comes from the object itself.

import { toBackupError } from "../errors.ts";
import { identityText, indexArchives, isSilent, withAncestors } from "../plan/chain.ts";
import { parseArchive, keyPrefix, parseKey } from "../plan/key.ts";
import { archiveKeyOf } from "../plan/manifest.ts";
import type { Keeping } from "../plan/keeping.ts";
import { originOf, streamIdentity, type Archive, type Proof } from "../plan/model.ts";
import { keysOf } from "../plan/standing.ts";
import type { LocalSnapshots } from "./ports.ts";
import type { Reading } from "./read-archive.ts";
import type { StoredObject } from "./store-ports.ts";
import { examineObject, toArchive } from "./recognition.ts";
import { forEachConcurrently, mapConcurrently } from "./concurrency.ts";
import { listFinished } from "./replace-archive.ts";
import { allArchives, type Inventory } from "../plan/inventory.ts";

/** Requests in flight while archives are examined: answers are small and latency is all they cost. */
const EXAMINERS = 16;

/** Where to look for archives, and the facts that are known already. */
export interface ArchiveView extends Reading {
  readonly proofs?: readonly Proof[];
  /** True: the catalogue is enough for the snapshots' own archives too, because nothing is built on them. */
  readonly relies?: boolean;
  /** By which a sync decides what is to be archived; absent or null: everything is. */
  readonly keeping?: Keeping | null;
}

/**
 * The snapshots of a source, and the objects under their keys. Each of them is requested, whether a listing names it or
 * not.
 */
export async function takeInventory(local: LocalSnapshots, view: ArchiveView, signal: AbortSignal): Promise<Inventory> {
  const { source, snapshots } = local;
  const objects = await listFinished(keyPrefix(source.uuid), view, signal);
  const keys = new Set<string>(keysOf(source.uuid, snapshots));
  const listed = new Map(objects.map((object) => [object.key, object]));
  const archives = await mapConcurrently([...keys], EXAMINERS, async (key) => {
    const object = listed.get(key);
    if (object === undefined) return await readArchive(key, view, signal);
    const look = view.relies === true ? recallArchive : askArchive;
    return await orUnreadable(object, () => look(object, view, signal));
  });
  const archived = new Set(objects.flatMap(({ key }) => parseKey(key)?.key ?? []));
  const volumes = objects.flatMap(({ key }) => (archiveKeyOf(key) === null ? [] : key));
  const examined = [...archived].every((key) => keys.has(key)) ? "source" : "snapshots";
  const there = archives.flatMap((archive) => archive ?? []);
  return { ...local, archived, archives: there, others: [], examined, volumes, proofs: view.proofs ?? [] };
}

/**
 * The inventory with all archives of its source, or of the entire container: after a restore, chains begin with
 * others'.
 */
export async function examine(
  inventory: Inventory,
  extent: "source" | "container",
  view: ArchiveView,
  signal: AbortSignal,
): Promise<Inventory> {
  const { source, snapshots, examined } = inventory;
  if (extent === "source" || examined === "snapshots") {
    const asked = new Set<string>(keysOf(source.uuid, snapshots));
    const archives = await readArchives(keyPrefix(source.uuid), view, signal, (key) => !asked.has(key));
    const ofSource: Inventory = { ...inventory, archives: [...inventory.archives, ...archives], examined: "source" };
    return extent === "source" ? ofSource : await examine(ofSource, extent, view, signal);
  }
  const others = await readArchives("", view, signal, (key) => parseKey(key)?.source !== source.uuid);
  return { ...inventory, others, examined: "container" };
}

/**
 * The inventory without archives that the store has lost although the snapshots' own build on them. The catalogue knows
 * them, and so trusts a listing that still names them.
 */
export async function confirmAncestors(
  inventory: Inventory,
  view: ArchiveView,
  signal: AbortSignal,
): Promise<Inventory> {
  const { source, snapshots, origin, archives, others } = inventory;
  if (view.catalogue == null) return inventory;
  const asked = new Set<string>(keysOf(source.uuid, snapshots));
  const here = new Set(snapshots.map((snapshot) => identityText(streamIdentity(snapshot))));
  if (origin !== null) here.add(identityText(originOf(origin)));
  const all = allArchives(inventory);
  const own = all.filter(
    ({ key, lineage }) => asked.has(key) || (lineage !== null && here.has(identityText(lineage.snapshot))),
  );
  const recalled = [...withAncestors(own, indexArchives(all))].filter(({ key }) => !asked.has(key));
  const lost = new Set<Archive>();
  await forEachConcurrently(recalled, EXAMINERS, async (archive) => {
    if ((await view.container.head(archive.key, signal)) !== null) return;
    view.catalogue?.forget(archive.key);
    lost.add(archive);
  });
  if (lost.size === 0) return inventory;
  const exists = (archive: Archive): boolean => !lost.has(archive);
  return { ...inventory, archives: archives.filter(exists), others: others.filter(exists) };
}

interface ListedUnder {
  readonly prefix: string;
  readonly wanted: (key: string) => boolean;
  readonly reading: Reading;
}

/** Every archive under a prefix, examined, in the order of their keys. @param wanted - by default all of them */
export async function readArchives(
  prefix: string,
  reading: Reading,
  signal: AbortSignal,
  wanted: (key: string) => boolean = () => true,
): Promise<Archive[]> {
  return await readListed(await listFinished(prefix, reading, signal), { prefix, wanted, reading }, signal);
}

/** As {@link readArchives}, of a listing that is at hand. */
export async function readListed(
  objects: readonly StoredObject[],
  { prefix, wanted, reading }: ListedUnder,
  signal: AbortSignal,
): Promise<Archive[]> {
  reading.catalogue?.retain(prefix, objects);
  const named = objects.filter(({ key }) => parseKey(key) !== null && wanted(key));
  const archives = await mapConcurrently(named, EXAMINERS, (object) =>
    orUnreadable(object, () => recallArchive(object, reading, signal)),
  );
  return archives.flatMap((archive) => archive ?? []);
}

/** Turns an archive that the store does not return into one with a failure, so that it does not hide the others. */
async function orUnreadable(object: StoredObject, look: () => Promise<Archive | null>): Promise<Archive | null> {
  try {
    return await look();
  } catch (error) {
    const { code, message } = toBackupError(error);
    // First bytes are read only where the metadata does not identify the archive.
    const archive = parseArchive({ ...object, metadata: {} });
    if (archive === null || (code !== "ARCHIVE_DAMAGED" && code !== "ARCHIVE_MISSING")) throw error;
    return { ...archive, failure: message };
  }
}

/**
 * The archive under a key, by its metadata, or else by the first bytes of its stream. Null when there is no object or
 * the key is no archive's.
 */
export async function readArchive(key: string, reading: Reading, signal: AbortSignal): Promise<Archive | null> {
  const { container, identities } = reading;
  const object = await container.head(key, signal);
  return object === null
    ? null
    : await orUnreadable(object, () => examineObject(object, container, signal, identities));
}

/** As {@link readArchive}, for an object that is listed: known facts about it are not asked again. */
async function recallArchive(listed: StoredObject, reading: Reading, signal: AbortSignal): Promise<Archive | null> {
  const known = reading.catalogue?.find(listed) ?? null;
  const archive = known === null ? null : toArchive(known);
  return archive === null || saysLessThan(archive, reading) ? await askArchive(listed, reading, signal) : archive;
}

/** The same, from the object itself; its first bytes are not read again if it is the known one. */
async function askArchive(listed: StoredObject, reading: Reading, signal: AbortSignal): Promise<Archive | null> {
  const { container, identities, catalogue } = reading;
  const details = await container.head(listed.key, signal);
  if (details === null) catalogue?.forget(listed.key);
  if (details === null) return null;
  const known = catalogue?.find(listed) ?? null;
  const before = known?.details.etag === details.etag ? toArchive({ ...known, details }) : null;
  const archive =
    before === null || saysLessThan(before, reading)
      ? await examineObject(details, container, signal, identities)
      : before;
  if (archive === null) return null;
  const { encoding, lineage } = archive;
  const bare = parseArchive(details);
  if (bare?.lineage != null) catalogue?.record(listed, { details, peeked: null });
  // Asked again each time: archives that could not be recognised, and copies, which need more than their first bytes.
  else if (
    encoding !== null &&
    (lineage !== null || isSilent(archive)) &&
    archive.volumes === bare?.volumes &&
    archive.otime === bare.otime
  ) {
    catalogue?.record(listed, { details, peeked: { encoding, lineage } });
  }
  return archive;
}

/** True when there are identities, which may open what could not be read before. */
function saysLessThan(archive: Archive, { identities }: Reading): boolean {
  return archive.lineage === null && identities.length > 0;
}
