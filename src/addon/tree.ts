// The trees of snapshots, as their send streams describe them: which files there are, and where the bytes of each are in
// the streams. Their memory lies outside of JavaScript's.

import { loadOnce } from "./load.ts";
import type { StreamSummary } from "./send-stream.ts";

export interface RawTime {
  readonly seconds: number;
  readonly nanoseconds: number;
}

export interface RawInode {
  /** With the type, as stat(2) has it. */
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly links: number;
  /** Of a file its length, of a symbolic link that of its target; 0 for all others. */
  readonly size: number;
  /** Of a device its number, as stat(2) has it; else 0. */
  readonly device: number;
  readonly atime: RawTime;
  readonly mtime: RawTime;
  readonly ctime: RawTime;
  /** When it was created; null where the protocol does not transfer it (1). */
  readonly otime: RawTime | null;
}

export interface RawEntry extends RawInode {
  /** Relative to the root of the snapshot, which has the empty path. */
  readonly path: string;
  /** The path in bytes, where it is not UTF-8; else null. */
  readonly rawPath: Buffer | null;
  /** The same for all names of one inode, in all trees that were made from each other. */
  readonly id: number;
  /** Of a symbolic link. */
  readonly target: string | null;
  /** Of a symbolic link, in bytes, where it is not UTF-8; else null or absent. */
  readonly rawTarget?: Buffer | null;
}

/** A path at which two trees differ. */
export interface RawChange {
  readonly path: string;
  readonly rawPath: Buffer | null;
  /** Null where there was nothing. */
  readonly before: RawInode | null;
  readonly after: RawInode | null;
  /** What differs where there is something in both: the type, else the content (or target, or device); attributes. */
  readonly type: boolean;
  readonly content: boolean;
  readonly metadata: boolean;
}

/** Where some bytes of a file are; between extents are holes. */
export interface RawExtent {
  /** As they are in a stream; compressed in a stream; or in no stream that was read. */
  readonly kind: "plain" | "encoded" | "nowhere";
  /** Position in the file. */
  readonly offset: number;
  readonly length: number;
  /** The number that the archive was read under. */
  readonly archive: number;
  /** Position of the (first) bytes in its send stream. */
  readonly position: number;
  /**
   * Plain: the bytes come in pieces of this size with `gap` other bytes between two of them, and begin `skip` bytes
   * behind the beginning of the first piece, which is at `position`; 0 = in one piece.
   */
  readonly piece: number;
  readonly gap: number;
  /** Encoded: how many of the decoded bytes come before these. */
  readonly skip: number;
  /** Encoded: size in the stream, and decoded. */
  readonly stored: number;
  readonly decoded: number;
  /** Encoded: 1 zlib, 2 zstd, 3 to 7 LZO with sectors of 4 to 64 KiB. */
  readonly compression: number;
}

/** A tree of the addon. */
export type TreeHandle = object;

/** A walk of the addon. */
type WalkHandle = object;

interface Batch<Item> {
  readonly items: readonly Item[];
  readonly done: boolean;
  /** Directories left out because their paths are longer than the kernel takes. */
  readonly tooDeep: number;
}

/** A tree that another one may build on, or clone from. */
export interface Ancestor {
  readonly handle: TreeHandle;
  readonly uuid: string;
  readonly ctransid: number;
}

/** Commands of a stream that could not be carried out. */
export interface StreamProblems {
  readonly count: number;
  /** The first of them. */
  readonly sentences: readonly string[];
}

/** Reads a send stream as a SendStreamChecker does, and makes the tree of it. */
export interface TreeReader {
  push(bytes: Buffer): void;
  finish(): void;
  summary(): StreamSummary;
  /** Why the rest of the stream is not replayed; null when it is. */
  refusal(): string | null;
  problems(): StreamProblems;
  tree(): TreeHandle;
}

interface TreeAddon {
  readonly TreeReader: new (archive: number, ancestors: readonly Ancestor[], mostMemory: number) => TreeReader;
  treeFind(tree: TreeHandle, path: string): RawEntry | null;
  treeXattrs(tree: TreeHandle, id: number): readonly { readonly name: Buffer; readonly value: Buffer }[];
  treeExtents(tree: TreeHandle, id: number, from: number, limit: number): readonly RawExtent[];
  openWalk(
    ...all: [tree: TreeHandle, path: string, recursive: boolean, patterns: readonly string[], ignoresCase: boolean]
  ): WalkHandle;
  walkNext(walk: WalkHandle, limit: number): Batch<RawEntry>;
  openComparison(before: TreeHandle, after: TreeHandle, related: boolean): WalkHandle;
  comparisonNext(comparison: WalkHandle, limit: number): Batch<RawChange>;
  closeTree(tree: TreeHandle): void;
  treeMemory(): number;
}

const addon = (): TreeAddon => loadOnce() as TreeAddon;

/** So many at once: enough to cost little, few enough for the event loop. */
const BATCH = 500;

/**
 * @param archive - the number by which extents name the stream
 * @param mostMemory - of all trees together, in bytes
 * @throws CONFIG
 */
export function openTreeReader(archive: number, ancestors: readonly Ancestor[], mostMemory: number): TreeReader {
  return new (addon().TreeReader)(archive, ancestors, mostMemory);
}

/** The entry at a path; null when there is none. */
export function findInTree(tree: TreeHandle, path: string): RawEntry | null {
  return addon().treeFind(tree, path);
}

/** The extended attributes of an inode. */
export function xattrsOf(tree: TreeHandle, id: number): readonly { readonly name: Buffer; readonly value: Buffer }[] {
  return addon().treeXattrs(tree, id);
}

/** The extents of a file in their order, from the first on that ends behind `from`. */
export function* extentsOf(tree: TreeHandle, id: number, from = 0): Generator<RawExtent, void> {
  for (let at = from; ;) {
    const extents = addon().treeExtents(tree, id, at, BATCH);
    yield* extents;
    const last = extents.at(-1);
    if (last === undefined || extents.length < BATCH) return;
    at = last.offset + last.length;
  }
}

/** Decides which entries a walk shows. */
export interface WalkFilter {
  readonly recursive: boolean;
  /** Shows only entries that fit one of these; none = all. */
  readonly patterns?: readonly string[];
  readonly ignoresCase?: boolean;
}

/**
 * The entries in a directory, or the one at `path` if that is no directory, in batches; each directory before what is in
 * it. Returns how many directories were left out because their paths are too long.
 */
export function* walkTree(
  tree: TreeHandle,
  path: string,
  { recursive, patterns = [], ignoresCase = false }: WalkFilter,
): Generator<readonly RawEntry[], number> {
  const walk = addon().openWalk(tree, path, recursive, patterns, ignoresCase);
  return yield* batches((limit) => addon().walkNext(walk, limit));
}

/**
 * The differences between two trees, in batches.
 * @param related - true when the second was made from the first: then other extents mean other contents
 */
export function* compareTrees(
  before: TreeHandle,
  after: TreeHandle,
  related: boolean,
): Generator<readonly RawChange[], number> {
  const comparison = addon().openComparison(before, after, related);
  return yield* batches((limit) => addon().comparisonNext(comparison, limit));
}

function* batches<Item>(next: (limit: number) => Batch<Item>): Generator<readonly Item[], number> {
  for (;;) {
    const { items, done, tooDeep } = next(BATCH);
    yield items;
    if (done) return tooDeep;
  }
}

/** Gives the memory of a tree back. Walks that have begun in it go on. */
export function closeTree(tree: TreeHandle): void {
  addon().closeTree(tree);
}

/** Bytes that all trees take. */
export function treeMemory(): number {
  return addon().treeMemory();
}
