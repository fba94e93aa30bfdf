// The ports of the store: objects of a container as operations need them, and what is known about them.

import type { Readable } from "node:stream";
import type { StoreLimits } from "../plan/layout.ts";
import type { Encoding, Lineage } from "../plan/model.ts";
import type { PartDigests } from "../plan/proof.ts";
import type { DirectReadable } from "../stream/child-output.ts";
import type { Pieces } from "../stream/pieces.ts";

export type { DirectReadable };

/** An object as a listing describes it. */
export interface StoredObject {
  readonly key: string;
  readonly bytes: number;
  readonly modified: Date;
  /** Without quotes: an MD5, or for multipart objects the MD5 of the parts' MD5s, `-`, and their number. */
  readonly etag: string;
}

/** An object as a HEAD describes it. Metadata names are lower case, without their `x-amz-meta-`. */
export interface ObjectDetails extends StoredObject {
  readonly metadata: Readonly<Record<string, string>>;
}

/** An object to be read, with facts about its bytes from another source than its ETag. */
export interface ObjectToRead extends ObjectDetails {
  /** "by the reader": the reader compares the content, and the ETag proves nothing. */
  readonly digests?: PartDigests | "by the reader" | null;
}

/** Known facts about an object beside its listing. */
export interface KnownObject {
  readonly details: ObjectDetails;
  /** Read from its first bytes; null when its metadata has it. */
  readonly peeked: { readonly encoding: Encoding; readonly lineage: Lineage | null } | null;
}

/**
 * Remembers the results of HEADs and first bytes, by the listing they belong to. It never remembers an absence or a
 * failure.
 */
export interface Catalogue {
  /** Null when nothing is known of the object as it is listed now. */
  find(listed: StoredObject): KnownObject | null;
  record(listed: StoredObject, known: KnownObject): void;
  /** It is gone, or not what it was. */
  forget(key: string): void;
  /** Forgets all objects under a prefix that are not listed. */
  retain(prefix: string, listed: readonly StoredObject[]): void;
}

/** A multipart upload that was begun and neither completed nor aborted. */
export interface OpenUpload {
  readonly key: string;
  readonly uploadId: string;
  readonly initiated: Date;
}

/** How the open uploads of a key can be resumed. */
export interface OpenParts {
  /** The part size of the upload that got furthest; null if it has too few parts to show it. */
  readonly partBytes: number | null;
}

export interface PutOptions {
  readonly partBytes: number;
  /** The most parts in flight at once. */
  readonly concurrency: number;
  /** Parts that may be in memory at once; more than are in flight. */
  readonly partsInMemory: number;
  readonly metadata: Readonly<Record<string, string>>;
  /** Resume the open upload of this key that got furthest, where it is the beginning of this body; else begin one. */
  readonly resume?: boolean;
  /** False: when the body fails, its stored parts can never be resumed, so they need not stay. */
  readonly resumable?: boolean;
  readonly onProgress?: ((progress: UploadProgress) => void) | undefined;
}

/** How far an upload is, in bytes. */
export interface UploadProgress {
  /** Bytes that the store has confirmed. */
  readonly stored: number;
  /** Those of them that an earlier upload had sent. */
  readonly resumed: number;
  /**
   * Bytes that the network has accepted and the store has not confirmed yet. It shrinks when a part has to be sent
   * again.
   */
  readonly inFlight: number;
}

/**
 * The fate of an open upload that was to be removed. Only "removed" has changed anything.
 * - young: a run elsewhere or the store itself may be completing it at this moment
 * - finished: its object exists, and the store has only failed to forget the upload; an abort would delete the object's
 * bytes
 * - doubtful: it is not proven that the object under its key is another's
 * - broken: it was removed, and its object has appeared at that moment, without its bytes
 */
export type UploadFate = "removed" | "young" | "finished" | "doubtful" | "broken";

/** A confirmed object. */
export interface Stored {
  readonly bytes: number;
  readonly etag: string;
  readonly parts: number;
  /** The MD5s of the parts, in their order; of an object in one piece, one. */
  readonly md5s: readonly Buffer[];
  /** How many of the bytes were already stored by an earlier upload. */
  readonly resumedBytes: number;
}

/** The container. */
export interface Container {
  readonly name: string;
  readonly limits: StoreLimits;
  /**
   * Every object under a prefix, in UTF-8 byte order. The listing lags behind: ask `head` before you rely on absence.
   */
  list(prefix: string, signal: AbortSignal): Promise<readonly StoredObject[]>;
  /** Null when there is none. */
  head(key: string, signal: AbortSignal): Promise<ObjectDetails | null>;
  /** The first `length` bytes, fewer when the object is shorter. @throws ARCHIVE_MISSING */
  peek(key: string, length: number, signal: AbortSignal): Promise<Buffer>;
  /**
   * The object's bytes. It resumes by itself after a cut connection. The last bytes are withheld until the stored ETag,
   * or the object's digests, have been recomputed from the bytes read. Otherwise it fails with ARCHIVE_DAMAGED.
   * @param partBytes - where the parts of a multipart upload end; null when unknown, then only length and ETag
   * stability are checked
   */
  get(object: ObjectToRead, partBytes: number | null, signal: AbortSignal): Pieces;
  /**
   * Stores the body under a key that must not exist. The object appears only when the body ended well and the stored
   * size and ETag are those of the bytes sent. When the body fails, its stored parts stay in an open upload, which a
   * later run resumes. A {@link DirectReadable} is read directly.
   * @throws ALREADY_ARCHIVED, STORE_UNAVAILABLE, QUOTA_EXCEEDED, and any error that `body` is destroyed with;
   * RESUME_REFUSED when the resumed parts turn out to be something else: try again without; STREAM_TOO_LONG
   */
  put(key: string, body: Readable, options: PutOptions, signal: AbortSignal): Promise<Stored>;
  /** The resumable parts of the open uploads of this key; null when a `put` could resume none. */
  findOpenParts(key: string, signal: AbortSignal): Promise<OpenParts | null>;
  /** Bytes per second of all uploads together, by the limit or a recent measurement; null = unknown. */
  uploadRate(): number | null;
  /** Whether an object that was sent in such parts has this ETag. */
  isSentAs(etag: string, digests: PartDigests): boolean;
  /** Reads a body to its end, and returns whether it equals the stored object, part by part. */
  matches(object: ObjectDetails, partBytes: number, body: Readable): Promise<boolean>;
  /** Succeeds too when there is nothing to delete. */
  delete(key: string, signal: AbortSignal): Promise<void>;
  /** Unfinished uploads under a prefix. Right after an upload ended it may still be among them. */
  openUploads(prefix: string, signal: AbortSignal): Promise<readonly OpenUpload[]>;
  /** Removes an open upload with its stored parts, if it is at least this old and the removal can do no harm. */
  removeUpload(upload: OpenUpload, olderThanMs: number, signal: AbortSignal): Promise<UploadFate>;
  /** The store's time, in milliseconds since the epoch. */
  now(): number;
  close(): void;
}
