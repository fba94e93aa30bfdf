// What it means that two trees differ: that the contents are others, or only that `btrfs receive` has made something else
// of a good stream (see btrfs/fidelity.ts).

import type { TreeDifference } from "./model.ts";

/** Which of its letters stand for what streams carry otherwise than `btrfs receive` makes it: p(ermissions), a(cl), x(attr). */
const RECEIVED_OTHERWISE = /^\.[fdLDS]\.{3}[.p]\.{3}[.a][.x]$/;

/** Its time is changed by receiving. */
const TOP = "./";

const SET_ID_BITS = 0o6000;

/** What differs between two trees. */
export interface TreeComparison {
  readonly differences: readonly TreeDifference[];
  /** What says nothing against the archive. */
  readonly madeByReceive: readonly TreeDifference[];
}

/** Tells one from the other. */
export function compareTrees(found: readonly TreeDifference[]): TreeComparison {
  return { differences: found.filter((each) => !isMadeByReceive(each)), madeByReceive: found.filter(isMadeByReceive) };
}

/** How many differences there are, and the first of them. */
export function summarize(differences: readonly TreeDifference[]): string {
  const noun = differences.length === 1 ? "difference" : "differences";
  const examples = differences.slice(0, 5).map(({ changes, name }) => `${changes} ${name}`);
  return `${differences.length} ${noun} (${examples.join(", ")})`;
}

/**
 * True when content, owner, group and time are equal, and of permissions the setuid and setgid bits at most differ: then
 * nothing is missing in the archive.
 */
export function isMadeByReceive({ changes, name, modes }: TreeDifference): boolean {
  const letters = name === TOP ? changes.replace("t", ".") : changes;
  if (!RECEIVED_OTHERWISE.test(letters)) return false;
  if (letters[5] !== "p") return true;
  return modes !== null && ((modes[0] ^ modes[1]) & ~SET_ID_BITS) === 0;
}
