// Stores an object: all of the body, under a key that was free, or nothing. A body that fits one part goes in one
// request, by lib-storage, where the store accepts it only if the key is free; all else goes by multipart.ts. Two
// questions of both are settled here: what happens to an upload that has failed, and whether the store has the bytes
// sent.

import { finished } from "node:stream";
import type { S3Client } from "@aws-sdk/client-s3";
import { Upload } from "@aws-sdk/lib-storage";
import { abortedError, BackupError, alreadyArchived } from "../../errors.ts";
import {
  expectedEtag,
  fail,
  newUploadSession,
  recordSent,
  recordStored,
  assertNotEmpty,
  assertAbsent,
  isWhatWasSent,
  receipt,
  type UploadSession,
  type Put,
} from "./session.ts";
import { unquoted } from "../etag.ts";
import { openPartHasher } from "./part-hasher.ts";
import { CONTENT_TYPE, sendParts } from "./multipart.ts";
import { checkKey, checkMetadata } from "../names.ts";
import { deleteObject, headObject } from "../objects.ts";
import { partsOf, type Part } from "./part-buffers.ts";
import { chooseResumable, findResumable } from "./open-uploads.ts";
import type { Store } from "../context.ts";
import type { Stored } from "../../operations/store-ports.ts";
import { isNotImplemented } from "../error-facts.ts";
import { resolveFailure } from "./failed-upload.ts";

/** How long the answer to an upload's creation or completion is still waited for when everything else was stopped. */
const LAST_ANSWER_MS = 1_000;

/** See {@link import("../../operations/ports.ts").Container.put}. */
export async function putObject(store: Store, put: Put, signal: AbortSignal): Promise<Stored> {
  const session = newUploadSession(store, put, signal);
  const unwatch = watch(session);
  const { key, options } = put;
  try {
    checkKey(key);
    checkMetadata(options.metadata);
    await assertAbsent(session);
    if (options.resume === true)
      session.earlier = await findResumable(store, { key, partBytes: options.partBytes }, signal);
    await send(session);
    return await checkStored(session);
  } catch (error) {
    fail(session, { error, ofBody: false });
    return await resolveFailure(session);
  } finally {
    unwatch();
  }
}

/** Notes how the body fails, from the first moment on, and that the run is to stop. */
function watch(session: UploadSession): () => void {
  const { body, signal } = session;
  // Not undone: an error of the body that comes when all is over must not end the process.
  finished(body, { writable: false }, (error) => {
    if (error != null && !session.committing) fail(session, { error, ofBody: true });
  });
  const onAbort = (): void => fail(session, { error: abortedError(signal), ofBody: false });
  signal.addEventListener("abort", onAbort, { once: true });
  if (signal.aborted) onAbort();
  return () => signal.removeEventListener("abort", onAbort);
}

export async function send(session: UploadSession): Promise<void> {
  const { store, body, options, stop } = session;
  stop.signal.throwIfAborted();
  const late = new AbortController();
  let timer: NodeJS.Timeout | undefined;
  stop.signal.addEventListener("abort", () => (timer = setTimeout(() => late.abort(), LAST_ANSWER_MS)), { once: true });
  const client = store.bind(stop.signal, late.signal, (part, bytes) => recordSent(session, part, bytes));
  const memory = store.memories.acquire(options.partBytes, options.partsInMemory);
  try {
    await sendBody(session, partsOf(body, memory), client);
  } finally {
    clearTimeout(timer);
    store.memories.release(memory);
  }
  // Stopped while the last request was under way, which came through.
  if (session.failure !== null) throw session.failure.error;
}

async function sendBody(session: UploadSession, parts: AsyncGenerator<Part, void>, client: S3Client): Promise<void> {
  const first = await parts.next();
  if (first.done === true) return;
  const { value: part } = first;
  assertNotEmpty(session, part);
  if (part.isLast && session.store.creation.byPut && (await sendWhole(session, part, client))) return;
  if (session.earlier.length > 0) {
    const md5 = await openPartHasher(1).md5(part.data);
    session.resumable = chooseResumable(session.earlier, { etag: md5.toString("hex"), bytes: part.data.length });
  }
  await sendParts(session, continued(part, parts), client);
}

async function* continued(first: Part, rest: AsyncIterable<Part>): AsyncGenerator<Part> {
  yield first;
  yield* rest;
}

/** Sends a body of one part. False when the store takes no conditional PUT after all: nothing was stored then. */
async function sendWhole(session: UploadSession, part: Part, client: S3Client): Promise<boolean> {
  const { store, key, options } = session;
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
  session.committing = true;
  session.md5s.set(1, md5);
  session.sentBytes = Body.length;
  try {
    const { ETag } = await new Upload({ client, params, partSize: options.partBytes }).done();
    session.committedEtag = unquoted(ETag);
  } catch (error) {
    if (!isNotImplemented(error)) throw error;
    store.creation.byPut = false;
    session.committing = false;
    session.md5s.clear();
    session.sentBytes = 0;
    return false;
  }
  recordStored(session, Body);
  return true;
}

/**
 * Asks for the stored object. @throws ARCHIVE_DAMAGED when it is not what was sent, ALREADY_ARCHIVED when it is
 * another's
 */
async function checkStored(session: UploadSession): Promise<Stored> {
  const { store, key, signal, committedEtag } = session;
  const found = await headObject(store, key, signal);
  if (isWhatWasSent(session, found)) return receipt(session);
  const context = {
    key,
    expected: expectedEtag(session),
    committed: committedEtag,
    found: found?.etag,
    bytes: found?.bytes,
  };
  store.log?.warn(context, "the store does not hold what was sent");
  // Another program writes to the container without checking whether a key is free.
  if (found !== null && found.etag !== committedEtag) throw alreadyArchived(key);
  // Only the object that the store reported for our upload may be deleted; a HEAD has just shown that it is this one.
  const isOurs = found !== null && committedEtag !== expectedEtag(session);
  if (isOurs) await deleteObject(store, key, signal);
  throw new BackupError("ARCHIVE_DAMAGED", `the store does not hold what was sent for '${key}'`, {
    hint: isOurs
      ? "it was removed; if it happens again, do not trust the store"
      : "find out what else writes to the container",
    context,
  });
}
