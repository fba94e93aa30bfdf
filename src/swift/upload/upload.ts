// Storing an object: all of the body, under a key that was free, or nothing.
// What fits one part goes in one request, by lib-storage, where the store takes it only if the key is free; all else by
// multipart.ts. What they leave open is settled here: what becomes of an upload that is given up, and whether the store
// has what was sent.

import { finished } from "node:stream";
import type { S3Client } from "@aws-sdk/client-s3";
import { Upload } from "@aws-sdk/lib-storage";
import { abortedError, BackupError, type FailureCode } from "../../errors.ts";
import type { ObjectDetails, Stored } from "../../operations/ports.ts";
import {
  alreadyArchived,
  completionOf,
  expectedEtag,
  fail,
  newAttempt,
  noteSent,
  noteStored,
  refuseEmpty,
  refuseExisting,
  type Attempt,
  type Put,
} from "./session.ts";
import { describeError, isFinalRefusal, isNotImplemented, refusesParts } from "../errors.ts";
import { unquoted } from "../etag.ts";
import { openPartHasher } from "./part-hasher.ts";
import { abortUpload, forgetUpload } from "../leftovers.ts";
import { CONTENT_TYPE, sendParts } from "./multipart.ts";
import { checkKey, checkMetadata } from "../names.ts";
import { deleteObject, headObject } from "../objects.ts";
import { partsOf, type Part } from "./part-buffers.ts";
import { withPatience } from "../timeout.ts";
import { chooseResumable, findResumable } from "./open-uploads.ts";
import type { Store } from "../context.ts";

/** How long the answer to an upload's creation or completion is still waited for when everything else was stopped. */
const LAST_ANSWER_MS = 1_000;
/** How long it is tried to abort an upload that came to nothing; and how long when the run is to stop. */
const CLEAN_UP_MS = 60_000;
const HURRIED_CLEAN_UP_MS = 700;

/** Failures that say something against what is stored of an upload: it is of no use any more. All others keep it. */
const againstParts: ReadonlySet<FailureCode> = new Set(["ARCHIVE_DAMAGED", "STREAM_TOO_LONG"]);

/** See {@link import("../../operations/ports.ts").Container.put}. */
export async function putObject(store: Store, put: Put, signal: AbortSignal): Promise<Stored> {
  const attempt = newAttempt(store, put, signal);
  const unwatch = watch(attempt);
  const { key, options } = put;
  try {
    checkKey(key);
    checkMetadata(options.metadata);
    await refuseExisting(attempt);
    if (options.resume === true)
      attempt.earlier = await findResumable(store, { key, partBytes: options.partBytes }, signal);
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
  const client = store.bind(stop.signal, late.signal, (part, bytes) => noteSent(attempt, part, bytes));
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
  const { value: part } = first;
  refuseEmpty(attempt, part);
  if (part.isLast && attempt.store.creation.byPut && (await sendWhole(attempt, part, client))) return;
  if (attempt.earlier.length > 0) {
    const md5 = await openPartHasher(1).md5(part.data);
    attempt.resumable = chooseResumable(attempt.earlier, { etag: md5.toString("hex"), bytes: part.data.length });
  }
  await sendParts(attempt, continued(part, parts), client);
}

async function* continued(first: Part, rest: AsyncIterable<Part>): AsyncGenerator<Part> {
  yield first;
  yield* rest;
}

/** Sends a body of one part. False when the store takes no conditional PUT after all: nothing was stored then. */
async function sendWhole(attempt: Attempt, part: Part, client: S3Client): Promise<boolean> {
  const { store, key, options } = attempt;
  const { data: Body } = part;
  const md5 = await openPartHasher(1).md5(Body);
  const Metadata = { ...options.metadata };
  const what = {
    Bucket: store.container,
    Key: key,
    Body,
    ContentMD5: md5.toString("base64"),
    ContentType: CONTENT_TYPE,
    Metadata,
  };
  const params = { ...what, IfNoneMatch: "*" };
  attempt.committing = true;
  attempt.md5s.set(1, md5);
  attempt.sentBytes = Body.length;
  try {
    const { ETag } = await new Upload({ client, params, partSize: options.partBytes }).done();
    attempt.committedEtag = unquoted(ETag);
  } catch (error) {
    if (!isNotImplemented(error)) throw error;
    store.creation.byPut = false;
    attempt.committing = false;
    attempt.md5s.clear();
    attempt.sentBytes = 0;
    return false;
  }
  noteStored(attempt, Body);
  return true;
}

/** Asks what is stored now. @throws ARCHIVE_DAMAGED when it is not what was sent, ALREADY_ARCHIVED when it is another's */
async function checkStored(attempt: Attempt): Promise<Stored> {
  const { store, key, signal, committedEtag } = attempt;
  const found = await headObject(store, key, signal);
  if (isWhatWasSent(attempt, found)) return receipt(attempt);
  const context = {
    key,
    expected: expectedEtag(attempt),
    committed: committedEtag,
    found: found?.etag,
    bytes: found?.bytes,
  };
  store.log?.warn(context, "the store does not hold what was sent");
  // Somebody writes to the container who does not look whether a key is free.
  if (found !== null && found.etag !== committedEtag) throw alreadyArchived(key);
  // Only what the store said it had made of our upload is ours to delete; it is what a HEAD has shown a moment ago.
  const isOurs = found !== null && committedEtag !== expectedEtag(attempt);
  if (isOurs) await deleteObject(store, key, signal);
  throw new BackupError("ARCHIVE_DAMAGED", `the store does not hold what was sent for '${key}'`, {
    hint: isOurs
      ? "it was removed; if it happens again, distrust the store"
      : "find out what else writes to the container",
    context,
  });
}

/**
 * What has become of an upload that failed. It may have worked nevertheless, when only the answer was lost; otherwise its
 * parts stay, to be resumed, unless the failure is about them or nothing could resume them.
 */
async function settle(attempt: Attempt): Promise<Stored> {
  const { failure, store, key, signal } = attempt;
  const error = failure?.ofBody === true ? failure.error : store.translate(failure?.error, signal, key);
  if (attempt.committedEtag !== null) throw error;
  if (!attempt.committing) {
    const code = error instanceof BackupError ? error.code : null;
    // Where there is no room, what holds nothing is not worth to be told of.
    const holdsNothing = code === "QUOTA_EXCEEDED" && attempt.confirmedBytes === 0;
    const useless = attempt.options.resumable === false || holdsNothing || (code !== null && againstParts.has(code));
    throw withFate(error, { stays: attempt.uploadId !== null && !(useless && (await abandon(attempt))), attempt });
  }
  const found = await lookAgain(attempt);
  if (found !== "unknown" && isWhatWasSent(attempt, found)) {
    if (attempt.uploadId !== null) await forgetUpload(store, completionOf(attempt), signal);
    return receipt(attempt);
  }
  const stays = attempt.uploadId !== null && !(isOver(attempt, found) && (await abandon(attempt)));
  if (stays && !isFinalRefusal(failure?.error)) {
    store.log?.warn(
      { key, uploadId: attempt.uploadId },
      "whether an upload was completed is unknown; it is left as it is",
    );
  }
  throw found === "unknown" || found === null ? withFate(error, { stays, attempt }) : alreadyArchived(key);
}

/** What is under the key after a completion that failed. A HEAD that fails, too, says nothing. */
async function lookAgain({ store, key, signal }: Attempt): Promise<ObjectDetails | null | "unknown"> {
  if (signal.aborted) return "unknown";
  return await headObject(store, key, signal).catch(() => "unknown");
}

/**
 * True when the completion of an upload was sent once and refused at once, and can bring nothing any more: for what it says
 * about the parts, because nobody could send it again, or because another object is there. Otherwise the store may be
 * completing it at this moment, and without its parts that would become a broken object.
 */
function isOver(attempt: Attempt, found: ObjectDetails | null | "unknown"): boolean {
  const { failure, options } = attempt;
  if (found === "unknown" || !isFinalRefusal(failure?.error)) return false;
  if (found !== null) return found.etag !== expectedEtag(attempt);
  return options.resumable === false || refusesParts(failure?.error);
}

/** Says what is left of an upload that is in want of room: nobody knows by themselves. */
function withFate(error: unknown, { stays, attempt }: { readonly stays: boolean; readonly attempt: Attempt }): unknown {
  if (!(error instanceof BackupError) || error.code !== "QUOTA_EXCEEDED") return error;
  const resumed = attempt.options.resumable === false ? "a later run removes it" : "the next run resumes it";
  const left = stays ? `what was sent of it stays in the store, and ${resumed}` : "nothing of it stays in the store";
  return new BackupError(error.code, error.message, {
    context: error.context,
    cause: error.cause,
    hint: `${error.hint ?? ""}; ${left}`,
  });
}

/** Aborts the upload if this run began it; one of an earlier run may be completed at this moment. True when it is gone. */
async function abandon({ store, key, uploadId, resumable, signal }: Attempt): Promise<boolean> {
  if (uploadId === null || resumable !== null) return false;
  const hurry = new AbortController();
  const onAbort = (): void => void setTimeout(() => hurry.abort(), HURRIED_CLEAN_UP_MS).unref();
  if (signal.aborted) onAbort();
  signal.addEventListener("abort", onAbort, { once: true });
  try {
    await withPatience(CLEAN_UP_MS, hurry.signal, (patience) => abortUpload(store, { key, uploadId }, patience));
    return true;
  } catch (error) {
    store.log?.warn(
      { key, uploadId, error: describeError(error) },
      "an unfinished upload could not be aborted; its parts stay",
    );
    return false;
  } finally {
    signal.removeEventListener("abort", onAbort);
  }
}

function isWhatWasSent(attempt: Attempt, found: ObjectDetails | null): boolean {
  if (found === null || found.bytes !== attempt.sentBytes || found.etag !== expectedEtag(attempt)) return false;
  // Another machine may have stored the same bytes; what they are is told by their metadata.
  return Object.entries(attempt.options.metadata).every(([name, value]) => found.metadata[name] === value);
}

function receipt(attempt: Attempt): Stored {
  const { sentBytes: bytes, md5s, resumedBytes } = attempt;
  const inOrder = [...md5s].toSorted(([a], [b]) => a - b).map(([, md5]) => md5);
  return { bytes, etag: expectedEtag(attempt), parts: md5s.size, md5s: inOrder, resumedBytes };
}
