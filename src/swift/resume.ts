// Uploads that were begun and not ended: which there are, which one can be gone on with, and giving one up.
// Nothing about them is kept on this machine: what is stored tells all. A part is taken for sent when its number, size
// and MD5 are those of the part that would be sent now, so the object is byte for byte what this run has made.

import {
  AbortMultipartUploadCommand,
  ListMultipartUploadsCommand,
  ListPartsCommand,
  type ListMultipartUploadsCommandOutput,
  type ListPartsCommandOutput,
} from "@aws-sdk/client-s3";
import type { OpenUpload } from "../operations/edges.ts";
import { isMissing } from "./errors.ts";
import { unquoted } from "./etag.ts";
import type { Store } from "./store.ts";

export interface StoredPart {
  readonly bytes: number;
  /** The MD5 of the part, in hexadecimal. */
  readonly etag: string;
}

/** An upload as far as it got, by part number. */
export interface Resumable {
  readonly upload: OpenUpload;
  readonly parts: ReadonlyMap<number, StoredPart>;
}

/** Every open upload under a prefix, those of the same key oldest first. @throws STORE_UNAVAILABLE, ACCESS_DENIED */
export async function listUploads(store: Store, prefix: string, signal: AbortSignal): Promise<readonly OpenUpload[]> {
  const uploads: OpenUpload[] = [];
  for (;;) {
    const last = uploads.at(-1);
    const page = await ask(store, signal, prefix, async () =>
      store.client.send(
        new ListMultipartUploadsCommand({
          Bucket: store.container,
          Prefix: prefix,
          EncodingType: "url",
          // Swift's own markers stand still on some pages (2.30); the last upload seen always leads on.
          ...(last === undefined ? {} : { KeyMarker: last.key, UploadIdMarker: last.uploadId }),
        }),
        { abortSignal: signal },
      ),
    );
    const found = page.Uploads?.flatMap(parseUpload) ?? [];
    uploads.push(...found);
    if (page.IsTruncated !== true || found.length === 0) return uploads;
  }
}

/** Succeeds too when it is gone. @throws STORE_UNAVAILABLE, ACCESS_DENIED */
export async function abortUpload(
  store: Store,
  { key, uploadId }: Pick<OpenUpload, "key" | "uploadId">,
  signal: AbortSignal,
): Promise<void> {
  const command = new AbortMultipartUploadCommand({ Bucket: store.container, Key: key, UploadId: uploadId });
  await ask(store, signal, key, async () => orNull(store.client.send(command, { abortSignal: signal })));
}

/**
 * The upload that got furthest in parts of `partBytes`; the others are aborted. Null when none can be gone on with.
 * @throws STORE_UNAVAILABLE, ACCESS_DENIED
 */
export async function chooseResumable(
  store: Store,
  uploads: readonly OpenUpload[],
  partBytes: number,
  signal: AbortSignal,
): Promise<Resumable | null> {
  let best: Resumable | null = null;
  for (const upload of uploads) {
    const found: Resumable = { upload, parts: await listParts(store, upload, signal) };
    const better = isUniform(found, partBytes) && found.parts.size > (best?.parts.size ?? 0);
    const worse = better ? best : found;
    if (better) best = found;
    if (worse !== null) await abortUpload(store, worse.upload, signal);
  }
  return best;
}

/** Its first part is there, and every part but the last has the size that parts have now. */
function isUniform({ parts }: Resumable, partBytes: number): boolean {
  const last = Math.max(...parts.keys());
  return parts.has(1) && [...parts].every(([number, { bytes }]) => bytes === partBytes || (number === last && bytes < partBytes));
}

async function listParts(
  store: Store,
  { key, uploadId }: OpenUpload,
  signal: AbortSignal,
): Promise<ReadonlyMap<number, StoredPart>> {
  const parts = new Map<number, StoredPart>();
  let marker: string | undefined;
  for (;;) {
    const command = new ListPartsCommand({ Bucket: store.container, Key: key, UploadId: uploadId, PartNumberMarker: marker });
    const page: ListPartsCommandOutput | null = await ask(store, signal, key, async () =>
      orNull(store.client.send(command, { abortSignal: signal })),
    );
    for (const { PartNumber, Size, ETag } of page?.Parts ?? []) {
      if (PartNumber === undefined || Size === undefined || ETag === undefined) continue;
      parts.set(PartNumber, { bytes: Size, etag: unquoted(ETag) });
      marker = String(PartNumber);
    }
    if (page?.IsTruncated !== true || (page.Parts?.length ?? 0) === 0) return parts;
  }
}

function parseUpload(
  upload: NonNullable<ListMultipartUploadsCommandOutput["Uploads"]>[number],
): readonly OpenUpload[] {
  const { Key, UploadId, Initiated } = upload;
  if (Key === undefined || UploadId === undefined) return [];
  return [{ key: decodeURIComponent(Key), uploadId: UploadId, initiated: Initiated ?? new Date(0) }];
}

async function ask<Answer>(
  store: Store,
  signal: AbortSignal,
  key: string,
  request: () => Promise<Answer>,
): Promise<Answer> {
  try {
    return await request();
  } catch (error) {
    throw store.translate(error, signal, key);
  }
}

/** The answer, or null when what was asked about is not there. */
async function orNull<Answer>(answer: Promise<Answer>): Promise<Answer | null> {
  try {
    return await answer;
  } catch (error) {
    if (isMissing(error)) return null;
    throw error;
  }
}
