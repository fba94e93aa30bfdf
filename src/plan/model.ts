// The nouns of the house and their parsers: what a snapshot, an archive, a plan and a finding are.
// plan/ is pure: no clock, no I/O, no log, no other room but errors. Whatever the world may contain arrives here as a
// value and leaves as a value; damage and doubt are findings, not exceptions.

declare const brand: unique symbol;
type Branded<Name extends string> = string & { readonly [brand]: Name };

/** Lower-case 8-4-4-4-12; only {@link parseUuid} makes one. */
export type Uuid = Branded<"Uuid">;

/** The name of an archive in the container; only plan/key.ts makes one. */
export type Key = Branded<"Key">;

/** Null for anything that is not a UUID, and for the all-zero one, by which btrfs says "none". */
export function parseUuid(text: string): Uuid | null {
  const lower = text.toLowerCase();
  if (!/^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/.test(lower)) return null;
  return /[^0-]/.test(lower) ? (lower as Uuid) : null;
}

/**
 * What identifies a snapshot's content in a send stream: never its name, never the UUID alone (`btrfs receive`
 * compares only the UUID, and a snapshot that was made writable keeps it).
 */
export interface Identity {
  readonly uuid: Uuid;
  readonly ctransid: number;
}

export function sameIdentity(a: Identity, b: Identity): boolean {
  return a.uuid === b.uuid && a.ctransid === b.ctransid;
}

/** The living subvolume of which snapshots are taken. */
export interface Subvolume {
  readonly uuid: Uuid;
  readonly id: number;
  /** Relative to the top of its filesystem; empty for the top itself. */
  readonly path: string;
  /**
   * Transaction of its last change; taking a snapshot of it is one, so none of its snapshots is of a later one. Null where
   * it is not on this machine: its snapshots were received.
   */
  readonly generation: number | null;
}

/** A read-only snapshot on this machine. */
export interface Snapshot {
  readonly uuid: Uuid;
  readonly id: number;
  /** UUID of the subvolume it was taken of; null when it was received as a full stream. */
  readonly source: Uuid | null;
  /** Whose copy this is, as the stream it was received from named it; null when it was taken here. */
  readonly received: Identity | null;
  /** True when somebody has looked: it is still what it was received as, a copy of what `received` names. */
  readonly isCopy?: boolean;
  /** Relative to the top of its filesystem. */
  readonly path: string;
  /** False when the path on disk is not UTF-8, so that `path` does not say it exactly. */
  readonly pathIsExact: boolean;
  readonly ctransid: number;
  readonly otransid: number;
  /** Creation time in nanoseconds since the epoch, by a clock that may have stepped back: for people, not for order. */
  readonly otime: bigint;
}

/** One subvolume of a filesystem. */
export interface Neighbour {
  /** Null only for a top level that has none. */
  readonly uuid: Uuid | null;
  /** UUID of the subvolume it is a snapshot of; null when it is no snapshot, or was received as a full stream. */
  readonly parent: Uuid | null;
  /** UUID that it was received under; null or absent when it was made here. */
  readonly received?: Uuid | null;
  /** Relative to the top of the filesystem; empty for the top itself. */
  readonly path: string;
  readonly readOnly: boolean;
}

/** What lies on a filesystem. */
export interface Surroundings {
  /** Every subvolume, the top level among them. */
  readonly subvolumes: readonly Neighbour[];
  /** Where a path of the filesystem appears on this machine; null when no mount leads there. */
  readonly seenAt: (path: string) => string | null;
}

/** Every name begins with it that this program gives to what will not stay. */
export const OWN_PREFIX = ".btrfs-snapshots-to-swift-";

/** A subvolume on a filesystem that is restored to. */
export interface TargetSubvolume extends Snapshot {
  /** False when it is writable, or is what an interrupted restore left: nothing may build on it. */
  readonly whole: boolean;
  /** How it was changed after it was received, as in "was changed …"; null when it was not, or nobody had to know. */
  readonly changed: string | null;
  /** False when it lies outside of what is mounted there: `btrfs receive` finds it, and cannot build on it. */
  readonly within: boolean;
}

/** What a snapshot is a copy of: a received one goes by what its stream called it, any other by what it is. */
export function originOf(snapshot: Snapshot): Identity {
  return snapshot.received ?? { uuid: snapshot.uuid, ctransid: snapshot.ctransid };
}

/** What its archive holds as well as its own: a copy of the same. Null when it is none, or nobody has looked. */
export function copiedBy({ received, isCopy }: Snapshot): Identity | null {
  return isCopy === true ? received : null;
}

/** How a send stream names this snapshot: a received one goes by the UUID it was received under. */
export function streamIdentity(snapshot: Snapshot): Identity {
  return { uuid: snapshot.received?.uuid ?? snapshot.uuid, ctransid: snapshot.ctransid };
}

/** Creation order: transaction ids and subvolume ids only grow, while `otime` follows a clock. */
export function byCreation(a: Snapshot, b: Snapshot): number {
  return a.otransid - b.otransid || a.id - b.id;
}

/** What to send: the whole snapshot (`sendParent` null), or what changed since the send parent. */
export interface Difference {
  readonly snapshot: Snapshot;
  readonly sendParent: Snapshot | null;
  /**
   * What the archive of the send parent holds, where that is not what its stream would be called now: a restored
   * snapshot has another ctransid than the one that it is a copy of.
   */
  readonly sendParentIdentity?: Identity;
}

/** Version of the btrfs send protocol. */
export type SendProto = 1 | 2;

/** What stands around the send stream, outermost last. */
export const encodings = ["identity", "zstd", "age", "zstd+age"] as const;
export type Encoding = (typeof encodings)[number];

/** Whose stream an archive holds and what it builds on; `sendParent` null = full. */
export interface Lineage {
  readonly snapshot: Identity;
  readonly sendParent: Identity | null;
}

/** One send stream in the container. */
export interface Archive {
  readonly key: Key;
  readonly source: Uuid;
  /** Path of the snapshot relative to the top of the filesystem it was taken on. */
  readonly path: string;
  /** As stored; of all volumes together where it needs several. */
  readonly bytes: number;
  /** How many objects hold its body beside the one under its key, which then lists them; null = that one holds it. */
  readonly volumes: number | null;
  /** Null when it can be read neither from metadata nor from the stream: an encrypted archive of the Python tool. */
  readonly lineage: Lineage | null;
  /** What its snapshot had been received as, where it was archived on a disk that had received it; else absent. */
  readonly copyOf?: Identity;
  /** Nanoseconds since the epoch; null when no metadata tells. */
  readonly otime: bigint | null;
  readonly otransid: number | null;
  /** When it was stored, in nanoseconds since the epoch; null when nobody said. */
  readonly stored: bigint | null;
  readonly encoding: Encoding | null;
  /** Where the parts of its multipart uploads end; null when no metadata tells. */
  readonly partBytes: number | null;
  /** Of the object under its key; null when nobody asked. */
  readonly etag: string | null;
  /** What kept its first bytes from being read, where metadata does not tell what it is; absent when nothing did. */
  readonly failure?: string;
}

/** What is on this machine and what is in the container, of one source. */
export interface Inventory {
  readonly source: Subvolume;
  /** In creation order. */
  readonly snapshots: readonly Snapshot[];
  /** What the listing names like archives of the source; it may lag behind. */
  readonly archived: ReadonlySet<Key>;
  /** Every archive of the source that is known to exist; see `examined`. */
  readonly archives: readonly Archive[];
  /** Archives of other sources: chains that began before a restore lead to them. */
  readonly others: readonly Archive[];
  /** How far anybody has looked: what stands under the keys of the snapshots, under all of the source, or anywhere. */
  readonly examined: "snapshots" | "source" | "container";
  /** Keys of objects that are named like volumes of its archives. */
  readonly volumes: readonly string[];
  /** The read-only snapshot that the source is a writable copy of; null when it began empty, or that is gone. */
  readonly origin: Snapshot | null;
  /** See {@link Proof}. */
  readonly proofs: readonly Proof[];
  /** True for snapshots that were received: what they are copies of may be archived under any source. */
  readonly areCopies?: boolean;
}

/**
 * That a snapshot still holds what its archive holds, although btrfs says that it was changed: deduplication raises the
 * transaction and changes nothing. Somebody has compared them.
 */
export interface Proof extends Identity {
  readonly key: string;
  readonly etag: string;
}

/** What rsync would do to make the second of two files equal to the first. */
export interface TreeDifference {
  /** As rsync itemizes it: what would be done, the file type, then a letter for each thing that differs. */
  readonly changes: string;
  readonly name: string;
  /** Of both files; null where one of them is missing. */
  readonly modes: readonly [number, number] | null;
}

/** Sends one snapshot under one key. */
export interface UploadStep extends Difference {
  readonly do: "upload";
  readonly key: Key;
}

/** Receives one archive as the snapshot it must turn out to be. */
export interface ReceiveStep {
  readonly do: "receive";
  readonly archive: Archive;
  /** What it builds on; null when it is full. */
  readonly parent: Archive | null;
  readonly expected: Identity;
  /** Where the snapshot is put, relative to the target directory. */
  readonly place: string;
}

/** What plan/ needs to know of an object to see which archive it is. Metadata names are lower case, without prefix. */
export interface ObjectFacts {
  readonly key: string;
  readonly bytes: number;
  readonly metadata: Readonly<Record<string, string>>;
  readonly modified?: Date;
  readonly etag?: string;
}

/** What a snapshot may have been received as that holds what an archive holds; none when nothing tells. */
export function namesOf({ copyOf, lineage }: Archive): Identity[] {
  return [...(lineage === null ? [] : [lineage.snapshot]), ...(copyOf === undefined ? [] : [copyOf])];
}

/** The archives that lead to a snapshot, the full one first, each one's send parent before it. */
export type Chain = readonly [Archive, ...Archive[]];

/** Bytes of a send stream, before it is made. */
export interface Estimate {
  readonly bytes: number;
  /** False when it is an upper bound: extents that travel compressed are counted as if they did not. */
  readonly exact: boolean;
}

/** What a store can hold in one object. */
export interface StoreLimits {
  readonly partsPerUpload: number;
  readonly minPartBytes: number;
  readonly maxPartBytes: number;
}

export type FindingCode =
  | "NAME_UNUSABLE"
  | "NAME_REUSED"
  | "ARCHIVED_ELSEWHERE"
  | "SOURCE_SHARED"
  | "TRUSTED_BY_NAME"
  | "IDENTITY_SHARED"
  | "TOO_LARGE"
  | "CHAIN_BROKEN"
  | "CHAIN_UNKNOWN"
  | "ARCHIVE_MISSING"
  | "NOT_AN_ARCHIVE"
  | "ARCHIVE_DAMAGED"
  | "ARCHIVE_DUPLICATE"
  | "IDENTITY_MISMATCH"
  | "NOT_READABLE"
  | "NOT_OPENED"
  | "NOT_LISTED"
  | "NOT_CHECKED"
  | "NOT_COMPARABLE"
  | "LEFTOVER"
  | "RECEIVED_OTHERWISE"
  | "SNAPSHOT_CHANGED";

/** Damage or doubt, as a value. */
export interface Finding {
  readonly code: FindingCode;
  /** "error": something asked for will not be done. "warning": it goes on. */
  readonly severity: "error" | "warning";
  /** Path or key it is about. */
  readonly subject: string;
  readonly message: string;
}
