// Reads a send stream to its end, with all the checks of a restore, and keeps the tree that it makes.

import {
  closeTree,
  compareTrees,
  extentsOf,
  findInTree,
  openTreeReader,
  walkTree,
  type Ancestor,
  type RawChange,
  type RawEntry,
  type RawExtent,
  type StreamProblems,
  type TreeReader,
  type WalkFilter,
} from "../addon/tree.ts";
import type { SendStreamChecker } from "../addon/send-stream.ts";
import { BackupError } from "../errors.ts";
import type { Pieces } from "./pieces.ts";

/** The tree of a snapshot, until it is closed. */
export interface SnapshotTree extends Ancestor {
  /** Commands of its stream that could not be carried out. */
  readonly problems: StreamProblems;
  /** The entry at a path; null when there is none. */
  find(path: string): RawEntry | null;
  /** See {@link walkTree}. */
  walk(path: string, filter: WalkFilter): Generator<readonly RawEntry[], number>;
  /** The differences between this tree, which comes first, and another. See {@link compareTrees}. */
  compare(after: SnapshotTree, related: boolean): Generator<readonly RawChange[], number>;
  /** See {@link extentsOf}. */
  extents(id: number, from?: number): Generator<RawExtent, void>;
  /** Gives its memory back. */
  close(): void;
}

/** A stream that becomes a tree. */
export interface TreeSource {
  /** The number by which extents name the stream. */
  readonly number: number;
  /** The trees that it builds on, the full one first. */
  readonly ancestors: readonly SnapshotTree[];
  /** In bytes, of all trees of this process. */
  readonly mostMemory: number;
  /** The subject of error messages. */
  readonly subject: string;
}

/**
 * Makes a tree of a send stream.
 * @param open - opens the stream, which a checker checks on its way
 * @throws CONFIG when it needs more memory; any error of the stream
 */
export async function readTree(
  source: TreeSource,
  open: (checker: SendStreamChecker) => Promise<Pieces>,
): Promise<SnapshotTree> {
  const reader = openTreeReader(source.number, source.ancestors, source.mostMemory);
  const stream = await open(reader);
  try {
    for await (const piece of stream) {
      // Each piece has passed the reader already.
      if (piece.length > 0) assertReplayed(reader, source);
    }
  } finally {
    stream.destroy();
  }
  assertReplayed(reader, source);
  return toTree(reader);
}

function assertReplayed(reader: TreeReader, { subject }: TreeSource): void {
  const refusal = reader.refusal();
  if (refusal === null) return;
  throw new BackupError("CONFIG", `${subject} cannot be looked into here: ${refusal}`, {
    hint: "use a machine with more memory, or restore it",
  });
}

function toTree(reader: TreeReader): SnapshotTree {
  const { identity } = reader.summary();
  if (identity === null) throw new BackupError("INTERNAL", "a complete send stream without its first command");
  const { uuid, ctransid } = identity;
  const handle = reader.tree();
  return {
    handle,
    uuid,
    ctransid,
    problems: reader.problems(),
    find: (path) => findInTree(handle, path),
    walk: (path, filter) => walkTree(handle, path, filter),
    compare: (after, related) => compareTrees(handle, after.handle, related),
    extents: (id, from) => extentsOf(handle, id, from),
    close: () => closeTree(handle),
  };
}
