// Archives as a tree of what builds on what, for people to look at.

import { indexArchives, parentIn } from "./chain.ts";
import type { Archive } from "./model.ts";
import { sortByAge } from "./select.ts";

/** An archive in its place in the tree. */
export interface Branch {
  readonly archive: Archive;
  /** 0 for what builds on nothing that is there. Along a chain it stays 1; only forks go deeper. */
  readonly depth: number;
}

/** Each archive after the one it builds on. */
export function arrangeTree(archives: readonly Archive[]): Branch[] {
  const index = indexArchives(archives);
  const children = new Map<Archive | null, Archive[]>([[null, []]]);
  for (const archive of sortByAge(archives)) {
    const parent = parentIn(archive, index) ?? null;
    const base = parent === archive ? null : parent;
    children.set(base, [...(children.get(base) ?? []), archive]);
  }
  const branches: Branch[] = [];
  for (const root of children.get(null) ?? []) climb(root, 0, children, branches);
  return withRings(archives, branches);
}

/** Forks first, so that the newest line ends the tree. */
function climb(
  root: Archive,
  depth: number,
  children: ReadonlyMap<Archive | null, readonly Archive[]>,
  branches: Branch[],
): void {
  branches.push({ archive: root, depth });
  let at = children.get(root) ?? [];
  while (at.length > 0) {
    const below = Math.max(1, depth);
    for (const fork of at.slice(0, -1)) climb(fork, below + 1, children, branches);
    const next = at.at(-1);
    if (next === undefined) return;
    branches.push({ archive: next, depth: below });
    at = children.get(next) ?? [];
  }
}

/** What builds on itself hangs on nothing, and is not left out. */
function withRings(archives: readonly Archive[], branches: readonly Branch[]): Branch[] {
  const placed = new Set(branches.map(({ archive }) => archive));
  const rest = archives.filter((archive) => !placed.has(archive));
  return [...branches, ...rest.map((archive) => ({ archive, depth: 0 }))];
}
