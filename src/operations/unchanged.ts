// Whether snapshots that btrfs calls changed still hold what their archives hold, as after deduplication: their archives
// are restored, and the trees are compared.

import { streamIdentity, type Archive, type Proof, type TreeDifference } from "../plan/model.ts";
import { compareSnapshots, NOTHING_STORED } from "../plan/standing.ts";
import { summarize } from "../plan/tree-differences.ts";
import type { LocalSnapshots, Scratch } from "./ports.ts";
import { inOrder, toDamage } from "./verify.ts";
import { restoreAndCompare, type ArchivedSnapshot, type Drilling } from "./drill.ts";
import { notCompared, warn, type Damage } from "../plan/damage.ts";

/** Those that a sync does not count as archived, for they were changed since. In creation order. */
export function findChanged({ source, snapshots }: LocalSnapshots, archives: readonly Archive[]): ArchivedSnapshot[] {
  return compareSnapshots({ ...NOTHING_STORED, source, snapshots, archives }).flatMap((standing) =>
    standing.is === "changed" ? standing : [],
  );
}

/** Restores each of them, and what they have in common once. Returns those that hold the same as here. */
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

/** For those that nobody could restore. */
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
