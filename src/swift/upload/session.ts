// The record of an upload under way. Only its own methods change it.

import { setMaxListeners } from "node:events";
import type { Readable } from "node:stream";
import { BackupError } from "../../errors.ts";
import { multipartEtag } from "../etag.ts";
import type { Completed } from "../leftovers.ts";
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

export interface Failure {
  readonly error: unknown;
  /** True for what the body was destroyed with, which is passed on as it is. */
  readonly ofBody: boolean;
}

/** An upload under way: the facts about it, and every way to change them. */
export class UploadSession implements Put {
  readonly store: Store;
  readonly key: string;
  readonly body: Readable;
  readonly options: PutOptions;
  /** The caller's. */
  readonly signal: AbortSignal;
  readonly #stop = new AbortController();
  /** By part number, as far as they are known; the MD5 of an object in one piece is that of part 1. */
  readonly #md5s = new Map<number, Buffer>();
  /** How much of each part that is not confirmed yet the network has taken. */
  readonly #inFlight = new Map<Uint8Array, number>();
  #resumable: Resumable | null = null;
  #uploadId: string | null = null;
  #sentBytes = 0;
  #confirmedBytes = 0;
  #resumedBytes = 0;
  #isCommitting = false;
  #committedEtag: string | null = null;
  #failure: Failure | null = null;

  constructor(store: Store, { key, body, options }: Put, signal: AbortSignal) {
    this.store = store;
    this.key = key;
    this.body = body;
    this.options = options;
    this.signal = signal;
    // Each part in flight listens to it; Node reports more than ten listeners on stderr, as a leak.
    setMaxListeners(0, this.#stop.signal);
  }

  /** Ends the requests of this upload. */
  get stopped(): AbortSignal {
    return this.#stop.signal;
  }

  /** The upload that is resumed; null when a new one is begun. */
  get resumable(): Resumable | null {
    return this.#resumable;
  }

  /** The multipart upload's id; null when there is none, or not yet. */
  get uploadId(): string | null {
    return this.#uploadId;
  }

  /** True once the store has a part. */
  get holdsParts(): boolean {
    return this.#confirmedBytes > 0;
  }

  /** The request that makes the object appear has been sent: it may have worked even when it seems to have failed. */
  get isCommitting(): boolean {
    return this.#isCommitting;
  }

  /** The object's ETag in the store's answer to that request; null when there was none. */
  get committedEtag(): string | null {
    return this.#committedEtag;
  }

  get failure(): Failure | null {
    return this.#failure;
  }

  /** Keeps the first failure, the cause of all that follow, and stops everything; the body too, as it may be idle just now. */
  fail({ error, ofBody }: Failure): void {
    if (this.#failure !== null) return;
    // The reader of the body may get its failure before the listeners do.
    this.#failure = { error, ofBody: ofBody || (error instanceof Error && error === this.body.errored) };
    this.#stop.abort();
    this.body.destroy();
  }

  throwIfFailed(): void {
    if (this.#failure !== null) throw this.#failure.error;
  }

  /** Chooses the open upload to resume; null = none. */
  resume(resumable: Resumable | null): void {
    this.#resumable = resumable;
  }

  /** From here on the body goes in parts, to this multipart upload. */
  beginMultipart(uploadId: string): void {
    this.#uploadId = uploadId;
  }

  /** Counts a part to send. @throws STREAM_TOO_LONG */
  countPart({ number, data }: Part): void {
    const most = this.store.limits.partsPerUpload;
    if (number > most) throw tooLong(this.key, this.options.partBytes, most);
    this.#sentBytes += data.length;
  }

  /**
   * Keeps the MD5 of a part. Returns true when the store has the part already.
   * @throws RESUME_REFUSED when it has another part of that number: an upload that was not begun in this run may be completed
   * at this moment, and a part that is replaced then leaves an object that cannot be read (Swift 2.30 to 2.38)
   */
  isAlreadyUploaded({ number, data }: Part, md5: Buffer): boolean {
    this.#md5s.set(number, md5);
    const stored = this.#resumable?.parts.get(number);
    if (stored === undefined) return false;
    if (stored.etag !== md5.toString("hex") || stored.bytes !== data.length) throw resumeRefused(this.key);
    this.#resumedBytes += data.length;
    return true;
  }

  /** Counts how much of a part the network has taken. A request that begins again begins at 0. */
  recordSent(part: Uint8Array, bytes: number): void {
    const more = bytes - (this.#inFlight.get(part) ?? 0);
    this.#inFlight.set(part, bytes);
    if (more > 0) this.store.parallelism.moved(more);
    if (more !== 0) this.#reportProgress();
  }

  /** Counts a part that the store has. */
  recordStored(part: Uint8Array): void {
    this.#inFlight.delete(part);
    this.#confirmedBytes += part.length;
    this.#reportProgress();
  }

  /** Returns the completion of the upload, to be sent now: from here on the object may appear. @throws RESUME_REFUSED */
  commit(): Completed {
    // Parts behind the end of this body would stay in the store forever, and nobody would see them.
    const stored = this.#resumable?.parts.keys() ?? [];
    if (Math.max(0, ...stored) > this.#md5s.size) throw resumeRefused(this.key);
    this.#isCommitting = true;
    return this.completion();
  }

  /** A body of one part is sent now, by the one request that makes the object appear. */
  commitByPut({ data }: Part, md5: Buffer): void {
    this.#isCommitting = true;
    this.#md5s.set(1, md5);
    this.#sentBytes = data.length;
  }

  /** The store does not know that request, and has stored nothing. */
  withdrawPut(): void {
    this.#isCommitting = false;
    this.#md5s.clear();
    this.#sentBytes = 0;
  }

  /** The store has answered that the object is there. */
  recordCommitted(etag: string): void {
    this.#committedEtag = etag;
  }

  /** The completion of the upload: its parts in order. */
  completion(): Completed {
    const parts = this.#inOrder().map(([number, md5]) => ({ PartNumber: number, ETag: `"${md5.toString("hex")}"` }));
    return { key: this.key, uploadId: this.#uploadId ?? "", parts };
  }

  /** The ETag that the object has when the store holds the bytes sent. */
  expectedEtag(): string {
    const md5s = this.#inOrder().map(([, md5]) => md5);
    return this.#uploadId === null ? (md5s[0]?.toString("hex") ?? "") : multipartEtag(md5s);
  }

  /** True when the store has the bytes sent, with their metadata. */
  isWhatWasSent(found: ObjectDetails | null): boolean {
    if (found === null || found.bytes !== this.#sentBytes || found.etag !== this.expectedEtag()) return false;
    // A resumed upload keeps the metadata it was begun with, perhaps by an earlier version of this program.
    if (this.#resumable !== null) return true;
    // Another machine may have stored the same bytes; their metadata shows what they are.
    return Object.entries(this.options.metadata).every(([name, value]) => found.metadata[name] === value);
  }

  /** The stored object, as it was sent. */
  receipt(): Stored {
    const md5s = this.#inOrder().map(([, md5]) => md5);
    const [bytes, resumedBytes] = [this.#sentBytes, this.#resumedBytes];
    return { bytes, etag: this.expectedEtag(), parts: md5s.length, md5s, resumedBytes };
  }

  #inOrder(): readonly (readonly [number: number, md5: Buffer])[] {
    return [...this.#md5s].toSorted(([a], [b]) => a - b);
  }

  #reportProgress(): void {
    const inFlight = [...this.#inFlight.values()].reduce((sum, bytes) => sum + bytes, 0);
    this.options.onProgress?.({ stored: this.#confirmedBytes, resumed: this.#resumedBytes, inFlight });
  }
}

function resumeRefused(key: string): BackupError {
  return new BackupError(
    "RESUME_REFUSED",
    `what was stored of '${key}' before is not the beginning of what would be stored now`,
    { context: { key } },
  );
}

function tooLong(key: string, partBytes: number, parts: number): BackupError {
  return new BackupError(
    "STREAM_TOO_LONG",
    `'${key}' is longer than ${String(parts)} parts of ${String(partBytes)} bytes`,
    { hint: "allow more memory, so that parts can be larger", context: { key, partBytes, parts } },
  );
}
