// Chooses the archives to read when not all are read.

import { groupBy, indexArchives, withAncestors } from "./chain.ts";
import { sumBytes, type Archive, type Key } from "./model.ts";
import { describeSetBack, newestOf } from "./select.ts";
import type { Finding } from "./finding.ts";

/** A part of all archives. Repeated runs read all of them in the course of time. */
export type Subset =
  /** About this share of all bytes, at random. */
  | { readonly of: "share"; readonly share: number }
  /** The nth of so many groups; the groups are the same each time. */
  | { readonly of: "group"; readonly group: number; readonly groups: number }
  /** The newest archive of each source, with its chain. */
  | { readonly of: "latest" };

/**
 * @param seed - random, from the caller
 * @param onDoubt - called where it is uncertain which archive is the latest
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
      const total = sumBytes(archives);
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
  // The last characters of keys are similar, and the low bits decide the group.
  return (value ^ (value >>> 15)) >>> 0;
}
