// Storing an object: all of the body, under a key that was free, or nothing.
// What fits one part goes in one request, by lib-storage; what does not, by multipart.ts. What they leave open is settled
// here: what becomes of an upload that is given up, and whether the store has what was sent.

import { finished } from "node:stream";
import type { S3Client } from "@aws-sdk/client-s3";
import { Upload } from "@aws-sdk/lib-storage";
import { abortedError, BackupError, type FailureCode } from "../errors.ts";
import type { ObjectDetails, Stored } from "../operations/edges.ts";
import {
  alreadyArchived,
  expectedEtag,
  fail,
  newAttempt,
  notePart,
  noteStored,
  refuseExisting,
  type Attempt,
  type Put,
} from "./attempt.ts";
import { describeError, isRefusal } from "./errors.ts";
import { unquoted } from "./etag.ts";
import { openPartHasher } from "./hasher.ts";
import { CONTENT_TYPE, sendParts } from "./multipart.ts";
import { checkKey, checkMetadata } from "./names.ts";
import { deleteObject, headObject } from "./objects.ts";
import { partsOf, type Part } from "./parts.ts";
import { withPatience } from "./patience.ts";
import { abortUpload, chooseResumable } from "./resume.ts";
import type { Store } from "./store.ts";

/** How long the answer to an upload's creation or completion is still waited for when everything else was stopped. */
const LAST_ANSWER_MS = 1_000;
/** How long it is tried to abort an upload that came to nothing; and how long when the run is to stop. */
const CLEAN_UP_MS = 60_000;
const HURRIED_CLEAN_UP_MS = 700;

/** Failures that say nothing against what is stored of an upload: it can be gone on with. */
const passing: ReadonlySet<FailureCode> = new Set(["ABORTED", "STORE_UNAVAILABLE"]);

/** See {@link import("../operations/edges.ts").Container.put}. */
export async function putObject(store: Store, put: Put, signal: AbortSignal): Promise<Stored> {
  const attempt = newAttempt(store, put, signal);
  const unwatch = watch(attempt);
  try {
    checkKey(put.key);
    checkMetadata(put.options.metadata);
    await refuseExisting(attempt);
    attempt.resumable = await chooseResumable(store, put.options.resume ?? [], put.options.partBytes, signal);
    await send(attempt);
    return await checkStored(attempt);
  } catch (error) {
    fail(attempt, { error, ofBody: false });
    return await settle(attempt);
  } finally {
    unwatch();
  }
}

/** Notes how the body fails, from the first moment on, and that the run is to stop. */
function watch(attempt: Attempt): () => void {
  const { body, signal } = attempt;
  // Not undone: an error of the body that comes when all is over must not end the process.
  finished(body, { writable: false }, (error) => {
    if (error != null && !attempt.committing) fail(attempt, { error, ofBody: true });
  });
  const onAbort = (): void => fail(attempt, { error: abortedError(signal), ofBody: false });
  signal.addEventListener("abort", onAbort, { once: true });
  if (signal.aborted) onAbort();
  return () => signal.removeEventListener("abort", onAbort);
}

async function send(attempt: Attempt): Promise<void> {
  const { store, body, options, stop } = attempt;
  stop.signal.throwIfAborted();
  const late = new AbortController();
  let timer: NodeJS.Timeout | undefined;
  stop.signal.addEventListener("abort", () => (timer = setTimeout(() => late.abort(), LAST_ANSWER_MS)), { once: true });
  const client = store.bind(stop.signal, late.signal);
  const memory = store.memories.borrow(options.partBytes, options.partsInMemory);
  try {
    await sendBody(attempt, partsOf(body, memory), client);
  } finally {
    clearTimeout(timer);
    store.memories.giveBack(memory);
  }
  // Stopped while the last request was under way, which came through.
  if (attempt.failure !== null) throw attempt.failure.error;
}

async function sendBody(attempt: Attempt, parts: AsyncGenerator<Part, void>, client: S3Client): Promise<void> {
  const first = await parts.next();
  if (first.done === true) return;
  if (first.value.isLast) await sendWhole(attempt, first.value, client);
  else await sendParts(attempt, continued(first.value, parts), client);
}

async function* continued(first: Part, rest: AsyncIterable<Part>): AsyncGenerator<Part> {
  yield first;
  yield* rest;
}

/** Sends a body of one part. */
async function sendWhole(attempt: Attempt, part: Part, client: S3Client): Promise<void> {
  const { store, key, options, resumable, signal } = attempt;
  const { data: Body } = part;
  notePart(attempt, part);
  const md5 = await openPartHasher(1).md5(Body);
  attempt.md5s.set(1, md5);
  if (resumable !== null) await abortUpload(store, resumable.upload, signal);
  // The body may have taken its time since the first look.
  await refuseExisting(attempt);
  attempt.committing = true;
  const Metadata = { ...options.metadata };
  const params = { Bucket: store.container, Key: key, Body, ContentMD5: md5.toString("base64"), ContentType: CONTENT_TYPE, Metadata };
  const { ETag } = await new Upload({ client, params, partSize: options.partBytes }).done();
  attempt.committedEtag = unquoted(ETag);
  noteStored(attempt, Body.length);
}

/** Asks what is stored now. @throws ARCHIVE_DAMAGED when it is not what was sent; it is removed then */
async function checkStored(attempt: Attempt): Promise<Stored> {
  const { store, key, signal, committedEtag } = attempt;
  const found = await headObject(store, key, signal);
  if (isWhatWasSent(attempt, found)) return receipt(attempt);
  const context = { key, expected: expectedEtag(attempt), committed: committedEtag, found: found?.etag, bytes: found?.bytes };
  store.log?.warn(context, "the store does not hold what was sent");
  // Only what the store said it had made of our upload is ours to delete.
  const isOurs = found !== null && found.etag === committedEtag;
  if (isOurs) await deleteObject(store, key, signal);
  throw new BackupError("ARCHIVE_DAMAGED", `the store does not hold what was sent for '${key}'`, {
    hint: isOurs ? "it was removed; if it happens again, distrust the store" : "find out what else writes to the container",
    context,
  });
}

/**
 * What has become of an upload that failed. It may have worked nevertheless, when only the answer was lost; otherwise its
 * parts stay, to be gone on with, unless the failure is about them.
 */
async function settle(attempt: Attempt): Promise<Stored> {
  const { failure, store, key, signal, uploadId } = attempt;
  const error = failure?.ofBody === true ? failure.error : store.translate(failure?.error, signal, key);
  if (attempt.committedEtag !== null) throw error;
  if (!attempt.committing) {
    if (failure?.ofBody !== true && !(error instanceof BackupError && passing.has(error.code))) await abandon(attempt);
    throw error;
  }
  const found = signal.aborted ? null : await headObject(store, key, signal).catch(() => null);
  if (isWhatWasSent(attempt, found)) return receipt(attempt);
  if (isRefusal(failure?.error)) {
    await abandon(attempt);
    throw found === null ? error : alreadyArchived(key);
  }
  // The store may be completing it at this moment: without its parts that would become a broken object.
  if (uploadId !== null) store.log?.warn({ key, uploadId }, "whether an upload was completed is unknown; it is left as it is");
  throw error;
}

/** Aborts the multipart upload, if there is one. Never fails. */
async function abandon({ store, key, uploadId, signal }: Attempt): Promise<void> {
  if (uploadId === null) return;
  const hurry = new AbortController();
  const onAbort = (): void => void setTimeout(() => hurry.abort(), HURRIED_CLEAN_UP_MS).unref();
  if (signal.aborted) onAbort();
  signal.addEventListener("abort", onAbort, { once: true });
  try {
    await withPatience(CLEAN_UP_MS, hurry.signal, (patience) => abortUpload(store, { key, uploadId }, patience));
  } catch (error) {
    store.log?.warn({ key, uploadId, error: describeError(error) }, "an unfinished upload could not be aborted; its parts stay");
  } finally {
    signal.removeEventListener("abort", onAbort);
  }
}

function isWhatWasSent(attempt: Attempt, found: ObjectDetails | null): boolean {
  return found !== null && found.bytes === attempt.sentBytes && found.etag === expectedEtag(attempt);
}

function receipt(attempt: Attempt): Stored {
  const { sentBytes: bytes, md5s, resumedBytes } = attempt;
  return { bytes, etag: expectedEtag(attempt), parts: md5s.size, resumedBytes };
}
