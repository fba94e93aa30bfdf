// The history of a path: in which snapshots it is, and when it changed.

import { kindOf, toNanoseconds, type Entry } from "./entry.ts";
import type { Archive } from "./model.ts";

/** A state of a path, in some snapshots that follow each other. */
export interface Version {
  /** Null: there is nothing of that name. */
  readonly entry: Entry | null;
  /** The first and the last of them. */
  readonly first: Archive;
  readonly last: Archive;
  readonly snapshots: number;
}

export interface PathHistory {
  readonly entry: Entry;
  readonly versions: readonly Version[];
}

/** The paths that were found in one snapshot. */
export interface Findings {
  readonly archive: Archive;
  readonly entries: readonly Entry[];
}

/** Bounds for the time of the last change, in nanoseconds since the epoch; null = none. */
export interface TimeBounds {
  readonly oldest: bigint | null;
  readonly newest: bigint | null;
}

/**
 * The histories of all paths that were found, in the order of the paths.
 * @param found - of the snapshots that were read, in creation order
 * @param bounds - a path is left out where no version of it lies within, and so are the versions that do not
 */
export function traceHistories(found: readonly Findings[], bounds: TimeBounds): PathHistory[] {
  const states = new Map<string, Map<Archive, Entry>>();
  for (const { archive, entries } of found) {
    for (const entry of entries) {
      const id = entry.rawPath === null ? entry.path : `\0${entry.rawPath.join(" ")}`;
      const known = states.get(id) ?? new Map<Archive, Entry>();
      states.set(id, known.set(archive, entry));
    }
  }
  const archives = found.map(({ archive }) => archive);
  const histories = [...states.values()].flatMap((byArchive) => {
    const versions = toVersions(archives, byArchive).filter(({ entry }) => entry === null || isWithin(entry, bounds));
    const shown = versions.find(({ entry }) => entry !== null)?.entry;
    return shown == null ? [] : [{ entry: shown, versions }];
  });
  return histories.sort((a, b) => (a.entry.path < b.entry.path ? -1 : 1));
}

function toVersions(archives: readonly Archive[], byArchive: ReadonlyMap<Archive, Entry>): Version[] {
  const versions: Version[] = [];
  for (const archive of archives) {
    const entry = byArchive.get(archive) ?? null;
    const current = versions.at(-1);
    if (current === undefined && entry === null) continue;
    if (current !== undefined && isSame(current.entry, entry)) {
      versions[versions.length - 1] = { ...current, last: archive, snapshots: current.snapshots + 1 };
    } else {
      versions.push({ entry, first: archive, last: archive, snapshots: 1 });
    }
  }
  return versions;
}

function isSame(a: Entry | null, b: Entry | null): boolean {
  if (a === null || b === null) return a === b;
  const isAlike = kindOf(a) === kindOf(b) && a.size === b.size && a.target === b.target && a.device === b.device;
  return isAlike && toNanoseconds(a.mtime) === toNanoseconds(b.mtime);
}

function isWithin({ mtime }: Entry, { oldest, newest }: TimeBounds): boolean {
  const time = toNanoseconds(mtime);
  return (oldest === null || time >= oldest) && (newest === null || time <= newest);
}
