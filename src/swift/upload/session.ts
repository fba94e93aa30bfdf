// swift/: the network. It knows a container and its objects: names, bytes, ETags, metadata; how they travel, which
// requests are retried, and the meaning of a store's refusal. @aws-sdk is imported nowhere else. It does not know
// snapshots, chains, plans, streams of btrfs, or the content of an object.
//
// Here: the known facts about an upload under way.

import { setMaxListeners } from "node:events";
import type { Readable } from "node:stream";
import { BackupError, alreadyArchived, nothingToStore } from "../../errors.ts";
import { multipartEtag } from "../etag.ts";
import type { Completed } from "../leftovers.ts";
import { headObject } from "../objects.ts";
import type { Part } from "./part-buffers.ts";
import type { Resumable } from "./open-uploads.ts";
import type { Store } from "../context.ts";
import type { PutOptions, ObjectDetails, Stored } from "../../operations/store-ports.ts";

/** The object to store. */
export interface Put {
  readonly key: string;
  readonly body: Readable;
  readonly options: PutOptions;
}

/** Known facts about an upload under way. */
export interface UploadSession extends Put {
  readonly store: Store;
  /** The caller's. */
  readonly signal: AbortSignal;
  /** Ends the requests of this upload. */
  readonly stop: AbortController;
  /** By part number, as far as they are known; the MD5 of an object in one piece is that of part 1. */
  readonly md5s: Map<number, Buffer>;
  /** Open uploads of this key that may be resumed. */
  earlier: readonly Resumable[];
  /** The upload that is resumed; null when a new one is begun. */
  resumable: Resumable | null;
  /** The bytes that an earlier run had already sent. */
  resumedBytes: number;
  /** The multipart upload's id; null when there is none, or not yet. */
  uploadId: string | null;
  sentBytes: number;
  confirmedBytes: number;
  /** How much of each part that is not confirmed yet the network has taken. */
  readonly inFlight: Map<Uint8Array, number>;
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

export function newUploadSession(store: Store, put: Put, signal: AbortSignal): UploadSession {
  const stop = new AbortController();
  // Each part in flight listens to it; Node takes more than ten for a leak, and says so on stderr.
  setMaxListeners(0, stop.signal);
  return {
    ...put,
    store,
    signal,
    stop,
    md5s: new Map(),
    earlier: [],
    resumable: null,
    resumedBytes: 0,
    uploadId: null,
    sentBytes: 0,
    confirmedBytes: 0,
    inFlight: new Map(),
    committing: false,
    committedEtag: null,
    failure: null,
  };
}

/** Notes the first failure, the cause of all that follow, and stops everything; the body too, as it may be idle just now. */
export function fail(session: UploadSession, failure: Failure): void {
  if (session.failure !== null) return;
  const { error } = failure;
  // The reader of the body may get its failure before the listeners do.
  const ofBody = failure.ofBody || (error instanceof Error && error === session.body.errored);
  session.failure = { error, ofBody };
  session.stop.abort();
  session.body.destroy();
}

/** The ETag that the object has when the store holds the bytes sent. */
export function expectedEtag({ md5s, uploadId }: UploadSession): string {
  const inOrder = [...md5s].toSorted(([a], [b]) => a - b).map(([, md5]) => md5);
  return uploadId === null ? (inOrder[0]?.toString("hex") ?? "") : multipartEtag(inOrder);
}

/** The completion of the upload: its parts in order. */
export function completionOf({ key, uploadId, md5s }: UploadSession): Completed {
  const numbers = [...md5s.keys()].toSorted((a, b) => a - b);
  const parts = numbers.map((number) => ({ PartNumber: number, ETag: `"${md5s.get(number)?.toString("hex") ?? ""}"` }));
  return { key, uploadId: uploadId ?? "", parts };
}

/** @throws ALREADY_ARCHIVED when there is an object under the key */
export async function assertAbsent({ store, key, signal }: UploadSession): Promise<void> {
  if ((await headObject(store, key, signal)) !== null) throw alreadyArchived(key);
}

/** An empty body is never an archive; it comes from a process that died before it wrote anything. @throws INTERNAL */
export function assertNotEmpty({ key }: UploadSession, { data }: Part): void {
  if (data.length === 0) throw nothingToStore(key);
}

/** Records a part to send. @throws STREAM_TOO_LONG */
export function recordPart(session: UploadSession, { number, data }: Part): void {
  const { store, key, options } = session;
  if (number > store.limits.partsPerUpload) throw tooLong(key, options.partBytes, store.limits.partsPerUpload);
  session.sentBytes += data.length;
}

/** Notes how much of a part the network has taken. A request that begins again begins at 0. */
export function recordSent(session: UploadSession, part: Uint8Array, bytes: number): void {
  const { inFlight, store } = session;
  const more = bytes - (inFlight.get(part) ?? 0);
  inFlight.set(part, bytes);
  if (more > 0) store.parallelism.moved(more);
  if (more !== 0) reportProgress(session);
}

/** Notes that the store has a part. */
export function recordStored(session: UploadSession, part: Uint8Array): void {
  session.inFlight.delete(part);
  session.confirmedBytes += part.length;
  reportProgress(session);
}

function reportProgress({ inFlight, confirmedBytes, resumedBytes, options }: UploadSession): void {
  const inFlightBytes = [...inFlight.values()].reduce((sum, bytes) => sum + bytes, 0);
  options.onProgress?.({ stored: confirmedBytes, resumed: resumedBytes, inFlight: inFlightBytes });
}

function tooLong(key: string, partBytes: number, parts: number): BackupError {
  return new BackupError(
    "STREAM_TOO_LONG",
    `'${key}' is longer than ${String(parts)} parts of ${String(partBytes)} bytes`,
    { hint: "allow more memory, so that parts can be larger", context: { key, partBytes, parts } },
  );
}

export function isWhatWasSent(session: UploadSession, found: ObjectDetails | null): boolean {
  if (found === null || found.bytes !== session.sentBytes || found.etag !== expectedEtag(session)) return false;
  // A resumed upload keeps the metadata it was begun with, perhaps by an earlier version of this program.
  if (session.resumable !== null) return true;
  // Another machine may have stored the same bytes; their metadata shows what they are.
  return Object.entries(session.options.metadata).every(([name, value]) => found.metadata[name] === value);
}

export function receipt(session: UploadSession): Stored {
  const { sentBytes: bytes, md5s, resumedBytes } = session;
  const inOrder = [...md5s].toSorted(([a], [b]) => a - b).map(([, md5]) => md5);
  return { bytes, etag: expectedEtag(session), parts: md5s.size, md5s: inOrder, resumedBytes };
}
