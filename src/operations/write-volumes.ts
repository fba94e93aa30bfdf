// Stores a stream as volumes, with the manifest last. Volumes that an earlier run has stored are used again.

import { Readable } from "node:stream";
import { finished } from "node:stream/promises";
import { BackupError, nothingToStore } from "../errors.ts";
import {
  formatManifest,
  formatVolumeKey,
  mostVolumes,
  tooManyVolumes,
  volumeNumberOf,
  type Manifest,
  type Volume,
} from "../plan/manifest.ts";
import type { UploadStep } from "../plan/model.ts";
import { MAKE_ROOM } from "../plan/quota.ts";
import type { Checkpoint } from "../state/checkpoints.ts";
import { slices } from "../stream/split.ts";
import { digestOf } from "../stream/tap.ts";
import { assertPresent, readManifest } from "./archive-body.ts";
import { encoded } from "./encode.ts";
import {
  assertKeyFree,
  bodyOf,
  encodedFor,
  isEncryptedBy,
  metadataOf,
  putOptions,
  removeVolumes,
  type Storing,
} from "./object-to-store.ts";
import { assertParentArchived } from "./parent-archive.ts";
import { storeProof } from "./proof.ts";
import { replaceArchive } from "./replace-archive.ts";
import type { Container, ObjectDetails, Stored, UploadProgress } from "./store-ports.ts";

export async function storeVolumes(
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
  await assertKeyFree(step, container, signal);
  const first = await firstNumber(step, container, signal);
  const most = mostVolumes(step.key);
  const total = { bytes: 0, parts: 0, resumedBytes: 0 };
  for await (const slice of slices(plain, layout.volumeBytes ?? Infinity)) {
    const number = volumes.length + 1;
    if (number > most) throw tooManyVolumes(step.key);
    const key = formatVolumeKey(step.key, first - 1 + number);
    const onVolumeProgress = ({ stored, resumed, inFlight }: UploadProgress): void =>
      onProgress({ stored: total.bytes + stored, resumed: total.resumedBytes + resumed, inFlight });
    const ofVolume = { ...storing, onProgress: onVolumeProgress };
    const { volume, stored } = await storeVolume(slice, { key, number }, { storing: ofVolume, container }, signal);
    volumes.push(volume);
    total.bytes += stored.bytes;
    total.parts += stored.parts;
    total.resumedBytes += stored.resumedBytes;
    onProgress({ stored: total.bytes, resumed: total.resumedBytes, inFlight: 0 });
  }
  const [one, ...rest] = volumes;
  if (one === undefined) throw nothingToStore(step.key);
  const commit = step.replaces === undefined ? commitNew : commitReplacement;
  const stored = await commit([one, ...rest], { storing, bytes: total.bytes }, container, signal);
  await checkpoints.forget();
  return { ...stored, ...total };
}

/** Volumes of an archive that is replaced stay beside the new ones until it is gone, so that the new ones are others. */
async function firstNumber({ replaces }: UploadStep, container: Container, signal: AbortSignal): Promise<number> {
  const object = replaces?.volumes == null ? null : await container.head(replaces.key, signal);
  if (replaces === undefined || object === null) return 1;
  const last = (await readManifest(replaces, object, container, signal)).at(-1);
  const number = last === undefined ? null : volumeNumberOf(last.key);
  return number === null || number > LAST_NUMBER / 2 ? 1 : number + 1;
}

const LAST_NUMBER = 999_999;

interface Committing {
  readonly storing: Storing;
  /** The sum of all volumes. */
  readonly bytes: number;
}

async function commitNew(
  volumes: Manifest,
  { storing, bytes }: Committing,
  container: Container,
  signal: AbortSignal,
): Promise<Stored> {
  const { step, layout } = storing;
  const isFree = async (): Promise<true> => (await assertKeyFree(step, container, signal), true);
  await removeVolumes(step, { but: volumes, when: isFree }, container, signal);
  // It may have taken days, and another machine may have removed leftovers in the meantime.
  await assertPresent(volumes, step.key, container, signal);
  const manifest = Readable.from([Buffer.from(formatManifest(volumes, step.key))], { objectMode: false });
  const metadata = metadataOf(storing, { count: volumes.length, bytes });
  const stored = await container.put(step.key, manifest, { ...layout, metadata, resumable: false }, signal);
  // From now on nobody deletes them; a removal that had already begun is over by now.
  await assertPresent(volumes, step.key, container, signal);
  await storeProof({ key: step.key, layout, metadata, stored }, container, signal);
  return stored;
}

async function commitReplacement(
  volumes: Manifest,
  { storing, bytes }: Committing,
  container: Container,
  signal: AbortSignal,
): Promise<Stored> {
  const { step } = storing;
  await assertKeyFree(step, container, signal);
  await assertParentArchived(step, container, signal);
  const metadata = metadataOf(storing, { count: volumes.length, bytes });
  const replacement = { replaces: step.replaces?.etag ?? "", volumes, metadata };
  return await replaceArchive(step.key, replacement, container, signal);
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
  { key, number }: { readonly key: string; readonly number: number },
  context: VolumeContext,
  signal: AbortSignal,
): Promise<StoredVolume> {
  const { storing, container } = context;
  const existing = await container.head(key, signal);
  if (existing === null) return await putVolume(slice, key, context, signal);
  const checkpoint = isEncryptedBy(storing) ? checkpointOf(existing, storing) : null;
  if (number > storing.trusted || (checkpoint === null && isEncryptedBy(storing))) {
    await deleteVolume(existing, context, signal);
    return await putVolume(slice, key, context, signal);
  }
  const found =
    checkpoint === null
      ? await compareVolume(encoded(slice, storing.encoder, signal), existing, {
          partBytes: storing.layout.partBytes,
          container,
        })
      : await recallVolume(slice, checkpoint);
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
    await checkpoints.record({ ...volume, plainSha256: plainDigest().sha256, encodedFor: encodedFor(storing) });
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

/** The checkpoint of a stored volume when it was made for the same recipients as now; else null. */
function checkpointOf({ key, etag, bytes }: ObjectDetails, storing: Storing): Checkpoint | null {
  const checkpoint = storing.checkpoints.find(key);
  return checkpoint?.etag === etag && checkpoint.bytes === bytes && checkpoint.encodedFor === encodedFor(storing)
    ? checkpoint
    : null;
}

/** Facts of a stored volume when it was made of this slice; else null. */
async function recallVolume(slice: Readable, { plainSha256, sha256, partBytes }: Checkpoint): Promise<Kept | null> {
  const digest = digestOf(slice);
  await finished(slice.resume());
  return digest().sha256 === plainSha256 ? { sha256, partBytes } : null;
}

/** A slice cannot be read a second time: the next attempt trusts other volumes. */
function volumeRefused(key: string, volume: number): BackupError {
  return new BackupError("RESUME_REFUSED", `the volume ${key} is not what would be stored now`, {
    context: { key, volume },
  });
}

/** Makes room for another one. @throws ALREADY_ARCHIVED, STEP_FAILED when another run is storing the same archive */
async function deleteVolume(
  planned: ObjectDetails,
  { storing, container }: VolumeContext,
  signal: AbortSignal,
): Promise<void> {
  await assertKeyFree(storing.step, container, signal);
  const { key } = planned;
  const found = await container.head(key, signal);
  if (found !== null && found.etag !== planned.etag) {
    throw new BackupError("STEP_FAILED", `another run is storing the volume ${key}`, {
      hint: "let only one machine archive a subvolume",
      context: { key },
    });
  }
  await container.delete(key, signal);
}
