// Arranges archives as a tree of parents and children, for people.

import { groupBy, indexArchives, parentIn } from "./chain.ts";
import type { Archive } from "./model.ts";
import { sortByAge } from "./select.ts";

/** An archive in its place in the tree. */
export interface Branch {
  readonly archive: Archive;
  /** 0 for an archive without a parent in the list. Along a chain it stays 1; only forks go deeper. */
  readonly depth: number;
}

/** Places each archive after the one it builds on. */
export function arrangeTree(archives: readonly Archive[]): Branch[] {
  const index = indexArchives(archives);
  const children = groupBy(sortByAge(archives), (archive) => {
    const parent = parentIn(archive, index) ?? null;
    return parent === archive ? null : parent;
  });
  const branches: Branch[] = [];
  // The next one last. A list of archives to place instead of recursion, because forks can be deeper than a call stack.
  const pending = (children.get(null) ?? []).map((archive) => ({ archive, depth: 0 })).reverse();
  for (let branch = pending.pop(); branch !== undefined; branch = pending.pop()) {
    branches.push(branch);
    const depth = Math.max(1, branch.depth);
    const above = children.get(branch.archive) ?? [];
    // Forks first, so that the newest line ends the tree.
    for (const [nth, archive] of above.toReversed().entries())
      pending.push({ archive, depth: nth === 0 ? depth : depth + 1 });
  }
  return withRings(archives, branches);
}

/** Archives that build on themselves in a ring have no root, and are not left out. */
function withRings(archives: readonly Archive[], branches: readonly Branch[]): Branch[] {
  const placed = new Set(branches.map(({ archive }) => archive));
  const rest = archives.filter((archive) => !placed.has(archive));
  return [...branches, ...rest.map((archive) => ({ archive, depth: 0 }))];
}
