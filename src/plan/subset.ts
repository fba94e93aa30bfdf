// Which archives are read when not all are.

import { groupBy, indexArchives, withAncestors } from "./chain.ts";
import type { Archive, Finding, Key } from "./model.ts";
import { describeSetBack, newestOf } from "./select.ts";

/** Part of all archives, so that in the course of time all of them are read. */
export type Subset =
  /** About so much of all bytes, by chance. */
  | { readonly of: "share"; readonly share: number }
  /** The nth of so many groups, which are the same each time. */
  | { readonly of: "group"; readonly group: number; readonly groups: number }
  /** The newest archive of each source, with its chain. */
  | { readonly of: "latest" };

/**
 * @param seed - chance, from outside
 * @param onDoubt - called where it is not sure which archive is the latest
 */
export function chooseSubset(
  archives: readonly Archive[],
  subset: Subset,
  seed: number,
  onDoubt: (finding: Finding) => void = () => undefined,
): Archive[] {
  switch (subset.of) {
    case "group":
      return archives.filter(({ key }) => hash(key, 0) % subset.groups === subset.group - 1);
    case "latest":
      return chooseLatest(archives, onDoubt);
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

function chooseLatest(archives: readonly Archive[], onDoubt: (finding: Finding) => void): Archive[] {
  const latest = [...groupBy(archives, ({ source }) => source).values()].flatMap((group) => newestOf(group) ?? []);
  for (const doubt of latest.flatMap((newest) => describeSetBack(newest) ?? [])) onDoubt(doubt);
  const chosen = withAncestors(
    latest.map(({ archive }) => archive),
    indexArchives(archives),
  );
  return archives.filter((archive) => chosen.has(archive));
}

/** FNV-1a: the same key falls into the same group on every machine. */
function hash(key: Key, seed: number): number {
  let value = (0x811c9dc5 ^ seed) >>> 0;
  for (const char of key) value = Math.imul(value ^ (char.codePointAt(0) ?? 0), 0x01000193) >>> 0;
  // The last characters of keys are much alike, and the low bits are what groups are told by.
  return (value ^ (value >>> 15)) >>> 0;
}
