// Finds out whether snapshots that btrfs reports as changed still hold the same data as their archives, as after
// deduplication: it restores the archives and compares the trees.

import { streamIdentity, type Archive, type Proof, type TreeDifference } from "../plan/model.ts";
import { compareSnapshots, NOTHING_STORED } from "../plan/standing.ts";
import { summarize } from "../plan/tree-differences.ts";
import type { LocalSnapshots, Scratch } from "./ports.ts";
import { inOrder, toDamage } from "./verify.ts";
import { restoreAndCompare, type ArchivedSnapshot, type Drilling } from "./drill.ts";
import { notCompared, warn, type Damage } from "../plan/damage.ts";

/** Snapshots that a sync does not count as archived, because they were changed since. In creation order. */
export function findChanged({ source, snapshots }: LocalSnapshots, archives: readonly Archive[]): ArchivedSnapshot[] {
  return compareSnapshots({ ...NOTHING_STORED, source, snapshots, archives }).flatMap((standing) =>
    standing.is === "changed" ? standing : [],
  );
}

/** Restores each of them, and what they have in common once. Returns the snapshots that hold the same data. */
export async function proveUnchanged(
  changed: readonly ArchivedSnapshot[],
  scratch: Scratch,
  drilling: Drilling,
  signal: AbortSignal,
): Promise<{ readonly proofs: readonly Proof[]; readonly findings: readonly Damage[] }> {
  const { archives } = drilling.context;
  const proofs: Proof[] = [];
  const findings: Damage[] = [];
  for (const { snapshot, archive } of changed) {
    try {
      const differences = await restoreAndCompare({ archive, snapshot }, scratch, drilling, signal);
      if (differences.length > 0) findings.push(toFinding(archive, differences));
      else if (archive.etag !== null)
        proofs.push({ key: archive.key, etag: archive.etag, ...streamIdentity(snapshot) });
    } catch (error) {
      findings.push(toDamage(error, archive, archives));
    }
  }
  return { proofs, findings: inOrder(findings) };
}

/** The findings for archives that could not be restored. */
export function describeUnproven(changed: readonly ArchivedSnapshot[], reason: string): Damage[] {
  return changed.map(({ archive: { key, path } }) =>
    notCompared(key, `${path} was changed since it was archived (or deduplicated), and was not compared: ${reason}`, {
      remedy: "use --work-dir DIR with enough room, or rename the snapshot: `sync` archives it under its new name",
    }),
  );
}

function toFinding({ key, path }: Archive, differences: readonly TreeDifference[]): Damage {
  const message = `${path} was changed since it was archived: ${summarize(differences)}`;
  return warn("SNAPSHOT_CHANGED", key, message, {
    remedy: "rename the snapshot: `sync` archives it under its new name",
  });
}
