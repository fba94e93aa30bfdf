// Unfinished uploads: lists them, and finds the one to resume. Nothing about them is kept on this
// machine, because the stored parts show everything. A part counts as sent when its number, size and MD5 are those of
// the part that would be sent now. So the object is byte for byte the one that this run has made.

import {
  ListMultipartUploadsCommand,
  ListPartsCommand,
  type ListMultipartUploadsCommandOutput,
  type ListPartsCommandOutput,
} from "@aws-sdk/client-s3";
import { BackupError } from "../../errors.ts";
import { unquoted } from "../etag.ts";
import { withTimeout } from "../timeout.ts";
import type { Store } from "../context.ts";
import type { OpenParts, OpenUpload } from "../../operations/store-ports.ts";
import { isMissing } from "../error-facts.ts";

export interface StoredPart {
  readonly bytes: number;
  /** The MD5 of the part, in hexadecimal. */
  readonly etag: string;
}

/** An upload as far as it got, by part number. */
export interface Resumable {
  readonly upload: OpenUpload;
  readonly parts: ReadonlyMap<number, StoredPart>;
  /** When the newest part was stored; null without parts. */
  readonly newest: Date | null;
}

/** s3api walks through every segment under the prefix before it answers, those of finished archives too. */
const LISTING_MS = 2 * 60_000;
/** For those of one key, which are few: an upload that cannot be found is begun again. */
const LISTING_OF_KEY_MS = 30_000;
/** How many uploads of one key are examined. */
const LOOKED_INTO = 8;

/**
 * Every open upload under a prefix, those of the same key oldest first. A listing that takes too long fails.
 * @throws STORE_UNAVAILABLE, ACCESS_DENIED
 */
export async function listUploads(
  store: Store,
  prefix: string,
  signal: AbortSignal,
  patienceMs = LISTING_MS,
): Promise<readonly OpenUpload[]> {
  return await withTimeout(patienceMs, signal, async (patience) => {
    try {
      return await listAll(store, prefix, patience);
    } catch (error) {
      if (signal.aborted || !patience.aborted) throw error;
      const message = `the store did not list its open uploads within ${String(patienceMs / 1000)} seconds`;
      throw new BackupError("STORE_UNAVAILABLE", message, { context: { prefix } });
    }
  });
}

async function listAll(store: Store, prefix: string, signal: AbortSignal): Promise<readonly OpenUpload[]> {
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

/**
 * The open uploads of a key in parts of `partBytes`. None when the store does not list them: then everything is sent again,
 * which is better than nothing.
 * @throws ABORTED
 */
export async function findResumable(
  store: Store,
  { key, partBytes }: { readonly key: string; readonly partBytes: number },
  signal: AbortSignal,
): Promise<readonly Resumable[]> {
  return (await findUploads(store, key, signal)).filter((each) => isUniform(each, partBytes));
}

/** See {@link import("../../operations/ports.ts").Container.findOpenParts}. @throws ABORTED */
export async function findOpenParts(store: Store, key: string, signal: AbortSignal): Promise<OpenParts | null> {
  const found = (await findUploads(store, key, signal)).filter(({ parts }) => parts.has(1));
  if (found.length === 0) return null;
  const inParts = found.flatMap(({ parts }) => {
    const partBytes = parts.get(1)?.bytes ?? 0;
    // A single part may be a short last one.
    return parts.size > 1 && isUniform({ parts }, partBytes) ? { partBytes, bytes: partBytes * parts.size } : [];
  });
  return { partBytes: inParts.toSorted((a, b) => b.bytes - a.bytes)[0]?.partBytes ?? null };
}

async function findUploads(store: Store, key: string, signal: AbortSignal): Promise<readonly Resumable[]> {
  try {
    const uploads = (await listUploads(store, key, signal, LISTING_OF_KEY_MS)).filter((upload) => upload.key === key);
    const found: Resumable[] = [];
    for (const upload of uploads.slice(-LOOKED_INTO)) found.push(await listParts(store, upload, signal));
    return found;
  } catch (error) {
    if (signal.aborted) throw error;
    const reason = error instanceof Error ? error.message : String(error);
    store.log?.warn({ key, reason }, "cannot look for an interrupted upload to resume; everything is sent");
    return [];
  }
}

/** The one that got furthest among those that begin with this part; null without any. */
export function chooseResumable(found: readonly Resumable[], first: StoredPart): Resumable | null {
  const ours = found.filter(({ parts }) => parts.get(1)?.etag === first.etag && parts.get(1)?.bytes === first.bytes);
  return ours.toSorted((a, b) => b.parts.size - a.parts.size)[0] ?? null;
}

/** Its first part is there, and every part but the last has the size that parts have now. */
function isUniform({ parts }: Pick<Resumable, "parts">, partBytes: number): boolean {
  const last = Math.max(...parts.keys());
  return (
    parts.has(1) &&
    [...parts].every(([number, { bytes }]) => bytes === partBytes || (number === last && bytes < partBytes))
  );
}

/** The stored parts of an upload; none when it is gone. @throws STORE_UNAVAILABLE, ACCESS_DENIED */
export async function listParts(store: Store, upload: OpenUpload, signal: AbortSignal): Promise<Resumable> {
  const { key, uploadId } = upload;
  const parts = new Map<number, StoredPart>();
  let newest: Date | null = null;
  let marker: string | undefined;
  for (;;) {
    const command = new ListPartsCommand({
      Bucket: store.container,
      Key: key,
      UploadId: uploadId,
      PartNumberMarker: marker,
    });
    const page: ListPartsCommandOutput | null = await ask(store, signal, key, async () =>
      orNull(store.client.send(command, { abortSignal: signal })),
    );
    for (const { PartNumber, Size, ETag, LastModified } of page?.Parts ?? []) {
      if (PartNumber === undefined || Size === undefined || ETag === undefined) continue;
      parts.set(PartNumber, { bytes: Size, etag: unquoted(ETag) });
      if (LastModified !== undefined && (newest === null || LastModified > newest)) newest = LastModified;
      marker = String(PartNumber);
    }
    if (page?.IsTruncated !== true || (page.Parts?.length ?? 0) === 0) return { upload, parts, newest };
  }
}

function parseUpload(upload: NonNullable<ListMultipartUploadsCommandOutput["Uploads"]>[number]): readonly OpenUpload[] {
  const { Key, UploadId, Initiated } = upload;
  if (Key === undefined || UploadId === undefined) return [];
  // An upload of unknown age counts as young.
  return [{ key: decodeURIComponent(Key), uploadId: UploadId, initiated: Initiated ?? new Date(8.64e15) }];
}

/** Sends a request, and translates its error. */
export async function ask<Answer>(
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

/** The answer, or null when the object of the request does not exist. */
export async function orNull<Answer>(answer: Promise<Answer>): Promise<Answer | null> {
  try {
    return await answer;
  } catch (error) {
    if (isMissing(error)) return null;
    throw error;
  }
}
