// Which archives are read when not all are.

import { indexArchives, withAncestors } from "./chain.ts";
import type { Archive, Key } from "./model.ts";
import { sortByAge } from "./select.ts";

/** Part of all archives, so that in the course of time all of them are read. */
export type Subset =
  /** About so much of all bytes, by chance. */
  | { readonly of: "share"; readonly share: number }
  /** The nth of so many groups, which are the same each time. */
  | { readonly of: "group"; readonly group: number; readonly groups: number }
  /** The newest archive of each source, with its chain. */
  | { readonly of: "latest" };

/** @param seed - chance, from outside */
export function chooseSubset(archives: readonly Archive[], subset: Subset, seed: number): Archive[] {
  switch (subset.of) {
    case "group":
      return archives.filter(({ key }) => hash(key, 0) % subset.groups === subset.group - 1);
    case "latest":
      return chooseLatest(archives);
    case "share": {
      const total = archives.reduce((sum, { bytes }) => sum + bytes, 0);
      let read = 0;
      return archives
        .toSorted((a, b) => hash(a.key, seed) - hash(b.key, seed))
        .filter(({ bytes }) => {
          const wanted = read < total * subset.share;
          if (wanted) read += bytes;
          return wanted;
        });
    }
  }
}

function chooseLatest(archives: readonly Archive[]): Archive[] {
  const newest = new Map(sortByAge(archives).map((archive) => [archive.source, archive]));
  const chosen = withAncestors([...newest.values()], indexArchives(archives));
  return archives.filter((archive) => chosen.has(archive));
}

/** FNV-1a: the same key falls into the same group on every machine. */
function hash(key: Key, seed: number): number {
  let value = (0x811c9dc5 ^ seed) >>> 0;
  for (const char of key) value = Math.imul(value ^ (char.codePointAt(0) ?? 0), 0x01000193) >>> 0;
  // The last characters of keys are much alike, and the low bits are what groups are told by.
  return (value ^ (value >>> 15)) >>> 0;
}
