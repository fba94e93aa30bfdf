// The ports: what operations need from the world, in the shape in which they need it. operations/ carries plans out,
// one receipt per step. It knows the edges only by these types, so it never imports btrfs/, swift/, terminal/ or an
// SDK; commands/session.ts hands it the real ones, tests use the ones in memory.

import type { Readable } from "node:stream";
import type { DirectReadable } from "../stream/child-output.ts";
import type { Pieces } from "../stream/pieces.ts";
import type { Command } from "../stream/process.ts";
import type { BackupError } from "../errors.ts";
import type { Quota } from "../plan/quota.ts";
import type {
  Difference,
  Estimate,
  Identity,
  TargetSubvolume,
  SendProto,
  Snapshot,
  Subvolume,
  Surroundings,
  TreeDifference,
  Uuid,
} from "../plan/model.ts";
import type { Catalogue, Container } from "./store-ports.ts";
import type { Finding } from "../plan/finding.ts";

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

/** A send stream to make. */
export interface SendRequest extends Difference {
  /** The program that reads it; null or absent: the caller reads it. */
  readonly through?: Command | null;
}

export interface SendStream extends Readable {
  /** Size of the send stream that a program has read, once all has ended. Absent: the stream is the send stream itself. */
  readonly sentBytes?: () => number;
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
   * The send stream, or what a program makes of it. It ends only when `btrfs send` exited 0 and every check of the stream
   * agreed; otherwise it is destroyed with SEND_FAILED. Destroying it stops the process. A program must also have read
   * everything and exited with 0; then the send stream does not pass through this process.
   */
  send(request: SendRequest, signal: AbortSignal): SendStream;
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
  receive(stream: Pieces, path: string, expected: Identity, signal: AbortSignal): Promise<Snapshot>;
  /**
   * Makes a snapshot that was taken on this filesystem look received, until the returned function is called: only then
   * can btrfs-progs before 6.11 find the source of clones in a stream. @throws RECEIVE_FAILED, SEND_FAILED
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

/** The facts about this machine that the doctor checks. */
export interface Machine {
  /** True with CAP_SYS_ADMIN, which is what counts in a container, where root may lack it. */
  mayAdministrate(): Promise<boolean>;
  /** @throws CONFIG when the addon or btrfs-progs are missing */
  versions(
    signal: AbortSignal,
  ): Promise<{ readonly kernel: string; readonly btrfsProgs: string; readonly libbtrfsutil: string }>;
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

/** The answer at the endpoint. */
export interface Greeting {
  /** How far this machine's clock is ahead; null when the answer had no date. */
  readonly aheadMs: number | null;
  /** The version of Swift; null where the store does not report it. */
  readonly swift: string | null;
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
  /** This program, with the versions of what is part of it. */
  readonly program: { readonly name: string; readonly version: string; readonly node: string; readonly sdk: string };
  /** Logs in; returns the source of the keys and the endpoint. */
  findAccess(): Promise<Reached>;
  greet(): Promise<Greeting>;
  openContainer(): Promise<Container>;
  /** Null where nothing is to be kept. */
  openCatalogue(): Promise<Catalogue | null>;
  /** Null where only S3 can be asked. */
  quotas(): Promise<readonly Quota[] | null>;
}
