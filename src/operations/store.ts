// One stream into the container, as one object or as volumes with the manifest last; gone on with where an earlier run
// was stopped, and begun anew where what it left is not the beginning of what is sent now.

import { Readable } from "node:stream";
import { formatMetadata, type UploadFacts } from "../plan/key.ts";
import type { Layout } from "../plan/layout.ts";
import { formatManifest, formatVolumeKey, type Volume } from "../plan/manifest.ts";
import type { UploadStep } from "../plan/model.ts";
import { digestOf } from "../stream/observe.ts";
import { slices } from "../stream/slices.ts";
import { BackupError } from "../errors.ts";
import type { Container, OpenUpload, PutOptions, Stored } from "./edges.ts";

/** What is to be stored, and how. */
export interface Storing {
  readonly step: UploadStep;
  readonly layout: Layout;
  readonly facts: Pick<UploadFacts, "encoding" | "sendProto" | "tool">;
  /** Uploads of this archive that can be gone on with; null = forget what an earlier run has left. */
  readonly resume: readonly OpenUpload[] | null;
  /** Called with the bytes that are stored so far, those of earlier runs included. */
  readonly onProgress: (bytes: number) => void;
}

/**
 * Stores the whole stream, or nothing that looks like an archive.
 * @throws RESUME_REFUSED, STREAM_TOO_LONG, what `Container.put` throws, and whatever the body is destroyed with
 */
export async function storeArchive(
  body: Readable,
  storing: Storing,
  container: Container,
  signal: AbortSignal,
): Promise<Stored> {
  const { step, layout, onProgress } = storing;
  if (layout.volumeBytes !== null) return await storeVolumes(body, storing, container, signal);
  const metadata = metadataOf(storing, null);
  return await container.put(step.key, body, putOptions(step.key, { storing, metadata, onProgress }), signal);
}

async function storeVolumes(body: Readable, storing: Storing, container: Container, signal: AbortSignal): Promise<Stored> {
  const { step, layout, resume, onProgress } = storing;
  if (resume === null) await removeVolumes(step, [], container, signal);
  const volumes: Volume[] = [];
  const total = { bytes: 0, parts: 0, resumedBytes: 0 };
  for await (const slice of slices(body, layout.volumeBytes ?? Infinity)) {
    const key = formatVolumeKey(step.key, volumes.length + 1);
    const options = putOptions(key, { storing, metadata: {}, onProgress: (bytes) => { onProgress(total.bytes + bytes); } });
    const { volume, stored } = await storeVolume(slice, { key, options }, container, signal);
    volumes.push(volume);
    total.bytes += stored.bytes;
    total.parts += stored.parts;
    total.resumedBytes += stored.resumedBytes;
    onProgress(total.bytes);
  }
  const [first, ...rest] = volumes;
  if (first === undefined) throw new BackupError("INTERNAL", `there is nothing to store under '${step.key}'`);
  await removeVolumes(step, volumes, container, signal);
  const manifest = Readable.from([Buffer.from(formatManifest([first, ...rest]))], { objectMode: false });
  const metadata = metadataOf(storing, { count: volumes.length, bytes: total.bytes });
  const { etag } = await container.put(step.key, manifest, { ...layout, metadata }, signal);
  return { ...total, etag };
}

async function storeVolume(
  slice: Readable,
  { key, options }: { readonly key: string; readonly options: PutOptions },
  container: Container,
  signal: AbortSignal,
): Promise<{ readonly volume: Volume; readonly stored: Stored }> {
  const { partBytes } = options;
  const digest = digestOf(slice);
  const existing = await container.head(key, signal);
  if (existing === null) {
    const stored = await container.put(key, slice, options, signal);
    return { volume: { key, partBytes, ...stored, ...digest() }, stored };
  }
  if (!(await container.matches(existing, partBytes, slice))) {
    throw new BackupError("RESUME_REFUSED", `the volume ${key} is not what it would be now`, { context: { key } });
  }
  const { bytes, etag } = existing;
  const stored = { bytes, etag, parts: Math.ceil(bytes / partBytes), resumedBytes: bytes };
  return { volume: { key, partBytes, etag, ...digest() }, stored };
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

function metadataOf({ step, layout, facts }: Storing, volumes: UploadFacts["volumes"]): Record<string, string> {
  return formatMetadata(step, { ...facts, partBytes: layout.partBytes, volumes });
}

function putOptions(
  key: string,
  { storing, metadata, onProgress }: Pick<PutOptions, "metadata" | "onProgress"> & { readonly storing: Storing },
): PutOptions {
  const { partBytes, concurrency } = storing.layout;
  return { partBytes, concurrency, metadata, onProgress, resume: storing.resume?.filter((upload) => upload.key === key) };
}
