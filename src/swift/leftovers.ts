// Uploads that nobody completes any more, and the one place where they are aborted.
//
// s3api completes an upload in two steps: it stores the object's manifest, then it deletes the upload's marker. The
// second step fails when, for example, a storage node is away for seconds. Then the object is complete, and the upload
// is listed as open forever. An abort deletes every segment of the object, while HEAD and listings keep showing it as
// it was (Swift 2.30 to 2.38). An abort during a completion does the same. So an upload is aborted only when it is old,
// and when no object is under its key or the object there is proven to be another upload's.

import { AbortMultipartUploadCommand, CompleteMultipartUploadCommand } from "@aws-sdk/client-s3";
import { BackupError } from "../errors.ts";
import { peekObject } from "./download.ts";
import { multipartEtag } from "./etag.ts";
import { headObject, isListed } from "./objects.ts";
import { withTimeout } from "./timeout.ts";
import { ask, listParts, orNull, type Resumable } from "./upload/open-uploads.ts";
import type { Store } from "./context.ts";
import type { ObjectDetails, OpenUpload, UploadFate } from "../operations/store-ports.ts";
import { describeError } from "./error-facts.ts";

/**
 * A listing of parts can lack some for as long as the store's container servers lag behind: an upload with fewer parts
 * than the object under its key could be that object's. Nothing lags for this many times the age at which uploads are
 * removed.
 */
const LAG = 7;

/** How long to retry making the store forget the upload of an object that is stored. */
const FORGET_MS = 60_000;
const READ_BACK_MS = 20_000;

/** Known facts about an open upload that is to be removed. */
export interface Suspect extends Resumable {
  /** Under its key; null when there is none. */
  readonly object: Pick<ObjectDetails, "etag"> | null;
}

/**
 * Decides whether an open upload may be aborted. @param now - by the store's clock, as `olderThanMs` in milliseconds
 */
export function judgeUpload(suspect: Suspect, now: number, olderThanMs: number): Exclude<UploadFate, "broken"> {
  const { upload, parts, newest, object } = suspect;
  // s3api rounds times up to a second, so an upload of this moment lies in the future.
  const ageMs = Math.max(0, now - Math.max(upload.initiated.getTime(), newest?.getTime() ?? 0));
  if (ageMs < olderThanMs) return "young";
  if (object === null) return "removed";
  const inOrder = [...parts].toSorted(([a], [b]) => a - b).map(([, { etag }]) => Buffer.from(etag, "hex"));
  if (inOrder.length > 0 && multipartEtag(inOrder) === object.etag) return "finished";
  const partsOfObject = /-(\d+|N)$/.exec(object.etag)?.[1];
  // An MD5: it was stored in one piece, not by an upload.
  if (partsOfObject === undefined) return "removed";
  // An object that was written natively does not show the MD5s of its parts.
  if (partsOfObject === "N") return "doubtful";
  return inOrder.length >= Number(partsOfObject) || ageMs >= LAG * olderThanMs ? "removed" : "doubtful";
}

/** See {@link import("../operations/ports.ts").Container.removeUpload}. */
export async function removeUpload(
  store: Store,
  upload: OpenUpload,
  olderThanMs: number,
  signal: AbortSignal,
): Promise<UploadFate> {
  const { key } = upload;
  // Without a request, because most uploads are less than a day old.
  if (Math.max(0, store.now() - upload.initiated.getTime()) < olderThanMs) return "young";
  const found = await listParts(store, upload, signal);
  // Right before the abort. A HEAD that fails is no answer, and ends this.
  const object = await headObject(store, key, signal);
  const judged = judgeUpload({ ...found, object }, store.now(), olderThanMs);
  // An object that is listed and not found may only be out of reach, or lost: then its parts are all that is left of it.
  const isAway = judged === "removed" && object === null && (await isListed(store, key, signal));
  const fate = isAway ? "doubtful" : judged;
  if (fate !== "removed") {
    store.log?.debug({ key, uploadId: upload.uploadId, fate }, "an open upload is left alone");
    return fate;
  }
  await abortUpload(store, upload, signal);
  return object === null && (await hasAppearedBroken(store, key, signal)) ? "broken" : "removed";
}

/**
 * Aborts an upload of any kind: for {@link removeUpload}, and for an upload of this very run whose completion was never
 * sent or was refused at once. Succeeds too when it is gone. @throws STORE_UNAVAILABLE, ACCESS_DENIED
 */
export async function abortUpload(
  store: Store,
  { key, uploadId }: Pick<OpenUpload, "key" | "uploadId">,
  signal: AbortSignal,
): Promise<void> {
  const command = new AbortMultipartUploadCommand({ Bucket: store.container, Key: key, UploadId: uploadId });
  await ask(store, signal, key, async () => orNull(store.client.send(command, { abortSignal: signal })));
}

/** Whether somebody completed the upload of a key while it was aborted: then the end of the object cannot be read. */
async function hasAppearedBroken(store: Store, key: string, signal: AbortSignal): Promise<boolean> {
  const object = await headObject(store, key, signal);
  if (object === null || object.bytes === 0) return false;
  return await withTimeout(READ_BACK_MS, signal, async (patience) => {
    try {
      await peekObject(store, { key, start: object.bytes - 1, length: 1 }, patience);
      return false;
    } catch (error) {
      if (signal.aborted) throw error;
      store.log?.debug({ key, error: describeError(error) }, "an object cannot be read to its end");
      return patience.aborted || (error instanceof BackupError && error.code === "ARCHIVE_DAMAGED");
    }
  });
}

/** An upload that was completed, and its parts in order. */
export interface Completed {
  readonly key: string;
  readonly uploadId: string;
  readonly parts: readonly { readonly PartNumber: number; readonly ETag: string }[];
}

/**
 * Makes the store forget an upload whose object stands, after a completion that ended in doubt. The same completion
 * again does it: it stores the same manifest once more, then deletes the marker; where that is gone it changes nothing.
 * Not with `If-None-Match: *`, which is refused (412) before the marker is checked (Swift 2.30). Never fails.
 */
export async function forgetUpload(
  store: Store,
  { key, uploadId, parts }: Completed,
  signal: AbortSignal,
): Promise<void> {
  const command = new CompleteMultipartUploadCommand({
    Bucket: store.container,
    Key: key,
    UploadId: uploadId,
    MultipartUpload: { Parts: [...parts] },
  });
  try {
    await withTimeout(FORGET_MS, signal, (patience) => orNull(store.client.send(command, { abortSignal: patience })));
  } catch (error) {
    store.log?.warn(
      { key, uploadId, error: describeError(error) },
      `'${key}' is stored, but the store may go on listing its upload as open: never abort it, because that would delete the object's bytes`,
    );
  }
}
