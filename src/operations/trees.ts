// Reads archives into trees, as a restore reads them: what is damaged fails before anything of it is shown.

import { toBackupError, type BackupError } from "../errors.ts";
import { findChain, indexArchives } from "../plan/chain.ts";
import type { Archive, Chain, Key } from "../plan/model.ts";
import type { ReadStep } from "../plan/reading.ts";
import { readTree, type SnapshotTree } from "../stream/snapshot-tree.ts";
import { openChecked } from "./checked-archive.ts";
import { assertDecodable, subjectOf, type Reading } from "./read-archive.ts";

export interface TreeWatcher {
  onStart(archive: Archive): void;
  /** Stored bytes of the current archive that have been read. */
  onProgress(bytes: number): void;
  onEnd(archive: Archive, tree: SnapshotTree): void;
}

export interface TreeContext {
  readonly reading: Reading;
  readonly watcher: TreeWatcher;
  /** Of all trees together, in bytes. */
  readonly mostMemory: number;
}

/** The tree of an archive. */
export type ArchiveTree = SnapshotTree;

/** Is given the tree of an archive. */
export type TreeUse = (archive: Archive, tree: ArchiveTree) => Promise<void>;

/** An archive whose tree could not be had. */
export interface Unread {
  readonly archive: Archive;
  readonly error: BackupError;
}

/**
 * Reads archives one after the other.
 * @param use - is given each tree that is wanted, and must be done with it when it returns, unless `keeps`
 * @throws any error of an archive
 */
export async function readTrees(
  steps: readonly ReadStep[],
  context: TreeContext & { readonly keeps: boolean },
  use: TreeUse,
  signal: AbortSignal,
): Promise<void> {
  for (const { archive } of steps) assertDecodable(archive, context.reading.identities);
  await readEach(steps, context, use, signal);
}

/**
 * The same for all archives that can be read. An archive that builds on one that cannot is not read either.
 * @returns those that are wanted and could not be read
 */
export async function readTreesThatOpen(
  steps: readonly ReadStep[],
  context: TreeContext,
  use: TreeUse,
  signal: AbortSignal,
): Promise<readonly Unread[]> {
  const unread = new Map<Key, BackupError>();
  const onFailure = ({ archive }: ReadStep, error: unknown): void => {
    const failure = toBackupError(error);
    if (!aboutOneArchive.has(failure.code)) throw failure;
    unread.set(archive.key, failure);
  };
  await readEach(steps, { ...context, keeps: false, onFailure }, use, signal);
  return steps.flatMap(({ archive, ancestors, isWanted }) => {
    const cause = [archive, ...ancestors].find(({ key }) => unread.has(key));
    const error = cause === undefined ? undefined : unread.get(cause.key);
    return !isWanted || error === undefined ? [] : [{ archive, error }];
  });
}

const aboutOneArchive = new Set(["ARCHIVE_DAMAGED", "ARCHIVE_MISSING", "IDENTITY_REFUSED"]);

async function readEach(
  steps: readonly ReadStep[],
  context: TreeContext & { readonly keeps: boolean; readonly onFailure?: (step: ReadStep, error: unknown) => void },
  use: TreeUse,
  signal: AbortSignal,
): Promise<void> {
  const trees = new Map<Key, SnapshotTree>();
  for (const [number, step] of steps.entries()) {
    const { archive, ancestors, isWanted, lastUses } = step;
    const below = ancestors.flatMap(({ key }) => trees.get(key) ?? []);
    if (below.length === ancestors.length) {
      try {
        assertDecodable(archive, context.reading.identities);
        const tree = await readOne({ step, number, ancestors: below }, context, signal);
        trees.set(archive.key, tree);
        if (isWanted) await use(archive, tree);
      } catch (error) {
        if (context.onFailure === undefined) throw error;
        context.onFailure(step, error);
      }
    }
    for (const { key } of lastUses) {
      if (!context.keeps) trees.get(key)?.close();
      trees.delete(key);
    }
  }
}

async function readOne(
  { step, number, ancestors }: { step: ReadStep; number: number; ancestors: readonly SnapshotTree[] },
  { reading, watcher, mostMemory }: TreeContext,
  signal: AbortSignal,
): Promise<SnapshotTree> {
  const { archive } = step;
  watcher.onStart(archive);
  const source = { number, ancestors, mostMemory, subject: subjectOf(archive) };
  const tree = await readTree(source, (checker) =>
    openChecked(
      { archive, parent: step.ancestors.at(-1) ?? null, checker },
      reading,
      (bytes) => watcher.onProgress(bytes),
      signal,
    ),
  );
  watcher.onEnd(archive, tree);
  return tree;
}

/** The chains of archives, and the archives whose chains are broken. */
export function findChains(
  wanted: readonly Archive[],
  archives: readonly Archive[],
): { readonly chains: readonly Chain[]; readonly broken: readonly Unread[] } {
  const index = indexArchives(archives);
  const chains: Chain[] = [];
  const broken: Unread[] = [];
  for (const archive of wanted) {
    try {
      chains.push(findChain(archive, index));
    } catch (error) {
      broken.push({ archive, error: toBackupError(error) });
    }
  }
  return { chains, broken };
}
