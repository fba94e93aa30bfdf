// The nouns of the program and their parsers: snapshot, archive, plan and finding. plan/ is pure: no clock, no I/O, no
// log, no other room but errors. Whatever the world may contain arrives here as a value and leaves as a value; damage
// and doubt are findings, not exceptions.

declare const brand: unique symbol;

type Branded<Name extends string> = string & { readonly [brand]: Name };

/** Lower-case 8-4-4-4-12; only {@link parseUuid} makes one. */
export type Uuid = Branded<"Uuid">;

/** The name of an archive in the container; only plan/key.ts makes one. */
export type Key = Branded<"Key">;

/** Parses a UUID. Null for anything else, and for the all-zero UUID, which means "none" in btrfs. */
export function parseUuid(text: string): Uuid | null {
  const lower = text.toLowerCase();
  if (!/^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/.test(lower)) return null;
  return /[^0-]/.test(lower) ? (lower as Uuid) : null;
}

/**
 * The identity of a snapshot's content in a send stream: never its name, never the UUID alone (`btrfs receive` compares
 * only the UUID, and a snapshot that was made writable keeps it).
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
   * Transaction of its last change. Taking a snapshot changes it too, so none of its snapshots is of a later one. Null
   * where it is not on this machine: its snapshots were received.
   */
  readonly generation: number | null;
}

/** A read-only snapshot on this machine. */
export interface Snapshot {
  readonly uuid: Uuid;
  readonly id: number;
  /** UUID of the subvolume it was taken of; null when it was received as a full stream. */
  readonly source: Uuid | null;
  /** The identity it is a copy of, as the received stream named it; null when it was taken here. */
  readonly received: Identity | null;
  /** True when a check confirmed that it is still a copy of what `received` names. */
  readonly isCopy?: boolean;
  /** Relative to the top of its filesystem. */
  readonly path: string;
  /** False when the path on disk is not UTF-8, so that `path` is only an approximation. */
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

/** The subvolumes of a filesystem. */
export interface Surroundings {
  /** Every subvolume, the top level among them. */
  readonly subvolumes: readonly Neighbour[];
  /** Where a path of the filesystem appears on this machine; null when no mount leads there. */
  readonly seenAt: (path: string) => string | null;
}

/** The prefix of every temporary name that this program creates. */
export const OWN_PREFIX = ".btrfs-snapshots-to-swift-";

/** A subvolume on a filesystem that is restored to. */
export interface TargetSubvolume extends Snapshot {
  /** False when it is writable, or a leftover of an interrupted restore: nothing may build on it. */
  readonly sealed: boolean;
  /**
   * How it was changed after it was received, as in "was changed …"; null when it was not, or when nobody needed to
   * know.
   */
  readonly changed: string | null;
  /** False when it lies outside the mounted part: `btrfs receive` finds it, and cannot build on it. */
  readonly within: boolean;
}

/** The identity of the original: for a received snapshot, the one that its stream named; for any other, its own. */
export function originOf(snapshot: Snapshot): Identity {
  return snapshot.received ?? { uuid: snapshot.uuid, ctransid: snapshot.ctransid };
}

/** The other identity that its archive holds, as a copy of it. Null when it is not a copy, or nobody checked. */
export function copiedBy({ received, isCopy }: Snapshot): Identity | null {
  return isCopy === true ? received : null;
}

/** The identity of this snapshot in a send stream: a received one uses the UUID it was received under. */
export function streamIdentity(snapshot: Snapshot): Identity {
  return { uuid: snapshot.received?.uuid ?? snapshot.uuid, ctransid: snapshot.ctransid };
}

/** Creation order: transaction ids and subvolume ids only grow, while `otime` follows a clock. */
export function byCreation(a: Snapshot, b: Snapshot): number {
  return a.otransid - b.otransid || a.id - b.id;
}

/** A snapshot to send: full (`sendParent` null), or incremental against the send parent. */
export interface Difference {
  readonly snapshot: Snapshot;
  readonly sendParent: Snapshot | null;
  /**
   * The identity in the archive of the send parent, where its stream would name another one today: a restored snapshot
   * has another ctransid than its original.
   */
  readonly sendParentIdentity?: Identity;
}

/** The identity of the send parent in its archive; null for a full stream. */
export function parentIdentityOf({ sendParent, sendParentIdentity }: Omit<Difference, "snapshot">): Identity | null {
  return sendParent === null ? null : (sendParentIdentity ?? streamIdentity(sendParent));
}

/** Version of the btrfs send protocol. */
export type SendProto = 1 | 2;

/** The encodings of a send stream, outermost last. */
export const encodings = ["identity", "zstd", "age", "zstd+age"] as const;

export type Encoding = (typeof encodings)[number];

/** Whose stream an archive holds, and what it builds on; `sendParent` null = full. */
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
  /** Stored bytes; the sum of all volumes where it needs several. */
  readonly bytes: number;
  /**
   * How many objects hold its body beside the manifest under its key, which lists them; null = the one under its key
   * holds it.
   */
  readonly volumes: number | null;
  /** Null when neither metadata nor the stream shows it: an encrypted archive of the Python tool. */
  readonly lineage: Lineage | null;
  /**
   * The received identity of its snapshot, if the snapshot was archived on a disk that had received it; else absent.
   */
  readonly copyOf?: Identity;
  /** Nanoseconds since the epoch; null when metadata does not contain it. */
  readonly otime: bigint | null;
  readonly otransid: number | null;
  /** When it was stored, in nanoseconds since the epoch; null when unknown. */
  readonly stored: bigint | null;
  readonly encoding: Encoding | null;
  /** Size of the parts of its multipart uploads; null when metadata does not contain it. */
  readonly partBytes: number | null;
  /** ETag of the object under its key; null when nobody asked. */
  readonly etag: string | null;
  /** The chain that ends with it, by its metadata; absent in older ones. */
  readonly chain?: ChainSize;
  /** The reason why its first bytes could not be read, if metadata does not identify it; absent when there is none. */
  readonly failure?: string;
}

/**
 * Proof, by comparison, that a snapshot still holds what its archive holds, although btrfs reports a change:
 * deduplication raises the transaction and changes no data.
 */
export interface Proof extends Identity {
  readonly key: string;
  readonly etag: string;
}

/** The action by which rsync would make the second of two files equal to the first. */
export interface TreeDifference {
  /** As rsync itemizes it: the action, the file type, then a letter for each attribute that differs. */
  readonly changes: string;
  readonly name: string;
  /** The modes of both files; null for a missing one. */
  readonly modes: readonly [number, number] | null;
}

/** Sends one snapshot under one key. */
export interface UploadStep extends Difference {
  readonly do: "upload";
  readonly key: Key;
  /** The archive of the send parent; absent for a full one. */
  readonly sendParentArchive?: ParentArchive;
  /** Why this send parent, or why none; absent where there was no choice. */
  readonly reason?: string;
  /** The archive of the same snapshot under the same key that it replaces; absent: the key is free. */
  readonly replaces?: Archive;
}

/** The archive that another one builds on. */
export interface ParentArchive {
  readonly key: Key;
  /** How many archives a restore of it reads. */
  readonly chainLength: number;
  /** Their stored bytes; null when it is not stored yet. */
  readonly chainBytes: number | null;
}

/**
 * The identities under which a snapshot with the contents of this archive may have been received; none when unknown.
 */
export function namesOf({ copyOf, lineage }: Archive): Identity[] {
  return [...(lineage === null ? [] : [lineage.snapshot]), ...(copyOf === undefined ? [] : [copyOf])];
}

/** The archives that a restore of one has to read. */
export interface ChainSize {
  /** How many archives. */
  readonly length: number;
  /** Their stored bytes; null when unknown. */
  readonly bytes: number | null;
  /** When the snapshot of the full archive was taken, in nanoseconds since the epoch; null when unknown. */
  readonly began: bigint | null;
}

/** The archives that lead to a snapshot, the full one first, each one's send parent before it. */
export type Chain = readonly [Archive, ...Archive[]];

/** The expected size of a send stream, before it is made. */
export interface Estimate {
  readonly bytes: number;
  /** False when it is an upper bound: extents that travel compressed are counted uncompressed. */
  readonly exact: boolean;
}

/** Adds up the sizes of several archives, objects or steps. */
export function sumBytes(items: readonly { readonly bytes: number }[]): number {
  return items.reduce((sum, { bytes }) => sum + bytes, 0);
}
