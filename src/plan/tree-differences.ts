// Interprets the differences between two trees: either the contents differ, or `btrfs receive` only made something else
// of a good stream (see btrfs/fidelity.ts).

import type { TreeDifference } from "./model.ts";

/**
 * The letters for attributes that streams carry correctly and `btrfs receive` may set otherwise: p(ermissions), a(cl),
 * x(attr).
 */
const RECEIVED_OTHERWISE = /^\.[fdLDS]\.{3}[.p]\.{3}[.a][.x]$/;

/** Receiving changes its time. */
const TOP = "./";

const SET_ID_BITS = 0o6000;

/** The differences between two trees. */
export interface TreeComparison {
  readonly differences: readonly TreeDifference[];
  /** Differences that are no evidence against the archive. */
  readonly madeByReceive: readonly TreeDifference[];
}

/** Separates one kind from the other. */
export function compareTrees(found: readonly TreeDifference[]): TreeComparison {
  return { differences: found.filter((each) => !isMadeByReceive(each)), madeByReceive: found.filter(isMadeByReceive) };
}

/** Counts the differences, and names the first of them. */
export function summarize(differences: readonly TreeDifference[]): string {
  const noun = differences.length === 1 ? "difference" : "differences";
  const examples = differences.slice(0, 5).map(({ changes, name }) => `${changes} ${name}`);
  return `${differences.length} ${noun} (${examples.join(", ")})`;
}

/**
 * True when content, owner, group and time are equal, and the permissions differ at most in the setuid and setgid bits:
 * then the archive misses nothing.
 */
export function isMadeByReceive({ changes, name, modes }: TreeDifference): boolean {
  const letters = name === TOP ? changes.replace("t", ".") : changes;
  if (!RECEIVED_OTHERWISE.test(letters)) return false;
  if (letters[5] !== "p") return true;
  return modes !== null && ((modes[0] ^ modes[1]) & ~SET_ID_BITS) === 0;
}
