// The ladder: chooses the archived snapshot that the next one builds on, so that keep rules can delete old archives. If each
// built on the one before it, every archive would be an ancestor of the newest, and none could ever be deleted.

import { compareLifetimes } from "./keep.ts";

/** An archived snapshot that could serve as a send parent. */
export interface Rung {
  /** How long it will be kept, in nanoseconds; null: forever. */
  readonly lifetime: bigint | null;
  /** How many archives a restore of it reads. */
  readonly chainLength: number;
}

export interface LadderLimits {
  /** The most archives in a chain; null: no limit. */
  readonly maxChain: number | null;
}

/**
 * Chooses the send parent of a snapshot among those before it: the nearest that is kept at least as long. If none is, it is
 * the one that is kept longest, the nearest of several: against an older one, the same changes would be sent again and again.
 * Null, for a full archive, only if there is no candidate.
 * @param lifetime - of the snapshot to send
 * @param candidates - in the order of creation
 */
export function chooseParent<Candidate extends Rung>(
  lifetime: bigint | null,
  candidates: readonly Candidate[],
): Candidate | null {
  return (
    candidates.findLast((candidate) => compareLifetimes(candidate.lifetime, lifetime) >= 0) ?? longestLived(candidates)
  );
}

/** The one that is kept longest, the last of several; null where there is none. */
export function longestLived<Living extends Pick<Rung, "lifetime">>(all: readonly Living[]): Living | null {
  return all.reduce<Living | null>(
    (best, each) => (best === null || compareLifetimes(each.lifetime, best.lifetime) >= 0 ? each : best),
    null,
  );
}

/** True when its chain is as long as a chain may be. */
export function isLongest({ chainLength }: Rung, { maxChain }: LadderLimits): boolean {
  return maxChain !== null && chainLength >= maxChain;
}
