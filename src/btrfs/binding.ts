// The kernel's edge: subvolumes, mounts, send and receive. Nothing about containers or objects comes in here.
// This file types what the native addon gives; what the records mean is for the others to say.

import { loadAddon } from "./addon.ts";

/** What btrfs knows of one subvolume. Transaction ids and subvolume ids are exact: both stay far below 2^53. */
export interface RawInfo {
  readonly id: number;
  /** Id of the subvolume it lies in; 0 for the top level and for one that is being deleted. */
  readonly parentId: number;
  readonly readOnly: boolean;
  /** Lower-case; null only for a top level made before btrfs-progs 4.16. */
  readonly uuid: string | null;
  /** Of the subvolume it is a snapshot of; null when it is no snapshot. */
  readonly parentUuid: string | null;
  /** By which it was received; null when it was made here. */
  readonly receivedUuid: string | null;
  readonly generation: number;
  /** Of the last change inside it: for a snapshot, of its source before it was taken. */
  readonly ctransid: number;
  /** Of its creation. */
  readonly otransid: number;
  /** Of the sender, when received; else 0. */
  readonly stransid: number;
  /** Of the end of receiving, when received; else 0. */
  readonly rtransid: number;
  /** Nanoseconds since the epoch, as all times here. */
  readonly ctimeNs: bigint;
  readonly otimeNs: bigint;
  readonly rtimeNs: bigint | null;
}

export interface RawSubvolume extends RawInfo {
  /** Relative to the subvolume that was listed. */
  readonly path: string;
  /** False when the path's bytes are not UTF-8: then U+FFFD stands in `path` for what could not be read. */
  readonly pathIsExact: boolean;
}

/** A file or directory that was changed where nothing should be. */
export interface RawChange {
  readonly inode: number;
  /** Of the transaction that wrote it last. */
  readonly transid: number;
  /** When it was changed, in nanoseconds since the epoch. */
  readonly timeNs: bigint;
}

export interface ListOptions {
  /**
   * Id of the subvolume to list below. 5, the default, is the top level: everything, wherever it is mounted; needs
   * CAP_SYS_ADMIN. 0 is the subvolume that the path is the root of; root is not needed for what may be entered.
   */
  readonly top?: number;
  /** Only snapshots of the subvolume with this UUID. */
  readonly parentUuid?: string;
  readonly readOnly?: boolean;
}

/** How the addon's calls on subvolumes fail; {@link isBtrfsError} recognizes it. The message is a sentence. */
export interface BtrfsError extends Error {
  /** Name of the errno, such as "ENOENT". */
  readonly code: string;
  /** Negative, as everywhere in Node. */
  readonly errno: number;
  /** libbtrfsutil's code without prefix, such as "NOT_BTRFS", "NOT_SUBVOLUME", "SUBVOLUME_NOT_FOUND". */
  readonly btrfsCode: string;
  readonly syscall: string;
  readonly path: string;
}

/** What the first command of a send stream says. */
export interface RawIdentity {
  /** Of the send protocol: 1 or 2. */
  readonly version: number;
  readonly kind: "full" | "incremental";
  /** Name of the snapshot, without directories. */
  readonly path: Buffer;
  /** Lower-case; never all zeros. */
  readonly uuid: string;
  readonly ctransid: number;
  /** Of the send parent; null when full. */
  readonly cloneUuid: string | null;
  readonly cloneCtransid: number | null;
}

export interface StreamSummary {
  /** Null as long as the first command is not read. */
  readonly identity: RawIdentity | null;
  /** Read so far. */
  readonly bytes: number;
  /** Size of the stream with file data that a `--no-data` stream stands for; of any other, the same as `bytes`. */
  readonly estimatedBytes: number;
  /** By name, such as "WRITE"; `bytes` with headers. */
  readonly commands: Readonly<Record<string, { readonly count: number; readonly bytes: number }>>;
}

/** Reads a send stream and checks all of it that can be checked. */
export interface SendStreamChecker {
  /** The next bytes, as many as there are. @throws Error with a sentence and the `offset`; from then on always */
  push(bytes: Buffer): void;
  /** @throws Error unless the last bytes were the END command */
  finish(): void;
  summary(): StreamSummary;
}

/** File descriptors; both close on exec. */
export interface Pipe {
  readonly readEnd: number;
  readonly writeEnd: number;
}

/** Reads a pipe on a thread of its own, into memory that it is given. */
export interface PipeReader {
  /**
   * How much of the memory was filled: all of it, unless the pipe ends before or, where it need not be whole, nothing has
   * come for a moment; 0 when it is over, well or not. Until then nobody may touch the memory. Who asks several times gets
   * the answers in that order, and what comes in between is not held up.
   */
  fill(memory: Buffer, isWhole: boolean): Promise<number>;
  /** Resolves at the pipe's end; rejects with what is damaged or went wrong. What the stream was, where it is checked. */
  readonly done: Promise<StreamSummary>;
  /** Bytes so far. */
  received(): number;
  /** True while somebody waits for {@link fill}. */
  isAsked(): boolean;
  /** Ends it early. */
  cancel(): void;
}

interface NativeReader {
  fill(memory: Buffer, isWhole: boolean): void;
  cancel(): void;
}

/** Called with what was filled; the last time with how it ended. */
type OnFilled = (
  ...filled: readonly [bytes: number] | readonly [failure: Error | null, summary: StreamSummary]
) => void;

interface Addon {
  listSubvolumes(path: string, options?: ListOptions): Promise<RawSubvolume[]>;
  subvolumeInfo(path: string, id?: number): Promise<RawInfo>;
  subvolumePath(path: string, id?: number): Promise<string>;
  isSubvolume(path: string): Promise<boolean>;
  syncFilesystem(path: string): Promise<void>;
  deleteSubvolume(directory: string, name: string, id: number): Promise<void>;
  setReadOnly(path: string, isReadOnly: boolean): Promise<void>;
  setReceived(path: string, uuid: string, transid: number): Promise<void>;
  findChange(path: string, id: number): Promise<RawChange | null>;
  peekIdentity(bytes: Buffer): RawIdentity | null;
  lockFile(path: string): number | null;
  openPipe(size: number): Pipe;
  countUnread(end: number): number;
  moveSendStream(from: number, to: number, onEnd: (failure: Error | null, summary: StreamSummary) => void): () => void;
  readonly PipeReader: new (readEnd: number, checked: boolean, onFilled: OnFilled) => NativeReader;
  md5s(buffers: readonly Uint8Array[]): Promise<Buffer[]>;
  readonly SendStreamChecker: new () => SendStreamChecker;
  readonly versions: { readonly libbtrfsutil: string; readonly napi: number };
}

let loaded: Addon | null = null;

/** Loaded at the first use, not with the module: so a machine without it still prints its help, and its error. */
function addon(): Addon {
  return (loaded ??= loadAddon() as Addon);
}

/**
 * Every subvolume of the filesystem that the path lies on, the top level itself not among them; by default with paths
 * relative to the top level, whatever is mounted. One call on the thread pool; nothing is opened by path.
 * @throws {@link BtrfsError}; CONFIG
 */
export async function listSubvolumes(path: string, options: ListOptions = {}): Promise<RawSubvolume[]> {
  return addon().listSubvolumes(path, options);
}

/**
 * Of the subvolume with this id (5: the top level), or without id of the one whose root the path is.
 * @throws {@link BtrfsError}; CONFIG
 */
export async function subvolumeInfo(path: string, id = 0): Promise<RawInfo> {
  return addon().subvolumeInfo(path, id);
}

/**
 * Relative to the top level (empty for it), of the subvolume with this id, or without id of the one whose root the path
 * is.
 * @throws {@link BtrfsError}; CONFIG
 */
export async function subvolumePath(path: string, id = 0): Promise<string> {
  return addon().subvolumePath(path, id);
}

/** False also where there is no btrfs. @throws {@link BtrfsError} when the path does not exist; CONFIG */
export async function isSubvolume(path: string): Promise<boolean> {
  return addon().isSubvolume(path);
}

/** Resolves when everything of the filesystem that the path lies on is on disk. @throws {@link BtrfsError}; CONFIG */
export async function syncFilesystem(path: string): Promise<void> {
  return addon().syncFilesystem(path);
}

/**
 * Deletes a subvolume by its id, wherever it is by now; before Linux 5.7 by its name in a directory. Fails when other
 * subvolumes lie in it. @throws {@link BtrfsError}; CONFIG
 */
export async function deleteSubvolume(directory: string, name: string, id: number): Promise<void> {
  return addon().deleteSubvolume(directory, name, id);
}

/**
 * Makes the subvolume whose root the path is read-only or writable. It goes on being what it was received as.
 * @throws {@link BtrfsError}; CONFIG
 */
export async function setReadOnly(path: string, isReadOnly: boolean): Promise<void> {
  return addon().setReadOnly(path, isReadOnly);
}

/**
 * Marks the writable subvolume whose root the path is as received: from one of this UUID, at that transaction.
 * @throws {@link BtrfsError}; CONFIG
 */
export async function setReceived(path: string, uuid: string, transid: number): Promise<void> {
  return addon().setReceived(path, uuid, transid);
}

/**
 * What was changed in a received subvolume after it was received; null when nothing was, or it was not received. Data
 * that is written out late, deduplication and balance are no changes. Everything must be on disk.
 * @throws {@link BtrfsError}; CONFIG
 */
export async function findChange(path: string, id: number): Promise<RawChange | null> {
  return addon().findChange(path, id);
}

export function isBtrfsError(error: unknown): error is BtrfsError {
  return error instanceof Error && "btrfsCode" in error;
}

/** @throws CONFIG */
export function openSendStreamChecker(): SendStreamChecker {
  return new (addon().SendStreamChecker)();
}

/**
 * Whose stream begins like this; null when it is no send stream or too short. 350 bytes are always enough. Its first
 * command is checked, the rest is not looked at. @throws CONFIG
 */
export function peekIdentity(bytes: Buffer): RawIdentity | null {
  return addon().peekIdentity(bytes);
}

/**
 * The descriptor of a file, made when it is missing, that no other process can lock until it is closed or this process
 * is gone; null when another one has. Programs that are started do not inherit it. @throws Error with errno's name as
 * `code`; CONFIG
 */
export function lockFile(path: string): number | null {
  return addon().lockFile(path);
}

/** As large as `size`, or as the kernel allows. @throws CONFIG; Error when there are too many open files */
export function openPipe(size: number): Pipe {
  return addon().openPipe(size);
}

/** Bytes in a pipe that nobody has read. @throws Error for what is no pipe */
export function countUnread(end: number): number {
  return addon().countUnread(end);
}

/**
 * Moves a send stream from one pipe into another, on a thread of its own, checks it on the way, and closes both ends.
 * What is damaged may come out before that is known: it counts only when it is over.
 * @param onEnd - called once, when it is over: with a sentence about what is damaged or went wrong, or with null
 * @returns what cancels it
 */
export function moveSendStream(
  from: number,
  to: number,
  onEnd: (failure: Error | null, summary: StreamSummary) => void,
): () => void {
  return addon().moveSendStream(from, to, onEnd);
}

/**
 * Begins to read a pipe, whose end it takes over and closes.
 * @param isChecked - whether it has to be a send stream; what is damaged, and what comes after it, is never passed on
 * @throws CONFIG
 */
export function openPipeReader(readEnd: number, isChecked: boolean): PipeReader {
  // Their memory is kept from being collected, too.
  const asked: { readonly memory: Buffer; readonly answer: (bytes: number) => void }[] = [];
  let received = 0;
  let isOver = false;
  let settle: (failure: Error | null, summary: StreamSummary) => void;
  const done = new Promise<StreamSummary>((resolve, reject) => {
    settle = (failure, summary) => (failure === null ? resolve(summary) : reject(failure));
  });
  done.catch(() => undefined);
  const reader = new (addon().PipeReader)(readEnd, isChecked, (...filled) => {
    if (filled.length === 1) {
      const [bytes] = filled;
      received += bytes;
      asked.shift()?.answer(bytes);
    } else {
      isOver = true;
      settle(...filled);
      for (const { answer } of asked.splice(0)) answer(0);
    }
  });
  return {
    fill: (memory, isWhole) =>
      new Promise((resolve) => {
        if (isOver || memory.length === 0) return resolve(0);
        asked.push({ memory, answer: resolve });
        reader.fill(memory, isWhole);
      }),
    done,
    received: () => received,
    isAsked: () => asked.length > 0,
    cancel: () => reader.cancel(),
  };
}

/**
 * The MD5 of each of the buffers, in their order; their memory may be shared. One call on the thread pool that hashes up
 * to four of them side by side, for hardly more CPU time than one of them takes. Until it resolves, nobody may change or
 * transfer their memory. @throws CONFIG; TypeError
 */
export async function md5s(buffers: readonly Uint8Array[]): Promise<Buffer[]> {
  return addon().md5s(buffers);
}

/** What the addon was compiled with. @throws CONFIG */
export function addonVersions(): { readonly libbtrfsutil: string; readonly napi: number } {
  return addon().versions;
}
