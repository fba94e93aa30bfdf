// Stores an object: all of the body, under a key that was free, or nothing. A body of one part goes in one request, by
// lib-storage, if the store supports the condition that the key is free. Every other body goes by multipart.ts. In both
// cases a check at the end shows whether the store has the bytes that were sent.

import { finished } from "node:stream";
import type { S3Client } from "@aws-sdk/client-s3";
import { Upload } from "@aws-sdk/lib-storage";
import { abortedError, BackupError, alreadyArchived, nothingToStore } from "../../errors.ts";
import { UploadSession, type Put } from "./session.ts";
import { unquoted } from "../etag.ts";
import { openPartHasher } from "../part-hasher.ts";
import { CONTENT_TYPE, sendParts } from "./multipart.ts";
import { checkKey, checkMetadata } from "../names.ts";
import { deleteObject, headObject } from "../objects.ts";
import { partsOf, type Part } from "./part-buffers.ts";
import { chooseResumable, findResumable, type Resumable } from "./open-uploads.ts";
import type { Store } from "../context.ts";
import type { Stored } from "../../operations/store-ports.ts";
import { isNotImplemented } from "../error-facts.ts";
import { resolveFailure } from "./failed-upload.ts";

/** How long the answer to an upload's creation or completion is still waited for when everything else was stopped. */
const LAST_ANSWER_MS = 1_000;

/** See {@link import("../../operations/ports.ts").Container.put}. */
export async function putObject(store: Store, put: Put, signal: AbortSignal): Promise<Stored> {
  const session = new UploadSession(store, put, signal);
  const unwatch = watch(session);
  const { key, options } = put;
  try {
    checkKey(key);
    checkMetadata(options.metadata);
    if ((await headObject(store, key, signal)) !== null) throw alreadyArchived(key);
    const { resume = false, partBytes } = options;
    await send(session, resume ? await findResumable(store, { key, partBytes }, signal) : []);
    return await checkStored(session);
  } catch (error) {
    session.fail({ error, ofBody: false });
    return await resolveFailure(session);
  } finally {
    unwatch();
  }
}

/** Records a failure of the body, from the first moment on, and the end of the run. */
function watch(session: UploadSession): () => void {
  const { body, signal } = session;
  // Not undone: an error of the body that comes when all is over must not end the process.
  finished(body, { writable: false }, (error) => {
    if (error != null && !session.isCommitting) session.fail({ error, ofBody: true });
  });
  const onAbort = (): void => session.fail({ error: abortedError(signal), ofBody: false });
  signal.addEventListener("abort", onAbort, { once: true });
  if (signal.aborted) onAbort();
  return () => signal.removeEventListener("abort", onAbort);
}

/** @param earlier - open uploads of this key that may be resumed */
async function send(session: UploadSession, earlier: readonly Resumable[]): Promise<void> {
  const { store, body, options, stopped } = session;
  stopped.throwIfAborted();
  const late = new AbortController();
  let timer: NodeJS.Timeout | undefined;
  stopped.addEventListener("abort", () => (timer = setTimeout(() => late.abort(), LAST_ANSWER_MS)), { once: true });
  const client = store.bind(stopped, late.signal, (part, bytes) => session.recordSent(part, bytes));
  const memory = store.memories.acquire(options.partBytes, options.partsInMemory);
  try {
    const parts = partsOf(body, memory);
    const { value: first } = await parts.next();
    // An empty body is never an archive; it comes from a process that died before it wrote anything.
    if (first?.data.length === 0) throw nothingToStore(session.key);
    if (first !== undefined && !(await sendByPut(session, first, client))) {
      session.resume(await findBegun(first, earlier));
      await sendParts(session, continued(first, parts), client);
    }
  } finally {
    clearTimeout(timer);
    store.memories.release(memory);
  }
  // Stopped while the last request was under way, which came through.
  session.throwIfFailed();
}

/** The open upload that begins with this part; null when none does. */
async function findBegun({ data }: Part, earlier: readonly Resumable[]): Promise<Resumable | null> {
  if (earlier.length === 0) return null;
  const md5 = await openPartHasher(1).md5(data);
  return chooseResumable(earlier, { etag: md5.toString("hex"), bytes: data.length });
}

async function* continued(first: Part, rest: AsyncIterable<Part>): AsyncGenerator<Part> {
  yield first;
  yield* rest;
}

/**
 * Sends a body of one part in one request. Returns false, with nothing stored, when the body is longer or the store takes no
 * conditional PUT.
 */
async function sendByPut(session: UploadSession, part: Part, client: S3Client): Promise<boolean> {
  const { store, key, options } = session;
  if (!part.isLast || !store.creation.byPut) return false;
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
  session.commitByPut(part, md5);
  try {
    const { ETag } = await new Upload({ client, params, partSize: options.partBytes }).done();
    session.recordCommitted(unquoted(ETag));
  } catch (error) {
    if (!isNotImplemented(error)) throw error;
    store.creation.byPut = false;
    session.withdrawPut();
    return false;
  }
  session.recordStored(Body);
  return true;
}

/**
 * Asks for the stored object. @throws ARCHIVE_DAMAGED when it is not what was sent, ALREADY_ARCHIVED when it is
 * another's
 */
async function checkStored(session: UploadSession): Promise<Stored> {
  const { store, key, signal, committedEtag } = session;
  const found = await headObject(store, key, signal);
  if (session.isWhatWasSent(found)) return session.receipt();
  const context = {
    key,
    expected: session.expectedEtag(),
    committed: committedEtag,
    found: found?.etag,
    bytes: found?.bytes,
  };
  store.log?.warn(context, "the store does not hold what was sent");
  // Another program writes to the container without checking whether a key is free.
  if (found !== null && found.etag !== committedEtag) throw alreadyArchived(key);
  // Only the object that the store reported for our upload may be deleted; a HEAD has just shown that it is this one.
  const isOurs = found !== null && committedEtag !== session.expectedEtag();
  if (isOurs) await deleteObject(store, key, signal);
  throw new BackupError("ARCHIVE_DAMAGED", `the store does not hold what was sent for '${key}'`, {
    hint: isOurs
      ? "it was removed; if it happens again, do not trust the store"
      : "find out what else writes to the container",
    context,
  });
}
