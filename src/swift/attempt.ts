// swift/: the network. It knows a container and its objects: names, bytes, ETags, metadata; how they travel, what is
// tried again, what a store's refusal means. @aws-sdk is imported nowhere else.
// What never comes in: snapshots, chains, plans, streams of btrfs. What an object holds is not known here.
//
// Here: what is known of an upload under way, and how it becomes known: by a look at every request of lib-storage.

import { createHash } from "node:crypto";
import { setMaxListeners } from "node:events";
import type { Readable } from "node:stream";
import { setImmediate as nextTurn } from "node:timers/promises";
import type { S3Client, ServiceInputTypes, ServiceOutputTypes } from "@aws-sdk/client-s3";
import { BackupError } from "../errors.ts";
import type { PutOptions } from "../operations/edges.ts";
import { multipartEtag } from "./etag.ts";
import { headObject } from "./objects.ts";
import type { Resumable } from "./resume.ts";
import type { Store } from "./store.ts";

/** As much is hashed before other things get their turn: 4 MiB of MD5 are 6 ms. */
const HASH_PIECE_BYTES = 4 * 1024 * 1024;

/** What to store. */
export interface Put {
  readonly key: string;
  readonly body: Readable;
  readonly options: PutOptions;
}

/** What is known of an upload under way. */
export interface Attempt extends Put {
  readonly store: Store;
  /** The caller's. */
  readonly signal: AbortSignal;
  /** Ends the requests of this upload. */
  readonly stop: AbortController;
  /** By part number; the MD5 of an object in one piece is that of part 1. */
  readonly md5s: Map<number, Buffer>;
  /** The upload that is gone on with; null when a new one is begun. */
  resumable: Resumable | null;
  /** How much of what was to be sent was there already. */
  resumedBytes: number;
  /** Of the multipart upload; null when there is none, or not yet. */
  uploadId: string | null;
  sentBytes: number;
  confirmedBytes: number;
  /** The request that makes the object appear has been sent: it may have worked even when it seems to have failed. */
  committing: boolean;
  /** The object's ETag in the store's answer to that request; null when there was none. */
  committedEtag: string | null;
  failure: Failure | null;
}

export interface Failure {
  readonly error: unknown;
  /** True for what the body was destroyed with, which is passed on as it is. */
  readonly ofBody: boolean;
}

export function newAttempt(store: Store, put: Put, signal: AbortSignal): Attempt {
  const stop = new AbortController();
  // Each part in flight listens to it; Node takes more than ten for a leak, and says so on stderr.
  setMaxListeners(0, stop.signal);
  return {
    ...put,
    store,
    signal,
    stop,
    md5s: new Map(),
    resumable: null,
    resumedBytes: 0,
    uploadId: null,
    sentBytes: 0,
    confirmedBytes: 0,
    committing: false,
    committedEtag: null,
    failure: null,
  };
}

/** Notes the first failure, the cause of all that follow, and stops everything; the body too, as it may be idle just now. */
export function fail(attempt: Attempt, failure: Failure): void {
  if (attempt.failure !== null) return;
  attempt.failure = failure;
  attempt.stop.abort();
  attempt.body.destroy();
}

/** The ETag that the object has when the store holds what was sent. */
export function expectedEtag({ md5s, uploadId }: Attempt): string {
  const inOrder = [...md5s].toSorted(([a], [b]) => a - b).map(([, md5]) => md5);
  return uploadId === null ? (inOrder[0]?.toString("hex") ?? "") : multipartEtag(inOrder);
}

/** Puts the attempt between lib-storage and its client. */
export function attend(client: S3Client, attempt: Attempt): void {
  client.middlewareStack.add(
    (next, { commandName }) => async (args) => {
      try {
        const input = await prepare(attempt, args.input);
        const known = knownAnswer(attempt, commandName, input);
        // What the store has told or kept before is not asked again.
        const result = known === null ? await next({ ...args, input }) : { output: known, response: null };
        noteAnswer(attempt, input, result.output);
        return result;
      } catch (error) {
        fail(attempt, { error, ofBody: false });
        throw error;
      }
    },
    { step: "initialize", name: "attendUpload" },
  );
  client.middlewareStack.add(
    (next) => async (args) => {
      const headers = readHeaders(args.request);
      // The MD5 is signed, needed for the ETag anyway, and enough; a SHA-256 as well would cost 0.6 CPU seconds a GiB.
      if (headers !== null && "content-md5" in headers) headers["x-amz-content-sha256"] = "UNSIGNED-PAYLOAD";
      return next(args);
    },
    { step: "build", name: "leavePayloadUnsigned" },
  );
}

/** @throws ALREADY_ARCHIVED when there is an object under the key */
export async function refuseExisting({ store, key, signal }: Attempt): Promise<void> {
  if ((await headObject(store, key, signal)) !== null) throw alreadyArchived(key);
}

export function alreadyArchived(key: string): BackupError {
  return new BackupError("ALREADY_ARCHIVED", `'${key}' is already in the container`, { context: { key } });
}

/** The request as it is to be sent. */
async function prepare(attempt: Attempt, input: ServiceInputTypes): Promise<ServiceInputTypes> {
  if ("MultipartUpload" in input) {
    refuseLeftovers(attempt);
    attempt.committing = true;
    // Swift's only way to create an object only where there is none; a PutObject that asks for it is refused (501).
    return { ...input, IfNoneMatch: "*" };
  }
  if (!("Body" in input && input.Body instanceof Uint8Array)) return input;
  const part = "PartNumber" in input ? input.PartNumber : undefined;
  const md5 = await notePart(attempt, part ?? 1, input.Body);
  if (part === undefined) {
    // The body may have taken its time since the first look.
    await refuseExisting(attempt);
    attempt.committing = true;
  }
  return { ...input, ContentMD5: md5.toString("base64") };
}

async function notePart(attempt: Attempt, part: number, data: Uint8Array): Promise<Buffer> {
  const { store, key, options } = attempt;
  if (part === 1 && data.length === 0) throw empty(key);
  if (part > store.limits.partsPerUpload) throw tooLong(key, options.partBytes, store.limits.partsPerUpload);
  const hash = createHash("md5");
  for (let at = 0; at < data.length; at += HASH_PIECE_BYTES) {
    hash.update(data.subarray(at, at + HASH_PIECE_BYTES));
    await nextTurn();
  }
  const md5 = hash.digest();
  attempt.md5s.set(part, md5);
  attempt.sentBytes += data.length;
  return md5;
}

/** The answer that needs no request: the upload that is gone on with, and parts of it that are those of this body. */
function knownAnswer(
  attempt: Attempt,
  commandName: string | undefined,
  input: ServiceInputTypes,
): ServiceOutputTypes | null {
  const { resumable, md5s } = attempt;
  if (resumable === null) return null;
  if (commandName === "CreateMultipartUploadCommand") return { UploadId: resumable.upload.uploadId, $metadata: {} };
  if (!("PartNumber" in input && "Body" in input && input.Body instanceof Uint8Array)) return null;
  const number = input.PartNumber ?? 1;
  const stored = resumable.parts.get(number);
  const etag = md5s.get(number)?.toString("hex");
  if (stored === undefined || stored.etag !== etag || stored.bytes !== input.Body.length) {
    // The first part says whose stream it is, and so which metadata the upload was begun with.
    if (number === 1) throw resumeRefused(attempt.key);
    return null;
  }
  attempt.resumedBytes += stored.bytes;
  return { ETag: `"${etag}"`, $metadata: {} };
}

/** Parts behind the end of this body would stay in the store for ever, and nobody would see them. */
function refuseLeftovers({ resumable, md5s, key }: Attempt): void {
  if (resumable !== null && Math.max(...resumable.parts.keys()) > md5s.size) throw resumeRefused(key);
}

function resumeRefused(key: string): BackupError {
  return new BackupError("RESUME_REFUSED", `what was stored of '${key}' before is not the beginning of what it is now`, {
    context: { key },
  });
}

function noteAnswer(attempt: Attempt, input: ServiceInputTypes, output: ServiceOutputTypes): void {
  const etag = "ETag" in output && typeof output.ETag === "string" ? output.ETag.replaceAll('"', "") : "";
  if ("MultipartUpload" in input) {
    attempt.committedEtag = etag;
  } else if ("Body" in input && input.Body instanceof Uint8Array) {
    if ("PartNumber" in input) checkPart(attempt, input.PartNumber ?? 1, etag);
    else attempt.committedEtag = etag;
    attempt.confirmedBytes += input.Body.length;
    attempt.options.onProgress?.(attempt.confirmedBytes);
  } else if ("UploadId" in output && typeof output.UploadId === "string") {
    attempt.uploadId = output.UploadId;
  }
}

function checkPart({ md5s, key }: Attempt, part: number, etag: string): void {
  const expected = md5s.get(part)?.toString("hex");
  if (etag === expected) return;
  throw new BackupError("ARCHIVE_DAMAGED", `the store has not kept part ${String(part)} of '${key}' as it was sent`, {
    hint: "nothing was stored; if it happens again, distrust the store",
    context: { key, part, expected, found: etag },
  });
}

function readHeaders(request: unknown): Record<string, unknown> | null {
  const headers: unknown = isRecord(request) ? request["headers"] : null;
  return isRecord(headers) ? headers : null;
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null;
}

/** An empty body is never an archive, but what is left of a process that died before it wrote anything. */
function empty(key: string): BackupError {
  return new BackupError("INTERNAL", `there is nothing to store under '${key}'`, { context: { key } });
}

function tooLong(key: string, partBytes: number, parts: number): BackupError {
  return new BackupError("STREAM_TOO_LONG", `'${key}' is longer than ${String(parts)} parts of ${String(partBytes)} bytes`, {
    hint: "allow more memory, so that parts can be larger",
    context: { key, partBytes, parts },
  });
}
