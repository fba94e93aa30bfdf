// Judges chains before they hurt: restores that read much, and keep rules that the snapshots on this machine cannot serve.

import { indexArchives, measureChains, withAncestors } from "./chain.ts";
import { allArchives, type Inventory } from "./inventory.ts";
import { compareLifetimes, lifetimeOf, PERIODS, type KeepRules, type Period } from "./keep.ts";
import type { Ladder } from "./keeping.ts";
import { longestLived } from "./ladder.ts";
import { sumBytes, type Archive, type Snapshot } from "./model.ts";
import { newestOf } from "./select.ts";

/** The archives that a restore of an archive reads. */
export interface RestoreCost {
  readonly archive: Archive;
  readonly archives: number;
  readonly bytes: number;
  /** Those of the full one among them. */
  readonly fullBytes: number;
}

/** The cost of a restore of the newest archive of a source; null where there is none, or its chain is broken or unknown. */
export function costOfNewest(inventory: Pick<Inventory, "archives" | "others">): RestoreCost | null {
  const newest = newestOf(inventory.archives);
  if (newest === null) return null;
  const { archive } = newest;
  const index = indexArchives(allArchives(inventory));
  if (measureChains([archive], index).get(archive.key) == null) return null;
  const chain = [...withAncestors([archive], index)];
  return { archive, archives: chain.length, bytes: sumBytes(chain), fullBytes: chain.at(-1)?.bytes ?? 0 };
}

/** Periods whose first snapshots are kept longer than anything that they could build on. */
export interface UnservedPeriods {
  /** The shortest first. */
  readonly periods: readonly Period[];
  /** The longest period of the rules for which something is here; null: none. */
  readonly served: Period | null;
  /** The snapshot that the next first of an unserved period builds on. */
  readonly anchor: Snapshot;
}

/**
 * Finds periods of the keep rules for which no archived snapshot is here that lives as long. Chains then grow with each
 * period, and prune has to keep all that is below. Null where there are none.
 * @param archived - snapshots that are here and archived, in the order of creation
 */
export function findUnserved(
  archived: readonly Snapshot[],
  ladder: Pick<Ladder, "stepOf">,
  rules: KeepRules,
): UnservedPeriods | null {
  const rungs = archived.map((snapshot) => ({ snapshot, lifetime: ladder.stepOf(snapshot, null).lifetime }));
  const longest = longestLived(rungs);
  if (longest === null) return null;
  const periods = PERIODS.filter((period) => compareLifetimes(lifetimeOf(period, rules), longest.lifetime) > 0);
  if (periods.length === 0) return null;
  const served = PERIODS.findLast((period) => rules.counts[period] !== 0 && !periods.includes(period)) ?? null;
  return { periods, served, anchor: longest.snapshot };
}
