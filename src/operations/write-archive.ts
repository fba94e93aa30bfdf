// Stores one stream in the container, as one object or as volumes with the manifest last. It resumes what an earlier
// run left, and starts anew where that is not the beginning of the stream of this run. It encodes each object for
// itself, so that common tools read any of them, and so that an encrypted volume that is completely stored is not sent
// again.
//
// Volumes have the same keys in every run, on every machine with this subvolume. So a volume is deleted only to be
// replaced, or when no volume has its number any more; and only after a HEAD has shown that no archive that
// could need it is under the archive's key.

import { Readable } from "node:stream";
import { finished } from "node:stream/promises";
import { isEncrypted } from "../plan/encoding.ts";
import { formatMetadata, type UploadFacts } from "../plan/key.ts";
import type { Layout } from "../plan/layout.ts";
import {
  archiveKeyOf,
  formatManifest,
  formatVolumeKey,
  mostVolumes,
  tooManyVolumes,
  type Volume,
} from "../plan/manifest.ts";
import type { UploadStep } from "../plan/model.ts";
import { MAKE_ROOM } from "../plan/quota.ts";
import type { Checkpoint, Checkpoints } from "../state/checkpoints.ts";
import { digestOf, observe } from "../stream/tap.ts";
import { slices } from "../stream/split.ts";
import { spool } from "../stream/spool.ts";
import { BackupError, alreadyArchived, nothingToStore } from "../errors.ts";
import { assertPresent } from "./archive-body.ts";
import type { Container, ObjectDetails, OpenParts, PutOptions, Stored, UploadProgress } from "./ports.ts";
import { encoded, type Encoder } from "./encode.ts";
import { forgetProof, storeProof } from "./proof.ts";

/** The stream to store, and how to store it. */
export interface Storing {
  readonly step: UploadStep;
  readonly layout: Layout;
  readonly encoder: Encoder;
  /** The checkpoints of this archive. */
  readonly checkpoints: Checkpoints;
  /** Where to keep each object on disk before it is sent; null = nowhere. */
  readonly spoolDirectory: string | null;
  readonly facts: Pick<UploadFacts, "sendProto" | "tool">;
  /** Volumes up to this number are resumed if an earlier run has left them; 0 = nothing is, not an open upload either. */
  readonly trusted: number;
  /** Of the open uploads under the archive's own key; null = none. */
  readonly openParts: OpenParts | null;
  /** Called with how many bytes more were made of the stream. */
  readonly onEncoded: (bytes: number) => void;
  /** Called with the bytes stored so far, those of earlier runs included. */
  readonly onProgress: (progress: UploadProgress) => void;
}

/**
 * Stores the complete stream, or nothing that looks like an archive.
 * @throws RESUME_REFUSED, STREAM_TOO_LONG, errors of `Container.put`, and any error that the body is destroyed with
 */
export async function storeArchive(
  plain: Readable,
  storing: Storing,
  container: Container,
  signal: AbortSignal,
): Promise<Stored> {
  const { step, layout, onProgress } = storing;
  await forgetProof(step.key, container, signal);
  if (layout.volumeBytes !== null) return await storeVolumes(plain, storing, container, signal);
  const metadata = metadataOf(storing, null);
  const options = putOptions({ storing, metadata, onProgress });
  const resume = options.resume === true && storing.openParts !== null;
  const body = await bodyOf(plain, storing, signal);
  const stored = await container.put(step.key, body, { ...options, resume }, signal);
  await forgetVolumes(stored, storing, container, signal);
  await storeProof({ key: step.key, layout, metadata, stored }, container, signal);
  return stored;
}

/**
 * Deletes the volumes of an earlier run that needed several objects: nobody would see them beside a complete archive.
 * Not worth a failure.
 */
async function forgetVolumes(
  { etag }: Stored,
  { step, checkpoints }: Storing,
  container: Container,
  signal: AbortSignal,
): Promise<void> {
  // Nothing else can be committed under a key that is taken, so nobody will need them.
  const isOurs = async (): Promise<boolean> => (await container.head(step.key, signal))?.etag === etag;
  await removeVolumes(step, { but: [], when: isOurs }, container, signal).catch(() => undefined);
  await checkpoints.forget();
}

async function storeVolumes(
  plain: Readable,
  storing: Storing,
  container: Container,
  signal: AbortSignal,
): Promise<Stored> {
  const volumes: Volume[] = [];
  try {
    return await storeEachVolume(plain, { storing, volumes }, container, signal);
  } catch (error) {
    throw withFate(error, volumes.length);
  }
}

/** Adds how much of an archive stays when the store has no room: the original message is about one of its objects. */
function withFate(error: unknown, volumes: number): unknown {
  if (!(error instanceof BackupError) || error.code !== "QUOTA_EXCEEDED" || volumes === 0) return error;
  const stay = volumes === 1 ? "1 volume of it stays" : `${volumes} volumes of it stay`;
  const left = `${stay} in the store, and the next run resumes it`;
  const { code, message, context, cause } = error;
  return new BackupError(code, message, { hint: `${MAKE_ROOM}; ${left}`, context, cause });
}

/** @param volumes - to which each is added that is stored */
async function storeEachVolume(
  plain: Readable,
  { storing, volumes }: { readonly storing: Storing; readonly volumes: Volume[] },
  container: Container,
  signal: AbortSignal,
): Promise<Stored> {
  const { step, layout, onProgress, checkpoints } = storing;
  await assertNotArchived(step, container, signal);
  const most = mostVolumes(step.key);
  const total = { bytes: 0, parts: 0, resumedBytes: 0 };
  for await (const slice of slices(plain, layout.volumeBytes ?? Infinity)) {
    const number = volumes.length + 1;
    if (number > most) throw tooManyVolumes(step.key);
    const onVolumeProgress = ({ stored, resumed, inFlight }: UploadProgress): void =>
      onProgress({ stored: total.bytes + stored, resumed: total.resumedBytes + resumed, inFlight });
    const ofVolume = { ...storing, onProgress: onVolumeProgress };
    const { volume, stored } = await storeVolume(slice, number, { storing: ofVolume, container }, signal);
    volumes.push(volume);
    total.bytes += stored.bytes;
    total.parts += stored.parts;
    total.resumedBytes += stored.resumedBytes;
    onProgress({ stored: total.bytes, resumed: total.resumedBytes, inFlight: 0 });
  }
  const [first, ...rest] = volumes;
  if (first === undefined) throw nothingToStore(step.key);
  const isFree = async (): Promise<true> => (await assertNotArchived(step, container, signal), true);
  await removeVolumes(step, { but: volumes, when: isFree }, container, signal);
  // It may have taken days, and others may have cleared up meanwhile, on another machine too.
  await assertPresent(volumes, step.key, container, signal);
  const manifest = Readable.from([Buffer.from(formatManifest([first, ...rest], step.key))], { objectMode: false });
  const metadata = metadataOf(storing, { count: volumes.length, bytes: total.bytes });
  const stored = await container.put(step.key, manifest, { ...layout, metadata, resumable: false }, signal);
  // From now on nobody deletes them; whoever was about to has done so by now.
  await assertPresent(volumes, step.key, container, signal);
  await checkpoints.forget();
  await storeProof({ key: step.key, layout, metadata, stored }, container, signal);
  return { ...stored, ...total };
}

interface StoredVolume {
  readonly volume: Volume;
  readonly stored: Omit<Stored, "md5s">;
}

interface VolumeContext {
  readonly storing: Storing;
  readonly container: Container;
}

async function storeVolume(
  slice: Readable,
  number: number,
  context: VolumeContext,
  signal: AbortSignal,
): Promise<StoredVolume> {
  const { storing, container } = context;
  const key = formatVolumeKey(storing.step.key, number);
  const existing = await container.head(key, signal);
  if (existing === null) return await putVolume(slice, key, context, signal);
  const noted = isEncryptedBy(storing) ? noteOf(existing, storing) : null;
  if (number > storing.trusted || (noted === null && isEncryptedBy(storing))) {
    await deleteVolume(existing, context, signal);
    return await putVolume(slice, key, context, signal);
  }
  const found =
    noted === null
      ? await compareVolume(encoded(slice, storing.encoder, signal), existing, {
          partBytes: storing.layout.partBytes,
          container,
        })
      : await recallVolume(slice, noted);
  if (found === null) throw volumeRefused(key, number);
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
  const options = putOptions({ storing, metadata: {}, onProgress });
  const body = await bodyOf(slice, storing, signal);
  const digest = digestOf(body);
  const stored = await container.put(key, body, options, signal);
  const volume = { key, partBytes: layout.partBytes, ...digest(), bytes: stored.bytes, etag: stored.etag };
  if (plainDigest !== null) {
    await checkpoints.note({ ...volume, plainSha256: plainDigest().sha256, encodedFor: encodedFor(storing) });
  }
  return { volume, stored };
}

/** Facts about a stored volume that the manifest holds and the store does not. */
type Kept = Pick<Volume, "sha256" | "partBytes">;

/** Facts of a stored volume when it equals the volume that a body would make now; else null. */
async function compareVolume(
  body: Readable,
  existing: ObjectDetails,
  { partBytes, container }: { readonly partBytes: number; readonly container: Container },
): Promise<Kept | null> {
  const digest = digestOf(body);
  return (await container.matches(existing, partBytes, body)) ? { sha256: digest().sha256, partBytes } : null;
}

/** The note about a stored volume when it was made for the same recipients as now; else null. */
function noteOf({ key, etag, bytes }: ObjectDetails, storing: Storing): Checkpoint | null {
  const noted = storing.checkpoints.find(key);
  return noted?.etag === etag && noted.bytes === bytes && noted.encodedFor === encodedFor(storing) ? noted : null;
}

/** Facts of a stored volume when it was made of this slice; else null. */
async function recallVolume(slice: Readable, { plainSha256, sha256, partBytes }: Checkpoint): Promise<Kept | null> {
  const digest = digestOf(slice);
  await finished(slice.resume());
  return digest().sha256 === plainSha256 ? { sha256, partBytes } : null;
}

/** A slice cannot be read a second time: the next round knows better which volumes to trust. */
function volumeRefused(key: string, volume: number): BackupError {
  return new BackupError("RESUME_REFUSED", `the volume ${key} is not what it would be now`, {
    context: { key, volume },
  });
}

/** Makes room for another one. @throws ALREADY_ARCHIVED, STEP_FAILED when another run is storing the same archive */
async function deleteVolume(
  planned: ObjectDetails,
  { storing, container }: VolumeContext,
  signal: AbortSignal,
): Promise<void> {
  await assertNotArchived(storing.step, container, signal);
  const { key } = planned;
  const found = await container.head(key, signal);
  if (found !== null && found.etag !== planned.etag) {
    throw new BackupError("STEP_FAILED", `another run is storing the volume ${key}`, {
      hint: "let one machine archive a subvolume",
      context: { key },
    });
  }
  await container.delete(key, signal);
}

function encodedFor({ encoder }: Storing): string {
  return `${encoder.cost.encoding} ${encoder.fingerprint ?? ""}`;
}

function isEncryptedBy({ encoder }: Storing): boolean {
  return isEncrypted(encoder.cost.encoding);
}

async function bodyOf(plain: Readable, storing: Storing, signal: AbortSignal): Promise<Readable> {
  const { encoder, spoolDirectory, onEncoded } = storing;
  const body = encoded(plain, encoder, signal);
  if (encoder.programs.length > 0) observe(body, ({ length }) => onEncoded(length));
  return spoolDirectory === null ? body : await spool(body, spoolDirectory);
}

interface Removal {
  readonly but: readonly Volume[];
  /** Asked right before each of them is deleted. */
  readonly when: () => Promise<boolean>;
}

/** Deletes all stored volumes, but those named. */
async function removeVolumes(
  { key }: UploadStep,
  { but, when }: Removal,
  container: Container,
  signal: AbortSignal,
): Promise<void> {
  const kept = new Set(but.map((volume) => volume.key));
  for (const object of await container.list(`${key}/`, signal)) {
    if (archiveKeyOf(object.key) !== key || kept.has(object.key)) continue;
    if (await when()) await container.delete(object.key, signal);
  }
}

/** A listing may not show it yet, and its volumes are no leftovers. @throws ALREADY_ARCHIVED */
async function assertNotArchived({ key }: UploadStep, container: Container, signal: AbortSignal): Promise<void> {
  if ((await container.head(key, signal)) === null) return;
  throw alreadyArchived(key);
}

function metadataOf(
  { step, layout, facts, encoder }: Storing,
  volumes: UploadFacts["volumes"],
): Record<string, string> {
  return formatMetadata(step, { ...facts, encoding: encoder.cost.encoding, partBytes: layout.partBytes, volumes });
}

/** Parts that were encrypted before do not fit parts that are encrypted now: an upload of them is never resumed. */
function putOptions({
  storing,
  metadata,
  onProgress,
}: Pick<PutOptions, "metadata" | "onProgress"> & { readonly storing: Storing }): PutOptions {
  const { partBytes, concurrency, partsInMemory } = storing.layout;
  const resumable = !isEncryptedBy(storing);
  return {
    partBytes,
    concurrency,
    partsInMemory,
    metadata,
    onProgress,
    resumable,
    resume: resumable && storing.trusted > 0,
  };
}
