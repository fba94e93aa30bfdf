// Subvolumes and their filesystem, through libbtrfsutil and ioctls. The files of btrfs/ interpret the records.

import { loadOnce } from "./load.ts";

/**
 * The facts that btrfs keeps about one subvolume. Transaction ids and subvolume ids are exact: both stay far below
 * 2^53.
 */
export interface RawInfo {
  readonly id: number;
  /** Id of the subvolume it lies in; 0 for the top level and for one that is being deleted. */
  readonly parentId: number;
  readonly readOnly: boolean;
  /** Lower-case; null only for a top level made before btrfs-progs 4.16. */
  readonly uuid: string | null;
  /** UUID of the subvolume it is a snapshot of; null when it is no snapshot. */
  readonly parentUuid: string | null;
  /** The UUID it was received under; null when it was made here. */
  readonly receivedUuid: string | null;
  readonly generation: number;
  /** Transaction of the last change inside it: for a snapshot, of its source before it was taken. */
  readonly ctransid: number;
  /** Transaction of its creation. */
  readonly otransid: number;
  /** Transaction of the sender, when received; else 0. */
  readonly stransid: number;
  /** Transaction of the end of receiving, when received; else 0. */
  readonly rtransid: number;
  /** Nanoseconds since the epoch, as all times here. */
  readonly ctimeNs: bigint;
  readonly otimeNs: bigint;
  readonly rtimeNs: bigint | null;
}

export interface RawSubvolume extends RawInfo {
  /** Relative to the subvolume that was listed. */
  readonly path: string;
  /** False when the path's bytes are not UTF-8: then `path` has U+FFFD in place of what could not be read. */
  readonly pathIsExact: boolean;
}

/** A file or directory that was changed where nothing should be. */
export interface RawChange {
  readonly inode: number;
  /** Transaction that wrote it last. */
  readonly transid: number;
  /** When it was changed, in nanoseconds since the epoch. */
  readonly timeNs: bigint;
}

/** The errors that btrfs has counted for a device since somebody reset its counters, as `btrfs device stats` shows them. */
export interface RawDeviceErrors {
  readonly id: number;
  readonly path: string;
  readonly write: number;
  readonly read: number;
  readonly flush: number;
  readonly corruption: number;
  readonly generation: number;
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
  /** The name of errno, such as "ENOENT". */
  readonly code: string;
  /** Negative, as everywhere in Node. */
  readonly errno: number;
  /** libbtrfsutil's code without prefix, such as "NOT_BTRFS", "NOT_SUBVOLUME", "SUBVOLUME_NOT_FOUND". */
  readonly btrfsCode: string;
  readonly syscall: string;
  readonly path: string;
}

interface SubvolumeAddon {
  listSubvolumes(path: string, options?: ListOptions): Promise<RawSubvolume[]>;
  subvolumeInfo(path: string, id?: number): Promise<RawInfo>;
  subvolumePath(path: string, id?: number): Promise<string>;
  isSubvolume(path: string): Promise<boolean>;
  syncFilesystem(path: string): Promise<void>;
  deleteSubvolume(directory: string, name: string, id: number): Promise<void>;
  setReadOnly(path: string, isReadOnly: boolean): Promise<void>;
  setReceived(path: string, uuid: string, transid: number): Promise<void>;
  openInode(path: string, id: number, inode: number): Promise<number>;
  readAttribute(path: string, name: string): Promise<Buffer | null>;
  findChange(path: string, id: number): Promise<RawChange | null>;
  readDeviceErrors(path: string): Promise<RawDeviceErrors[]>;
  syncOpened(path: string, descriptor: number): Promise<void>;
}

const addon = (): SubvolumeAddon => loadOnce() as SubvolumeAddon;

/**
 * Every subvolume of the filesystem that the path lies on, without the top level itself; by default with paths relative
 * to the top level, independent of mounts. One call on the thread pool; nothing is opened by path.
 * @throws {@link BtrfsError}; CONFIG
 */
export async function listSubvolumes(path: string, options: ListOptions = {}): Promise<RawSubvolume[]> {
  return addon().listSubvolumes(path, options);
}

/**
 * Reads the subvolume with this id (5: the top level), or without id the one whose root the path is.
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

/**
 * Resolves when everything of the filesystem that the path lies on was sent to disk. What did not get there is no error
 * of this call: {@link syncOpened} reports it. @throws {@link BtrfsError}; CONFIG
 */
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
 * Makes the subvolume whose root the path is read-only or writable. It keeps its received UUID.
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

/** The inode number of every subvolume's root directory. */
const ROOT_INODE = 256;

/**
 * A descriptor of an inode of the subvolume with this id, by default of its root directory. The subvolume lies on the
 * filesystem of the path, whether a mount leads to it or not. The caller closes the descriptor. Needs
 * CAP_DAC_READ_SEARCH.
 * @throws {@link BtrfsError}; CONFIG
 */
export async function openInode(path: string, id: number, inode = ROOT_INODE): Promise<number> {
  return addon().openInode(path, id, inode);
}

/** An extended attribute of the file at the path; null when it has none. @throws {@link BtrfsError}; CONFIG */
export async function readAttribute(path: string, name: string): Promise<Buffer | null> {
  return addon().readAttribute(path, name);
}

/**
 * Finds a change in a received subvolume after it was received; null when nothing was changed, or it was not received.
 * Data that is written out late, deduplication and balance are no changes. Everything must be on disk.
 * @throws {@link BtrfsError}; CONFIG
 */
export async function findChange(path: string, id: number): Promise<RawChange | null> {
  return addon().findChange(path, id);
}

/**
 * The errors of each device of the filesystem that the path lies on; needs no privilege. Devices that are missing are
 * left out. @throws {@link BtrfsError}; CONFIG
 */
export async function readDeviceErrors(path: string): Promise<readonly RawDeviceErrors[]> {
  return addon().readDeviceErrors(path);
}

/**
 * Resolves when everything of the filesystem that an open file lies on is on disk. Fails also when something that was
 * written since it was opened, or since the last call with it, did not get there (Linux 5.8 and newer).
 * @param path - of the file, for people
 * @throws {@link BtrfsError}; CONFIG
 */
export async function syncOpened(path: string, descriptor: number): Promise<void> {
  return addon().syncOpened(path, descriptor);
}

export function isBtrfsError(error: unknown): error is BtrfsError {
  return error instanceof Error && "btrfsCode" in error;
}
