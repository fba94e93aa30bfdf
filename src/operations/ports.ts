// The ports: what operations need of the world, in the shape they need it.
// operations/ carries plans out, one receipt per step. It knows the edges only by these types, so it never imports
// btrfs/, swift/, terminal/ or an SDK; commands/session.ts hands it the real ones, tests the ones in memory.

import type { Readable } from "node:stream";
import type { DirectReadable } from "../stream/child-output.ts";
import type { Command } from "../stream/process.ts";
import type { BackupError } from "../errors.ts";
import type { PartDigests } from "../plan/proof.ts";
import type { Quota } from "../plan/quota.ts";
import type {
  Difference,
  Encoding,
  Estimate,
  Finding,
  Identity,
  Lineage,
  TargetSubvolume,
  SendProto,
  Snapshot,
  StoreLimits,
  Subvolume,
  Surroundings,
  TreeDifference,
  Uuid,
} from "../plan/model.ts";

export type { DirectReadable };

/** A subvolume and its read-only snapshots, in creation order. */
export interface LocalSnapshots {
  readonly source: Subvolume;
  readonly snapshots: readonly Snapshot[];
  /** The read-only snapshot that the subvolume is a writable copy of; null when there is none. */
  readonly origin: Snapshot | null;
  /** Findings from looking at them; absent when there are none. */
  readonly doubts?: readonly Finding[];
  /** See {@link import("../plan/model.ts").Inventory.areCopies}. */
  readonly areCopies?: boolean;
}

/** Makes send streams of snapshots. */
export interface Sender {
  /** The protocol that `send` and `estimate` use. */
  readonly sendProto: SendProto;
  /** True when extents stored compressed travel compressed, so that estimates are upper bounds. */
  readonly compressedData: boolean;
  /** Bytes of the stream that `send` would make. Reads metadata only. @throws SEND_FAILED, NO_PRIVILEGE */
  estimate(difference: Difference, signal: AbortSignal): Promise<Estimate>;
  /**
   * The send stream. It ends only when `btrfs send` exited 0 and every check of the stream agreed; otherwise it is
   * destroyed with SEND_FAILED. Destroying it stops the process.
   */
  send(difference: Difference, signal: AbortSignal): Readable;
  /**
   * The output of a program that reads the send stream, which does not pass through this process. It ends only when
   * everything holds that {@link send} promises, and when the program has read everything and exited with 0.
   */
  sendThrough(difference: Difference, passage: Passage, signal: AbortSignal): Readable;
  /** Undoes private mounts. Safe to call twice. */
  close(): Promise<void>;
}

/** The filesystem that the snapshots of a subvolume are read from. */
export interface SnapshotSource extends Sender {
  /** The subvolume itself and its read-only snapshots, wherever they lie on its filesystem. */
  list(signal: AbortSignal): Promise<LocalSnapshots>;
  /** The other subvolumes on its filesystem, for those who find nothing to archive. */
  surroundings(): Promise<Surroundings>;
}

/** A directory with snapshots that were received, as on a backup disk. */
export interface ReceivedSource extends Sender {
  /** Those in the directory, wherever below it. */
  list(signal: AbortSignal): Promise<readonly Snapshot[]>;
}

/** Where a send stream goes through. */
export interface Passage {
  readonly program: Command;
  /** Called with the number of bytes of the send stream, before the stream ends. */
  readonly onBytes: (bytes: number) => void;
}

/** The directory on btrfs that snapshots are restored under. */
export interface RestoreTarget {
  /**
   * Every subvolume on the target's filesystem, wherever it lies.
   * @param relevant - UUIDs: subvolumes that were received under one of them are checked for changes
   */
  list(relevant: ReadonlySet<Uuid>, signal: AbortSignal): Promise<readonly TargetSubvolume[]>;
  /** An absolute path to a snapshot on the target's filesystem; null when no mount leads there. */
  whereIs(snapshot: Snapshot): Promise<string | null>;
  /** Free space on the target's filesystem, in bytes. */
  room(): Promise<number>;
  /** @throws RECEIVE_FAILED when there is something at `<target>/<path>`, USAGE when that is no path below it */
  assertFree(path: string): Promise<void>;
  /**
   * Receives one send stream as `<target>/<path>`; resolves when it is sealed, is the expected snapshot, and is on
   * disk. A half-received subvolume is removed, whether this call or one before left it.
   * @throws RECEIVE_FAILED, and any error that `stream` is destroyed with
   */
  receive(stream: Readable, path: string, expected: Identity, signal: AbortSignal): Promise<Snapshot>;
  /**
   * Lets one that was taken on this filesystem be found as if it had been received, until the returned function is called:
   * btrfs-progs before 6.11 finds what a stream clones from only so. @throws RECEIVE_FAILED, SEND_FAILED
   */
  adopt(snapshot: Snapshot, signal: AbortSignal): Promise<() => Promise<void>>;
  /**
   * Removes `<target>/<name>`, if it exists, and the subvolumes that were received there under these UUIDs as names,
   * finished or not.
   * @throws RECEIVE_FAILED when it holds anything else
   */
  removeReceived(name: string, uuids: ReadonlySet<Uuid>): Promise<void>;
  /** Makes a writable snapshot of one on this filesystem as `<target>/<path>`. @throws RECEIVE_FAILED, USAGE */
  makeWritable(snapshot: Snapshot, path: string, signal: AbortSignal): Promise<void>;
  close(): Promise<void>;
}

/** An empty filesystem to restore to for a test, which is gone when it is closed. */
export interface Scratch {
  readonly target: RestoreTarget;
  /** Compares a snapshot on this machine with one that was restored to the target. */
  compare(local: Snapshot, restored: Snapshot, signal: AbortSignal): Promise<readonly TreeDifference[]>;
  close(): Promise<void>;
}

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

/** An object to be read, with what its bytes are known to be from elsewhere than its ETag. */
export interface ObjectToRead extends ObjectDetails {
  /** "by the reader": the reader compares the content, and the ETag proves nothing. */
  readonly digests?: PartDigests | "by the reader" | null;
}

/** Known facts about an object beside its listing. */
export interface KnownObject {
  readonly details: ObjectDetails;
  /** Read from its first bytes; null when its metadata says it. */
  readonly peeked: { readonly encoding: Encoding; readonly lineage: Lineage | null } | null;
}

/**
 * Remembers the results of HEADs and first bytes, by the listing they belong to. It never remembers an absence or a
 * failure.
 */
export interface Catalogue {
  /** Null when nothing is known of the object as it is listed now. */
  find(listed: StoredObject): KnownObject | null;
  note(listed: StoredObject, known: KnownObject): void;
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
  /** Of the upload that got furthest; null where it has too few parts to show it. */
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
   * Bytes that the network has taken and the store has not confirmed yet. It shrinks when a part has to be sent again.
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
  /** How many of the bytes were there already, from an upload before this one. */
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
   * or the object's digests, have been recomputed from the bytes read. Otherwise it is destroyed with ARCHIVE_DAMAGED.
   * @param partBytes - where the parts of a multipart upload end; null when unknown, then only length and ETag
   * stability are checked
   */
  get(object: ObjectToRead, partBytes: number | null, signal: AbortSignal): Readable;
  /**
   * Stores the body under a key that must not exist. The object appears only when the body ended well and the stored
   * size and ETag are those of the bytes sent. When the body fails, its stored parts stay in an open upload, which a
   * later run resumes. A {@link DirectReadable} is read directly.
   * @throws ALREADY_ARCHIVED, STORE_UNAVAILABLE, QUOTA_EXCEEDED, and any error that `body` is destroyed with;
   * RESUME_REFUSED when the resumed parts turn out to be something else: try again without; STREAM_TOO_LONG
   */
  put(key: string, body: Readable, options: PutOptions, signal: AbortSignal): Promise<Stored>;
  /** Of the open uploads of this key; null when there are none that a `put` could resume. */
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
  /** Removes an open upload with all that is stored of it, where that can harm nothing and it is at least so old. */
  removeUpload(upload: OpenUpload, olderThanMs: number, signal: AbortSignal): Promise<UploadFate>;
  /** The store's time, in milliseconds since the epoch. */
  now(): number;
  close(): void;
}

/** The facts about this machine that the doctor checks. */
export interface Machine {
  /** True with CAP_SYS_ADMIN, which is what counts in a container, where root may lack it. */
  mayAdministrate(): Promise<boolean>;
  /** @throws CONFIG when the addon or btrfs-progs are missing */
  versions(signal: AbortSignal): Promise<{ readonly progs: string; readonly libbtrfsutil: string }>;
  /** @throws NOT_SUBVOLUME, NOT_BTRFS, NO_PRIVILEGE, USAGE */
  survey(path: string, signal: AbortSignal): Promise<Survey>;
  /** @throws NOT_BTRFS, NO_PRIVILEGE, USAGE */
  surveyReceived(path: string, signal: AbortSignal): Promise<Pick<Survey, "snapshots" | "unreachable">>;
}

/** The contents of a filesystem, from the point of view of one subvolume. */
export interface Survey extends LocalSnapshots {
  /** Those of them that no path leads to. */
  readonly unreachable: readonly { readonly path: string; readonly error: BackupError }[];
  /** The other subvolumes on its filesystem. */
  readonly around: Surroundings;
}

/** The answer at the endpoint. `aheadMs`: how far this machine's clock is ahead; null when the answer had no date. */
export interface Greeting {
  readonly aheadMs: number | null;
}

/** The endpoint, the source of the keys, and the proxy between. */
export interface Reached {
  readonly source: string;
  readonly endpoint: string;
  /** Null: directly. */
  readonly proxy: string | null;
  /** True where HTTP_PROXY would be used if it were read. */
  readonly ignoresProxy: boolean;
}

export interface DoctorEdges {
  readonly machine: Machine;
  /** Logs in; returns the source of the keys and the endpoint. */
  findAccess(): Promise<Reached>;
  greet(): Promise<Greeting>;
  openContainer(): Promise<Container>;
  /** Null where only S3 can be asked. */
  quotas(): Promise<readonly Quota[] | null>;
}
