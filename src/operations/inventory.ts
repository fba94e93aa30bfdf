// Joins the snapshots on this machine and the archives in the container. Listings lag behind and say little, so every
// fact behind a decision comes from the object itself.

import { BackupError, toBackupError } from "../errors.ts";
import { identityText, indexArchives, isSilent, withAncestors } from "../plan/chain.ts";
import { isEncrypted } from "../plan/encoding.ts";
import { parseArchive, keyPrefix, parseKey } from "../plan/key.ts";
import { archiveKeyOf, formatVolumeKey } from "../plan/manifest.ts";
import {
  originOf,
  parseUuid,
  streamIdentity,
  sumBytes,
  type Archive,
  type Identity,
  type Inventory,
  type Lineage,
  type Proof,
} from "../plan/model.ts";
import { peekLineage, type StreamLineage } from "../stream/send-stream.ts";
import { keysOf } from "../plan/standing.ts";
import type { Container, KnownObject, LocalSnapshots, ObjectDetails, StoredObject } from "./ports.ts";
import { readManifest } from "./archive-body.ts";
import { readProof } from "./proof.ts";
import { decodeHead, type DecodedHead, type Reading } from "./read-archive.ts";
import { recogniseLayer } from "./decode.ts";

/** A name of 255 bytes is the longest that stands before the identities in a send stream; they end within this. */
const PEEK_BYTES = 512;

/**
 * Enough of an encoded archive: the header that age writes, and complete blocks of zstd (at most 128 KiB) and of age
 * (64 KiB). Neither program gives anything out before it has a complete block.
 */
const ENCODED_PEEK_BYTES = 256 * 1024;

/** Requests in flight while archives are examined: answers are small and latency is all they cost. */
const EXAMINERS = 16;

/** Where to look for archives, and the facts that are known beside. */
export interface Looking extends Reading {
  readonly proofs?: readonly Proof[];
  /** True: the catalogue is enough for the snapshots' own archives too, because nothing is built on them. */
  readonly relies?: boolean;
}

/** The snapshots of a source, and what stands under their keys: whether a listing names it or not, each is asked for. */
export async function takeInventory(local: LocalSnapshots, looking: Looking, signal: AbortSignal): Promise<Inventory> {
  const { source, snapshots } = local;
  const objects = await looking.container.list(keyPrefix(source.uuid), signal);
  const keys = new Set<string>(keysOf(source.uuid, snapshots));
  const listed = new Map(objects.map((object) => [object.key, object]));
  const archives = await mapConcurrently([...keys], EXAMINERS, async (key) => {
    const object = listed.get(key);
    if (object === undefined) return await readArchive(key, looking, signal);
    const look = looking.relies === true ? recallArchive : askArchive;
    return await orUnreadable(object, () => look(object, looking, signal));
  });
  const archived = new Set(objects.flatMap(({ key }) => parseKey(key)?.key ?? []));
  const volumes = objects.flatMap(({ key }) => (archiveKeyOf(key) === null ? [] : key));
  const examined = [...archived].every((key) => keys.has(key)) ? "source" : "snapshots";
  const there = archives.flatMap((archive) => archive ?? []);
  return { ...local, archived, archives: there, others: [], examined, volumes, proofs: looking.proofs ?? [] };
}

/**
 * The inventory with all archives of its source, or of the entire container: after a restore, chains begin with
 * others'.
 */
export async function examine(
  inventory: Inventory,
  extent: "source" | "container",
  looking: Looking,
  signal: AbortSignal,
): Promise<Inventory> {
  const { source, snapshots, examined } = inventory;
  if (extent === "source" || examined === "snapshots") {
    const asked = new Set<string>(keysOf(source.uuid, snapshots));
    const archives = await readArchives(keyPrefix(source.uuid), looking, signal, (key) => !asked.has(key));
    const ofSource: Inventory = { ...inventory, archives: [...inventory.archives, ...archives], examined: "source" };
    return extent === "source" ? ofSource : await examine(ofSource, extent, looking, signal);
  }
  const others = await readArchives("", looking, signal, (key) => parseKey(key)?.source !== source.uuid);
  return { ...inventory, others, examined: "container" };
}

/**
 * The inventory without what the store has lost of the archives that the snapshots' own build on: those are known from the
 * catalogue, by which a listing that still names them is believed.
 */
export async function confirmAncestors(
  inventory: Inventory,
  looking: Looking,
  signal: AbortSignal,
): Promise<Inventory> {
  const { source, snapshots, origin, archives, others } = inventory;
  if (looking.catalogue == null) return inventory;
  const asked = new Set<string>(keysOf(source.uuid, snapshots));
  const here = new Set(snapshots.map((snapshot) => identityText(streamIdentity(snapshot))));
  if (origin !== null) here.add(identityText(originOf(origin)));
  const all = [...others, ...archives];
  const own = all.filter(
    ({ key, lineage }) => asked.has(key) || (lineage !== null && here.has(identityText(lineage.snapshot))),
  );
  const recalled = [...withAncestors(own, indexArchives(all))].filter(({ key }) => !asked.has(key));
  const lost = new Set<Archive>();
  await forEachConcurrently(recalled, EXAMINERS, async (archive) => {
    if ((await looking.container.head(archive.key, signal)) !== null) return;
    looking.catalogue?.forget(archive.key);
    lost.add(archive);
  });
  if (lost.size === 0) return inventory;
  const isThere = (archive: Archive): boolean => !lost.has(archive);
  return { ...inventory, archives: archives.filter(isThere), others: others.filter(isThere) };
}

/** Every archive under a prefix, examined, in the order of their keys. @param wanted - by default all of them */
export async function readArchives(
  prefix: string,
  reading: Reading,
  signal: AbortSignal,
  wanted: (key: string) => boolean = () => true,
): Promise<Archive[]> {
  const objects = await reading.container.list(prefix, signal);
  reading.catalogue?.retain(prefix, objects);
  const named = objects.filter(({ key }) => parseKey(key) !== null && wanted(key));
  const archives = await mapConcurrently(named, EXAMINERS, (object) =>
    orUnreadable(object, () => recallArchive(object, reading, signal)),
  );
  return archives.flatMap((archive) => archive ?? []);
}

/** Turns an archive that the store does not give out into one with a failure, so that it does not hide the others. */
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

/** The same, asked of the object itself; its first bytes are not read again when it is the one that is known. */
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
  if (bare?.lineage != null) catalogue?.note(listed, { details, peeked: null });
  // Asked again each time: archives that could not be recognised, and copies, which need more than their first bytes.
  else if (
    encoding !== null &&
    (lineage !== null || isSilent(archive)) &&
    archive.volumes === bare?.volumes &&
    archive.otime === bare.otime
  ) {
    catalogue?.note(listed, { details, peeked: { encoding, lineage } });
  }
  return archive;
}

function toArchive({ details, peeked }: KnownObject): Archive | null {
  const archive = parseArchive(details);
  return archive === null || peeked === null ? archive : { ...archive, ...peeked };
}

/** True when identities are at hand, that may open what nobody could look into before. */
function saysLessThan(archive: Archive, { identities }: Reading): boolean {
  return archive.lineage === null && identities.length > 0;
}

/** As {@link readArchive}, of an object that was looked up already. */
export async function examineObject(
  object: ObjectDetails,
  container: Container,
  signal: AbortSignal,
  identities: readonly string[],
): Promise<Archive | null> {
  const { key } = object;
  const archive = parseArchive(object);
  if (archive === null || archive.lineage !== null || archive.bytes === 0) return archive;
  const head = await container.peek(key, PEEK_BYTES, signal);
  const layer = recogniseLayer(head);
  const lineage = recogniseLineage(head);
  if (lineage !== null) {
    return { ...archive, ...(await readProven(object, container, signal)), encoding: "identity", lineage };
  }
  const listed = layer === null ? await recogniseManifest(archive, { object, head }, container, signal) : null;
  if (layer === null && listed === null) return archive;
  const recognised = { ...archive, ...listed, ...(layer === null ? {} : { encoding: layer }) };
  const proven = await readProven(object, container, signal);
  if (identities.length === 0 && (layer === "age" || isEncrypted(proven?.encoding ?? null)))
    return proven ?? recognised;
  const inside = await decodeBeginning(recognised, { container, identities }, signal);
  return {
    ...recognised,
    ...proven,
    encoding: inside.encoding,
    lineage: recogniseLineage(inside.bytes) ?? proven?.lineage ?? null,
  };
}

/** Reads the metadata that a copy of an archive has lost; null when nothing gives it. */
async function readProven(object: ObjectDetails, container: Container, signal: AbortSignal): Promise<Archive | null> {
  const proof = parseKey(object.key) === null ? null : await readProof(object, container, signal);
  const archive = proof === null ? null : parseArchive({ ...object, metadata: proof.metadata });
  return archive?.lineage === null ? null : archive;
}

/** Reads the manifest of a copy that has lost its metadata; null when it is no manifest. */
async function recogniseManifest(
  archive: Archive,
  { object, head }: { readonly object: ObjectDetails; readonly head: Buffer },
  container: Container,
  signal: AbortSignal,
): Promise<Pick<Archive, "volumes" | "bytes" | "partBytes"> | null> {
  if (!head.subarray(0, 1).equals(Buffer.from("{"))) return null;
  try {
    const volumes = await readManifest(archive, object, container, signal);
    return { volumes: volumes.length, bytes: sumBytes(volumes), partBytes: volumes[0].partBytes };
  } catch (error) {
    if (error instanceof BackupError && error.code === "ARCHIVE_DAMAGED") return null;
    throw error;
  }
}

/** Identifies the stream in an archive by the first bytes of that stream; null when they do not say. */
export async function peekArchive(
  archive: Archive,
  reading: Reading,
  signal: AbortSignal,
): Promise<{ readonly lineage: Lineage | null; readonly isRefused: boolean }> {
  const { bytes, isRefused } = await decodeBeginning(archive, reading, signal);
  return { lineage: recogniseLineage(bytes), isRefused };
}

async function decodeBeginning(
  archive: Archive,
  { container, identities }: Reading,
  signal: AbortSignal,
): Promise<DecodedHead> {
  const key = archive.volumes === null ? archive.key : formatVolumeKey(archive.key, 1);
  const thought = archive.encoding === "identity" ? PEEK_BYTES : ENCODED_PEEK_BYTES;
  let head = await container.peek(key, thought, signal);
  if (thought === PEEK_BYTES && recogniseLayer(head) !== null)
    head = await container.peek(key, ENCODED_PEEK_BYTES, signal);
  return await decodeHead(head, archive, identities, signal);
}

function recogniseLineage(head: Buffer): Lineage | null {
  return toLineage(peekLineage(head));
}

/** The lineage that a stream states; null when it cannot be right. */
export function toLineage(first: StreamLineage | null): Lineage | null {
  if (first === null) return null;
  const snapshot = toIdentity(first);
  if (snapshot === null) return null;
  return { snapshot, sendParent: first.sendParent === null ? null : toIdentity(first.sendParent) };
}

function toIdentity(raw: { readonly uuid: string; readonly ctransid: number }): Identity | null {
  const uuid = parseUuid(raw.uuid);
  return uuid === null ? null : { uuid, ctransid: raw.ctransid };
}

/**
 * The results of `work` for each item, in their order. It runs for so many at a time; the first failure is the outcome.
 */
export async function mapConcurrently<Item, Result>(
  items: readonly Item[],
  concurrency: number,
  work: (item: Item) => Promise<Result>,
): Promise<Result[]> {
  const results: { readonly index: number; readonly result: Result }[] = [];
  await forEachConcurrently([...items.entries()], concurrency, async ([index, item]) => {
    results.push({ index, result: await work(item) });
  });
  return results.sort((a, b) => a.index - b.index).map(({ result }) => result);
}

/** Runs `work` for every item, so many at a time; the first failure is the outcome. */
export async function forEachConcurrently<Item>(
  items: readonly Item[],
  concurrency: number,
  work: (item: Item) => Promise<void>,
): Promise<void> {
  const queue = items.values();
  const worker = async (): Promise<void> => {
    for (const item of queue) await work(item);
  };
  await Promise.all(Array.from({ length: Math.min(concurrency, items.length) }, worker));
}
