// One stream into the container, as one object or as volumes with the manifest last; gone on with where an earlier run
// was stopped, and begun anew where what it left is not the beginning of what is sent now. Encoded in between: each object
// for itself, so that common tools read any of them, and that an encrypted volume that is stored whole is not sent again.

import { Readable } from "node:stream";
import { finished } from "node:stream/promises";
import { isEncrypted } from "../plan/encoding.ts";
import { formatMetadata, type UploadFacts } from "../plan/key.ts";
import type { Layout } from "../plan/layout.ts";
import { formatManifest, formatVolumeKey, type Volume } from "../plan/manifest.ts";
import type { UploadStep } from "../plan/model.ts";
import type { Checkpoints } from "../stream/checkpoints.ts";
import { digestOf } from "../stream/observe.ts";
import { slices } from "../stream/slices.ts";
import { spool } from "../stream/spool.ts";
import { BackupError } from "../errors.ts";
import { refuseMissing } from "./body.ts";
import type { Container, ObjectDetails, OpenUpload, PutOptions, Stored } from "./edges.ts";
import { encoded, type Encoder } from "./encode.ts";

/** What is to be stored, and how. */
export interface Storing {
  readonly step: UploadStep;
  readonly layout: Layout;
  readonly encoder: Encoder;
  /** Of this archive. */
  readonly checkpoints: Checkpoints;
  /** Where to keep each object on disk before it is sent; null = nowhere. */
  readonly spoolDirectory: string | null;
  readonly facts: Pick<UploadFacts, "sendProto" | "tool">;
  /** Uploads of this archive that can be gone on with; null = forget what an earlier run has left. */
  readonly resume: readonly OpenUpload[] | null;
  /** Called with the bytes that are stored so far, those of earlier runs included. */
  readonly onProgress: (bytes: number, resumedBytes: number) => void;
}

/**
 * Stores the whole stream, or nothing that looks like an archive.
 * @throws RESUME_REFUSED, STREAM_TOO_LONG, what `Container.put` throws, and whatever the body is destroyed with
 */
export async function storeArchive(
  plain: Readable,
  storing: Storing,
  container: Container,
  signal: AbortSignal,
): Promise<Stored> {
  const { step, layout, onProgress } = storing;
  if (layout.volumeBytes !== null) return await storeVolumes(plain, storing, container, signal);
  const metadata = metadataOf(storing, null);
  const options = await putOptions(step.key, { storing, metadata, onProgress }, container, signal);
  const stored = await container.put(step.key, await bodyOf(plain, storing, signal), options, signal);
  await forgetVolumes(storing, container, signal);
  return stored;
}

/** What a run has left that wanted several objects: nobody would see it beside a whole archive. Not worth a failure. */
async function forgetVolumes({ step, checkpoints }: Storing, container: Container, signal: AbortSignal): Promise<void> {
  await removeVolumes(step, [], container, signal).catch(() => undefined);
  await checkpoints.forget();
}

async function storeVolumes(plain: Readable, storing: Storing, container: Container, signal: AbortSignal): Promise<Stored> {
  const { step, layout, resume, onProgress, checkpoints } = storing;
  // A listing may not show it yet, and its volumes are no leftovers.
  if ((await container.head(step.key, signal)) !== null) throw alreadyArchived(step);
  if (resume === null) await removeVolumes(step, [], container, signal);
  const volumes: Volume[] = [];
  const total = { bytes: 0, parts: 0, resumedBytes: 0 };
  for await (const slice of slices(plain, layout.volumeBytes ?? Infinity)) {
    const key = formatVolumeKey(step.key, volumes.length + 1);
    const onVolumeProgress = (bytes: number, resumed: number): void => onProgress(total.bytes + bytes, total.resumedBytes + resumed);
    const ofVolume = { ...storing, onProgress: onVolumeProgress };
    const { volume, stored } = await storeVolume(slice, key, { storing: ofVolume, container }, signal);
    volumes.push(volume);
    total.bytes += stored.bytes;
    total.parts += stored.parts;
    total.resumedBytes += stored.resumedBytes;
    onProgress(total.bytes, total.resumedBytes);
  }
  const [first, ...rest] = volumes;
  if (first === undefined) throw new BackupError("INTERNAL", `there is nothing to store under '${step.key}'`);
  await removeVolumes(step, volumes, container, signal);
  // It may have taken days, and others may have cleared up meanwhile, on another machine too.
  await refuseMissing(volumes, step.key, container, signal);
  const manifest = Readable.from([Buffer.from(formatManifest([first, ...rest]))], { objectMode: false });
  const metadata = metadataOf(storing, { count: volumes.length, bytes: total.bytes });
  const { etag } = await container.put(step.key, manifest, { ...layout, metadata }, signal);
  await checkpoints.forget();
  return { ...total, etag };
}

interface StoredVolume {
  readonly volume: Volume;
  readonly stored: Stored;
}

interface VolumeContext {
  readonly storing: Storing;
  readonly container: Container;
}

async function storeVolume(
  slice: Readable,
  key: string,
  context: VolumeContext,
  signal: AbortSignal,
): Promise<StoredVolume> {
  const { storing, container } = context;
  const existing = await container.head(key, signal);
  if (existing === null) return await putVolume(slice, key, context, signal);
  const found = isEncryptedBy(storing)
    ? await recallVolume(slice, existing, storing)
    : await compareVolume(encoded(slice, storing.encoder, signal), existing, { partBytes: storing.layout.partBytes, container });
  if (found === null) throw new BackupError("RESUME_REFUSED", `the volume ${key} is not what it would be now`, { context: { key } });
  const { bytes, etag } = existing;
  const stored = { bytes, etag, parts: Math.ceil(bytes / found.partBytes), resumedBytes: bytes };
  return { volume: { key, ...found, bytes, etag }, stored };
}

async function putVolume(
  slice: Readable,
  key: string,
  { storing, container }: VolumeContext,
  signal: AbortSignal,
): Promise<StoredVolume> {
  const { layout, onProgress, checkpoints } = storing;
  const plainDigest = isEncryptedBy(storing) ? digestOf(slice) : null;
  const options = await putOptions(key, { storing, metadata: {}, onProgress }, container, signal);
  const body = await bodyOf(slice, storing, signal);
  const digest = digestOf(body);
  const stored = await container.put(key, body, options, signal);
  const volume = { key, partBytes: layout.partBytes, ...digest(), bytes: stored.bytes, etag: stored.etag };
  if (plainDigest !== null) {
    await checkpoints.note({ ...volume, plainSha256: plainDigest().sha256, encodedFor: encodedFor(storing) });
  }
  return { volume, stored };
}

/** What the manifest has to say of a stored volume beside what the store says. */
type Kept = Pick<Volume, "sha256" | "partBytes">;

/** Of a stored volume when it is what a body would make it now; else null. */
async function compareVolume(
  body: Readable,
  existing: ObjectDetails,
  { partBytes, container }: { readonly partBytes: number; readonly container: Container },
): Promise<Kept | null> {
  const digest = digestOf(body);
  return (await container.matches(existing, partBytes, body)) ? { sha256: digest().sha256, partBytes } : null;
}

/** Of a stored volume when it was made of this slice, and for whom it would be made now; else null. */
async function recallVolume(slice: Readable, existing: ObjectDetails, storing: Storing): Promise<Kept | null> {
  const noted = storing.checkpoints.find(existing.key);
  const isNoted = noted?.etag === existing.etag && noted.bytes === existing.bytes && noted.encodedFor === encodedFor(storing);
  const digest = digestOf(slice);
  if (isNoted) await finished(slice.resume());
  else slice.destroy();
  return isNoted && digest().sha256 === noted.plainSha256 ? { sha256: noted.sha256, partBytes: noted.partBytes } : null;
}

function encodedFor({ encoder }: Storing): string {
  return `${encoder.cost.encoding} ${encoder.fingerprint ?? ""}`;
}

function isEncryptedBy({ encoder }: Storing): boolean {
  return isEncrypted(encoder.cost.encoding);
}

async function bodyOf(plain: Readable, { encoder, spoolDirectory }: Storing, signal: AbortSignal): Promise<Readable> {
  const body = encoded(plain, encoder, signal);
  return spoolDirectory === null ? body : await spool(body, spoolDirectory);
}

/** Deletes what is stored of volumes, but those named. */
async function removeVolumes(
  { key }: UploadStep,
  but: readonly Volume[],
  container: Container,
  signal: AbortSignal,
): Promise<void> {
  const kept = new Set(but.map((volume) => volume.key));
  for (const object of await container.list(`${key}/`, signal)) {
    if (!kept.has(object.key)) await container.delete(object.key, signal);
  }
}

function alreadyArchived({ key }: UploadStep): BackupError {
  return new BackupError("ALREADY_ARCHIVED", `'${key}' is already in the container`, { context: { key } });
}

function metadataOf({ step, layout, facts, encoder }: Storing, volumes: UploadFacts["volumes"]): Record<string, string> {
  return formatMetadata(step, { ...facts, encoding: encoder.cost.encoding, partBytes: layout.partBytes, volumes });
}

/** Parts of what was encrypted before are no parts of what is encrypted now: uploads of it are given up. */
async function putOptions(
  key: string,
  { storing, metadata, onProgress }: Pick<PutOptions, "metadata" | "onProgress"> & { readonly storing: Storing },
  container: Container,
  signal: AbortSignal,
): Promise<PutOptions> {
  const { partBytes, concurrency, partsInMemory } = storing.layout;
  const uploads = storing.resume?.filter((upload) => upload.key === key);
  const options = { partBytes, concurrency, partsInMemory, metadata, onProgress };
  if (!isEncryptedBy(storing)) return { ...options, resume: uploads };
  for (const upload of uploads ?? []) await container.abort(upload, signal);
  return options;
}
