// The common part of an archive in one object and of each volume: the stream, its encoding and metadata, and the
// objects that may be in the way.

import type { Readable } from "node:stream";
import { alreadyArchived, BackupError } from "../errors.ts";
import { isEncrypted } from "../plan/encoding.ts";
import { formatMetadata, type UploadFacts } from "../plan/key.ts";
import type { Layout } from "../plan/layout.ts";
import { archiveKeyOf, type Volume } from "../plan/manifest.ts";
import type { UploadStep } from "../plan/model.ts";
import type { Checkpoints } from "../state/checkpoints.ts";
import { spool } from "../stream/spool.ts";
import { observe } from "../stream/tap.ts";
import { encoded, type Encoder } from "./encode.ts";
import type { Container, OpenParts, PutOptions, UploadProgress } from "./store-ports.ts";

/** The stream to store, and how to store it. */
export interface Storing {
  readonly step: UploadStep;
  readonly layout: Layout;
  readonly encoder: Encoder;
  /** The checkpoints of this archive. */
  readonly checkpoints: Checkpoints;
  /** Where to keep each object on disk before it is sent; null = nowhere. */
  readonly spoolDirectory: string | null;
  readonly facts: Pick<UploadFacts, "sendProto" | "tool" | "parentChain">;
  /**
   * Volumes up to this number are resumed if an earlier run left them; 0 = nothing is resumed, not even an open upload.
   */
  readonly trusted: number;
  /** The resumable parts of open uploads under the archive's own key; null = none. */
  readonly openParts: OpenParts | null;
  /** Called with the number of bytes that were encoded since the last call. */
  readonly onEncoded: (bytes: number) => void;
  /** Called with the bytes stored so far, those of earlier runs included. */
  readonly onProgress: (progress: UploadProgress) => void;
}

export function encodedFor({ encoder }: Storing): string {
  return `${encoder.cost.encoding} ${encoder.fingerprint ?? ""}`;
}

export function isEncryptedBy({ encoder }: Storing): boolean {
  return isEncrypted(encoder.cost.encoding);
}

export async function bodyOf(plain: Readable, storing: Storing, signal: AbortSignal): Promise<Readable> {
  const { encoder, spoolDirectory, onEncoded } = storing;
  const body = encoded(plain, encoder, signal);
  if (encoder.programs.length > 0) observe(body, ({ length }) => onEncoded(length));
  return spoolDirectory === null ? body : await spool(body, spoolDirectory);
}

interface Removal {
  readonly but: readonly Volume[];
  /** Called right before each of them is deleted. */
  readonly when: () => Promise<boolean>;
}

/** Deletes all objects beside an archive (volumes, proof, pin), but those named. */
export async function removeVolumes(
  { key }: Pick<UploadStep, "key">,
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

/**
 * A listing may not show it yet, and its volumes are no leftovers.
 * @throws ALREADY_ARCHIVED; STEP_FAILED when the archive that is to be replaced is another one now
 */
export async function assertKeyFree(
  { key, replaces }: UploadStep,
  container: Container,
  signal: AbortSignal,
): Promise<void> {
  const found = await container.head(key, signal);
  if (replaces === undefined && found !== null) throw alreadyArchived(key);
  if (replaces !== undefined && found?.etag !== replaces.etag) {
    throw new BackupError("STEP_FAILED", `the archive of ${replaces.path} has changed since it was looked at`, {
      hint: "try again, when no other machine archives this subvolume",
      context: { key },
    });
  }
}

export function metadataOf(
  { step, layout, facts, encoder }: Storing,
  volumes: UploadFacts["volumes"],
): Record<string, string> {
  return formatMetadata(step, { ...facts, encoding: encoder.cost.encoding, partBytes: layout.partBytes, volumes });
}

/** Parts that were encrypted before do not fit parts that are encrypted now: an upload of them is never resumed. */
export function putOptions({
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
