// Decides what an archive would build on if it were sent today, and what a prune could delete then: so a line, in which each
// archive builds on the one before, becomes a ladder.

import { indexArchives, parentIn } from "./chain.ts";
import { allArchives, type Inventory } from "./inventory.ts";
import type { Keeping } from "./keeping.ts";
import { byCreation, parentIdentityOf, sameIdentity, streamIdentity, type Archive, type UploadStep } from "./model.ts";
import { pinnedAmong } from "./pin.ts";
import { planPrune, type PrunePlan, type PruneRequest } from "./prune.ts";
import { archiveOf, compareSnapshots } from "./standing.ts";
import { planSync } from "./sync.ts";

/** The step that sends a snapshot again in place of its archive; or the reason, in words, why there is none. */
export type RebasePlan = { readonly step: UploadStep } | { readonly refused: string };

/**
 * Plans the rebase of an archive: the send parent is the one that a sync with the same rules would choose, if the archive
 * were not there yet.
 * @param inventory - with all archives of the source examined
 */
export function planRebase(archive: Archive, inventory: Inventory, keeping: Keeping): RebasePlan {
  const standings = compareSnapshots(inventory);
  const standing = standings.find((each) => "archive" in each && each.archive === archive);
  if (standing === undefined) return { refused: "its snapshot is not on this machine any more" };
  const { snapshot } = standing;
  const { lineage } = archive;
  if (standing.is !== "archived" || lineage === null || !sameIdentity(lineage.snapshot, streamIdentity(snapshot)))
    return { refused: "its snapshot was changed, renamed or copied since it was archived" };
  const before = inventory.snapshots.filter((each) => each === snapshot || byCreation(each, snapshot) < 0);
  const leftOut = standings.filter((each) => each !== standing && archiveOf(each) === null);
  const without: Inventory = {
    ...inventory,
    snapshots: before,
    archived: new Set([...inventory.archived].filter((key) => key !== archive.key)),
    archives: inventory.archives.filter((each) => each !== archive),
  };
  // Without its archive, a pin counts for the snapshot.
  const pins = new Set([...keeping.pinned, ...pinnedAmong(inventory.volumes)]);
  const pinned = pins.has(archive.key) ? new Set([...pins, snapshot.path]) : pins;
  const request = { keeping: { ...keeping, pinned }, leftOut: new Set(leftOut.map((each) => each.snapshot.uuid)) };
  const step = planSync(without, request).steps.find(({ key }) => key === archive.key);
  if (step === undefined) return { refused: "a sync would not send it" };
  const parent = parentIdentityOf(step);
  const isSame =
    parent === null || lineage.sendParent === null
      ? parent === lineage.sendParent
      : sameIdentity(parent, lineage.sendParent);
  if (isSame) return { refused: "it already builds on what the keep rules would choose" };
  return { step: { ...step, replaces: archive } };
}

/** The archives after a rebase, before its new size is known. */
export function afterRebase(archives: readonly Archive[], { replaces, ...step }: UploadStep): readonly Archive[] {
  const sendParent = parentIdentityOf(step);
  return archives.map((each) =>
    each === replaces && each.lineage !== null ? { ...each, lineage: { ...each.lineage, sendParent } } : each,
  );
}

/** A rebase that lets a prune delete more. */
export interface SuggestedRebase {
  readonly step: UploadStep;
  /** The stored bytes that a prune can delete after it, and not before. */
  readonly freedBytes: number;
}

/**
 * Finds rebases after which a prune can delete more, in the order in which they are to be made; the bytes of each are those
 * in addition to the ones before it.
 */
export function suggestRebases(
  plan: PrunePlan,
  request: PruneRequest,
  inventory: Inventory,
): readonly SuggestedRebase[] {
  const keeping = { ...request, maxChain: null, fullEveryNs: null };
  const index = indexArchives(request.archives);
  const ancestors = new Set(plan.rows.filter(({ neededBy }) => neededBy.length > 0).map(({ archive }) => archive));
  const suggested: SuggestedRebase[] = [];
  let [current, freed] = [inventory, plan.freedBytes];
  for (const { archive, reasons } of plan.rows) {
    const parent = parentIn(archive, index);
    // A full archive needs nothing, and a parent that is kept for its own sake stays with all that it builds on.
    if (reasons.length === 0 || parent === null || (parent !== undefined && !ancestors.has(parent))) continue;
    const rebase = planRebase(archive, current, keeping);
    if ("refused" in rebase || rebase.step.sendParent === null) continue;
    const after = { ...current, archives: afterRebase(current.archives, rebase.step) };
    const freedBytes = planPrune({ ...request, archives: allArchives(after) }).freedBytes - freed;
    if (freedBytes <= 0) continue;
    suggested.push({ step: rebase.step, freedBytes });
    [current, freed] = [after, freed + freedBytes];
  }
  return suggested;
}
