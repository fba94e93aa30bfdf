// Recognises the archive that an object holds: by its metadata, its proof, or its first bytes.

import { BackupError } from "../errors.ts";
import { isEncrypted } from "../plan/encoding.ts";
import { parseArchive, parseKey } from "../plan/key.ts";
import { firstVolumeIn, MANIFEST_HEAD_BYTES } from "../plan/manifest.ts";
import { parseUuid, sumBytes, type Archive, type Identity, type Lineage } from "../plan/model.ts";
import { peekLineage, type StreamLineage } from "../stream/stream-facts.ts";
import { readManifest } from "./archive-body.ts";
import { recogniseLayer } from "./decode.ts";
import { readProof } from "./proof.ts";
import { decodeHead, type DecodedHead, type Reading } from "./read-archive.ts";
import type { Container, KnownObject, ObjectDetails } from "./store-ports.ts";

/** A name of 255 bytes is the longest that stands before the identities in a send stream; they end within this. */
const PEEK_BYTES = 512;

/**
 * Enough of an encoded archive: the header that age writes, and complete blocks of zstd (at most 128 KiB) and of age
 * (64 KiB). Neither program writes anything before it has a complete block.
 */
const ENCODED_PEEK_BYTES = 256 * 1024;

export function toArchive({ details, peeked }: KnownObject): Archive | null {
  const archive = parseArchive(details);
  return archive === null || peeked === null ? archive : { ...archive, ...peeked };
}

/** As {@link readArchive}, for an object that was already looked up. */
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

/** Identifies the stream in an archive by the first bytes of that stream; null when they do not show it. */
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
  const key =
    archive.volumes === null
      ? archive.key
      : firstVolumeIn((await container.peek(archive.key, MANIFEST_HEAD_BYTES, signal)).toString(), archive.key);
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
