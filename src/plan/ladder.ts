// The ladder: which archived snapshot the next one builds on, so that keep rules can delete what is old. A line, each on
// the one before it, makes every archive an ancestor of the newest, and none can ever go.

import { compareLifetimes } from "./keep.ts";

/** An archived snapshot that could serve as a send parent. */
export interface Rung {
  /** For how long it will be kept; null: forever. */
  readonly lifetime: bigint | null;
  /** How many archives a restore of it reads. */
  readonly chainLength: number;
}

export interface LadderLimits {
  /** No chain is longer than so many archives; null: no limit. */
  readonly maxChain: number | null;
}

/**
 * Chooses the send parent of a snapshot among those before it: the nearest that lives at least as long; where none does,
 * the one that lives longest, the nearest of several. Null, a full archive, only where there is none at all, or where the
 * chain would become too long. (A difference to something older would be sent again and again, and grow.)
 *
 * @param lifetime - of the snapshot that is to be sent
 * @param candidates - in the order of creation
 */
export function chooseParent<Candidate extends Rung>(
  lifetime: bigint | null,
  candidates: readonly Candidate[],
  limits: LadderLimits = { maxChain: null },
): Candidate | null {
  const chosen =
    candidates.findLast((candidate) => compareLifetimes(candidate.lifetime, lifetime) >= 0) ??
    candidates.reduce<Candidate | null>(
      (best, each) => (best === null || compareLifetimes(each.lifetime, best.lifetime) >= 0 ? each : best),
      null,
    );
  return chosen === null || isLongest(chosen, limits) ? null : chosen;
}

/** True when nothing may be built on it any more. */
export function isLongest({ chainLength }: Rung, { maxChain }: LadderLimits): boolean {
  return maxChain !== null && chainLength >= maxChain;
}
