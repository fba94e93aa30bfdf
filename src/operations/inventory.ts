// What is on this machine and what is in the container, joined. Listings lag behind and say little, so whatever a
// decision rests on is asked of the object itself.

import { BackupError } from "../errors.ts";
import { isEncrypted } from "../plan/encoding.ts";
import { parseArchive, keyPrefix, parseKey } from "../plan/key.ts";
import { archiveKeyOf, formatVolumeKey } from "../plan/manifest.ts";
import {
  originOf,
  parseUuid,
  sameIdentity,
  type Archive,
  type Identity,
  type Inventory,
  type Key,
  type Lineage,
  type Unexamined,
} from "../plan/model.ts";
import { peekLineage, type StreamLineage } from "../stream/check.ts";
import type { Container, LocalSnapshots, ObjectDetails, StoredObject } from "./edges.ts";
import { readManifest } from "./body.ts";
import { readProof } from "./proof.ts";
import { decodeHead, type DecodedHead, type Reading } from "./reading.ts";
import { recogniseLayer } from "./decode.ts";

/** A name of 255 bytes is the longest that stands before the identities in a send stream; they end within this. */
const PEEK_BYTES = 512;

/**
 * Of one that is encoded: the header that age writes, and whole blocks of zstd (128 KiB at the most) and of age (64 KiB),
 * before which neither gives anything out.
 */
const ENCODED_PEEK_BYTES = 256 * 1024;

/** Requests in flight while archives are examined: answers are small and latency is all they cost. */
const EXAMINERS = 16;

/** The snapshots of a source and the names of its archives, none of them examined yet. */
export async function takeInventory(
  local: LocalSnapshots,
  container: Container,
  signal: AbortSignal,
): Promise<Inventory> {
  const objects = await container.list(keyPrefix(local.source.uuid), signal);
  const volumes = objects.flatMap(({ key }) => (archiveKeyOf(key) === null ? [] : key));
  const origin = local.origin === null ? null : { snapshot: local.origin, archive: null };
  return { ...local, archived: new Map(objects.flatMap(toUnexamined)), volumes, origin };
}

function toUnexamined(object: StoredObject): [Key, Unexamined][] {
  const name = parseKey(object.key);
  if (name === null) return [];
  const modified = BigInt(object.modified.getTime()) * 1_000_000n;
  return [[name.key, { bytes: object.bytes, modified }]];
}

/** The inventory with some of its archives examined; one that is gone since the listing is left out. */
export async function examine(
  inventory: Inventory,
  keys: readonly Key[],
  container: Container,
  signal: AbortSignal,
): Promise<Inventory> {
  const archived = new Map(inventory.archived);
  await forEachConcurrently(keys, EXAMINERS, async (key) => {
    const archive = await readArchive(key, container, signal);
    if (archive === null) archived.delete(key);
    else archived.set(key, archive);
  });
  return { ...inventory, archived };
}

/**
 * The inventory with the archive of its origin, which can be anywhere in the container: after a restore, it is of another
 * subvolume. When there is none, neither is the origin.
 */
export async function findOrigin(inventory: Inventory, container: Container, signal: AbortSignal): Promise<Inventory> {
  const { origin } = inventory;
  if (origin === null) return inventory;
  const identity = originOf(origin.snapshot);
  const archives = await readArchives("", container, signal);
  const archive = archives.find(({ lineage }) => lineage !== null && sameIdentity(lineage.snapshot, identity));
  return { ...inventory, origin: archive === undefined ? null : { ...origin, archive } };
}

/**
 * Every archive under a prefix, examined, in the order of their keys.
 * @param identities - files with age identities, for archives that say nothing unless they are decrypted
 */
export async function readArchives(
  prefix: string,
  container: Container,
  signal: AbortSignal,
  identities: readonly string[] = [],
): Promise<Archive[]> {
  const objects = await container.list(prefix, signal);
  const found = new Map<string, Archive>();
  await forEachConcurrently(objects, EXAMINERS, async ({ key }) => {
    const archive = parseKey(key) === null ? null : await readArchive(key, container, signal, identities);
    if (archive !== null) found.set(key, archive);
  });
  return objects.flatMap(({ key }) => found.get(key) ?? []);
}

/**
 * The archive under a key, by its metadata, or where that says nothing by the first bytes of its stream. Null when
 * there is no object or the key is no archive's.
 */
export async function readArchive(
  key: string,
  container: Container,
  signal: AbortSignal,
  identities: readonly string[] = [],
): Promise<Archive | null> {
  const object = await container.head(key, signal);
  return object === null ? null : await examineObject(object, container, signal, identities);
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
  if (lineage !== null) return { ...archive, encoding: "identity", lineage };
  const listed = layer === null ? await recogniseManifest(archive, { object, head }, container, signal) : null;
  if (layer === null && listed === null) return archive;
  const recognised = { ...archive, ...listed, ...(layer === null ? {} : { encoding: layer }) };
  const proven = await readProven(object, container, signal);
  if (identities.length === 0 && (layer === "age" || isEncrypted(proven?.encoding ?? null))) return proven ?? recognised;
  const inside = await decodeBeginning(recognised, { container, identities }, signal);
  return { ...recognised, ...proven, encoding: inside.encoding, lineage: recogniseLineage(inside.bytes) ?? proven?.lineage ?? null };
}

/** What the metadata of an archive was that a copy has lost; null when nothing tells. */
async function readProven(object: ObjectDetails, container: Container, signal: AbortSignal): Promise<Archive | null> {
  const name = parseKey(object.key);
  const proof = name === null ? null : await readProof(name.key, container, signal);
  const archive = proof === null ? null : parseArchive({ ...object, metadata: proof.metadata });
  return archive?.lineage === null ? null : archive;
}

/** What a list of volumes says whose metadata a copy has lost; null when it is none. */
async function recogniseManifest(
  archive: Archive,
  { object, head }: { readonly object: ObjectDetails; readonly head: Buffer },
  container: Container,
  signal: AbortSignal,
): Promise<Pick<Archive, "volumes" | "bytes" | "partBytes"> | null> {
  if (!head.subarray(0, 1).equals(Buffer.from("{"))) return null;
  try {
    const [first, ...rest] = await readManifest(archive, object, container, signal);
    const bytes = rest.reduce((sum, volume) => sum + volume.bytes, first.bytes);
    return { volumes: rest.length + 1, bytes, partBytes: first.partBytes };
  } catch (error) {
    if (error instanceof BackupError && error.code === "ARCHIVE_DAMAGED") return null;
    throw error;
  }
}

/** Whose stream an archive holds, by the first bytes of that stream; null when they do not tell. */
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
  if (thought === PEEK_BYTES && recogniseLayer(head) !== null) head = await container.peek(key, ENCODED_PEEK_BYTES, signal);
  return await decodeHead(head, archive, identities, signal);
}

function recogniseLineage(head: Buffer): Lineage | null {
  return toLineage(peekLineage(head));
}

/** What a stream says of itself; null when that cannot be. */
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
