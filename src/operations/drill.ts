// A drill: an archive is restored into a scratch filesystem, and the tree is compared with the one that was archived.

import { findChain, indexArchives } from "../plan/chain.ts";
import type { Archive, Snapshot, TreeDifference } from "../plan/model.ts";
import { planRestore, uuidsOf } from "../plan/restore.ts";
import { describeSetBack, newestOf } from "../plan/select.ts";
import { findSnapshot } from "../plan/standing.ts";
import { compareTrees, summarize, type TreeComparison } from "../plan/tree-differences.ts";
import type { Scratch } from "./ports.ts";
import { runRestore, type RestoreContext } from "./restore.ts";
import { toDamage, type VerifyContext } from "./verify.ts";
import { damaged, warn, type Damage } from "../plan/damage.ts";
import type { Finding } from "../plan/finding.ts";

/** An archive, and the snapshot on this machine that it was made of. */
export interface ArchivedSnapshot {
  readonly archive: Archive;
  readonly snapshot: Snapshot;
}

/** The archives that a restore into a scratch filesystem reads, and the watcher of its progress. */
export interface Drilling {
  readonly context: VerifyContext;
  readonly run: RestoreContext;
}

/** The archive that a drill restores. */
export interface Drill extends ArchivedSnapshot {
  /** A reservation about the choice; null when there is none. */
  readonly doubt: Finding | null;
}

/** The newest archive whose snapshot is here; null when there is none. */
export function findDrill(archives: readonly Archive[], snapshots: readonly Snapshot[]): Drill | null {
  const here = new Map<Archive, Snapshot>();
  for (const archive of archives) {
    const snapshot = archive.lineage === null ? null : findSnapshot(archive.lineage.snapshot, snapshots);
    if (snapshot !== null) here.set(archive, snapshot);
  }
  const newest = newestOf([...here.keys()]);
  const snapshot = newest === null ? undefined : here.get(newest.archive);
  if (newest === null || snapshot === undefined) return null;
  return { archive: newest.archive, snapshot, doubt: describeSetBack(newest) };
}

/** Restores an archive with its chain, and compares the tree with that of the snapshot it was made of. */
export async function drill(
  { archive, snapshot }: ArchivedSnapshot,
  scratch: Scratch,
  drilling: Drilling,
  signal: AbortSignal,
): Promise<Damage[]> {
  const { archives } = drilling.context;
  try {
    const differences = await restoreAndCompare({ archive, snapshot }, scratch, drilling, signal);
    return describeTrees(archive, compareTrees(differences), archives);
  } catch (error) {
    return [toDamage(error, archive, archives)];
  }
}

/** Restores an archive with the part of its chain that the scratch filesystem lacks, and compares the trees. */
export async function restoreAndCompare(
  { archive, snapshot }: ArchivedSnapshot,
  { target, compare }: Scratch,
  { context, run }: Drilling,
  signal: AbortSignal,
): Promise<readonly TreeDifference[]> {
  const { archives, reading } = context;
  const chain = findChain(archive, indexArchives(archives));
  const plan = planRestore(chain, await target.list(uuidsOf(chain), signal), "chain");
  const restored = await runRestore(plan, { ...reading, target }, run, signal);
  return await compare(snapshot, restored, signal);
}

/** Describes the consequences of the differences between the restored tree and the one that was archived. */
export function describeTrees(
  archive: Archive,
  { differences, madeByReceive }: TreeComparison,
  archives: readonly Archive[],
): Damage[] {
  const { key, path } = archive;
  if (differences.length > 0) {
    const message = `${path} does not restore to the snapshot that is here: ${summarize(differences)}`;
    return [damaged("ARCHIVE_DAMAGED", archive, message, archives)];
  }
  if (madeByReceive.length === 0) return [];
  const message =
    `${path} restores with all its files, contents, owners and times, but btrfs receive gives some of them other ` +
    `ACLs, attributes or setuid bits than here: ${summarize(madeByReceive)}`;
  const remedy = "the archive is complete; after a restore, set these by hand";
  return [warn("RECEIVED_OTHERWISE", key, message, { remedy })];
}
