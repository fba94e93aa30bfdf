// The body of an archive: one object, or the volumes that its manifest lists. Everything that reads an archive reads it
// through here, so that all bytes are compared with those that were stored.

import { BackupError } from "../errors.ts";
import { MAX_MANIFEST_BYTES, parseManifest, type Manifest, type Volume } from "../plan/manifest.ts";
import type { Archive } from "../plan/model.ts";
import { through, type Pieces } from "../stream/pieces.ts";
import { withDigest } from "../stream/tap.ts";
import { readProof } from "./proof.ts";
import type { Container, ObjectDetails } from "./store-ports.ts";

/** The one object of an archive; or its volumes, each of which must be read to its end before the next one is asked for. */
export type ArchiveObjects = readonly [Pieces] | AsyncIterable<Pieces>;

/**
 * The bytes of an archive as they were sent, object by object. The last ones of each are withheld until sizes, ETags and,
 * for volumes, SHA-256 have been found right; otherwise it fails with ARCHIVE_DAMAGED.
 * @throws ARCHIVE_MISSING, ARCHIVE_DAMAGED, STORE_UNAVAILABLE
 */
export async function openObjects(
  archive: Archive,
  container: Container,
  signal: AbortSignal,
): Promise<ArchiveObjects> {
  const object = await container.head(archive.key, signal);
  if (object === null) throw missing(archive);
  if (archive.volumes === null) {
    const digests = await readProof(object, container, signal);
    return [container.get({ ...object, digests }, archive.partBytes, signal)];
  }
  const manifest = await readManifest(archive, object, container, signal);
  return readVolumes(archive, manifest, container, signal);
}

/** True for the one object of an archive without volumes. */
export function isOne(objects: ArchiveObjects): objects is readonly [Pieces] {
  return Array.isArray(objects);
}

/** All of its bytes. */
export async function* concatenated(objects: ArchiveObjects): AsyncGenerator<Buffer> {
  for await (const object of objects) yield* object;
}

/**
 * Checks that all parts of an archive exist, without reading them. True when volumes were copied: they have the right
 * sizes, and their ETags are those of other uploads.
 * @throws ARCHIVE_MISSING, ARCHIVE_DAMAGED
 */
export async function assertComplete(archive: Archive, container: Container, signal: AbortSignal): Promise<boolean> {
  if (archive.volumes === null) return false;
  const object = await container.head(archive.key, signal);
  if (object === null) throw missing(archive);
  let copied = false;
  for (const volume of await readManifest(archive, object, container, signal)) {
    const stored = await container.head(volume.key, signal);
    if (!hasSize(stored, volume)) throw damaged(`the volume ${volume.key}`, archive.key);
    copied ||= stored.etag !== volume.etag;
  }
  return copied;
}

/** Checks that volumes are still the objects that were stored. @throws ARCHIVE_DAMAGED */
export async function assertPresent(
  volumes: readonly Volume[],
  archiveKey: string,
  container: Container,
  signal: AbortSignal,
): Promise<void> {
  for (const volume of volumes) {
    const found = await container.head(volume.key, signal);
    if (!hasSize(found, volume) || found.etag !== volume.etag) throw damaged(`the volume ${volume.key}`, archiveKey);
  }
}

/** The volumes of an archive that needs several. @throws ARCHIVE_DAMAGED when it is no list of them */
export async function readManifest(
  { key, volumes }: Archive,
  object: ObjectDetails,
  container: Container,
  signal: AbortSignal,
): Promise<Manifest> {
  if (object.bytes > MAX_MANIFEST_BYTES) throw damaged(`the list of volumes of ${key}`, key);
  const chunks: Buffer[] = [];
  for await (const piece of container.get(object, null, signal)) chunks.push(Buffer.from(piece));
  const manifest = parseManifest(Buffer.concat(chunks).toString(), key);
  // A copy may have lost the metadata with their number.
  if (volumes !== null && manifest.length !== volumes) throw damaged(`the list of volumes of ${key}`, key);
  return manifest;
}

async function* readVolumes(
  { key }: Archive,
  manifest: Manifest,
  container: Container,
  signal: AbortSignal,
): AsyncGenerator<Pieces> {
  for (const volume of manifest) {
    const object = await container.head(volume.key, signal);
    if (!hasSize(object, volume)) throw damaged(`the volume ${volume.key}`, key);
    // The ETag of a copy may be another one; its SHA-256 is not.
    const digests = object.etag === volume.etag ? null : "by the reader";
    const stored = container.get({ ...object, digests }, volume.partBytes, signal);
    yield through(stored, (pieces) =>
      withDigest(pieces, volume.sha256, () => damaged(`the volume ${volume.key}`, key)),
    );
  }
}

/** Its content is compared when it is read. */
function hasSize(object: ObjectDetails | null, { bytes }: Volume): object is ObjectDetails {
  return object !== null && object.bytes === bytes;
}

function missing({ key }: Archive): BackupError {
  return new BackupError("ARCHIVE_MISSING", `the archive ${key} is gone`, { context: { key } });
}

function damaged(what: string, key: string): BackupError {
  return new BackupError("ARCHIVE_DAMAGED", `${what} is missing or not what was stored`, { context: { key } });
}
