// Decides which archives a prune deletes: those of the given subvolumes that no rule keeps and no kept archive needs. It
// looks at the entire container, because after a restore chains cross subvolumes.

import { groupBy, identityText, indexArchives, measureChains, parentIn, type ArchiveIndex } from "./chain.ts";
import { judge, type Calendar, type KeepReason, type KeepRules } from "./keep.ts";
import { timeOf } from "./select.ts";
import { sumBytes, type Archive, type Identity, type Uuid } from "./model.ts";

export interface PruneRequest {
  /** All archives of the container. */
  readonly archives: readonly Archive[];
  /** Only archives of these subvolumes may be deleted. */
  readonly sources: ReadonlySet<Uuid>;
  readonly rules: KeepRules;
  readonly calendar: Calendar;
  /** Nanoseconds since the epoch. */
  readonly now: bigint;
  /** Identities of this machine's snapshots: of each subvolume, the newest with an archive is the next send parent. */
  readonly local: readonly Identity[];
  /** Keys of archives that are kept whatever the rules say. */
  readonly pinned: ReadonlySet<string>;
}

export interface PruneRow {
  readonly archive: Archive;
  /** True when the prune deletes it. */
  readonly deleted: boolean;
  /** Why it is kept for its own sake; empty when it is not. */
  readonly reasons: readonly KeepReason[];
  /** How many archives a restore of it reads; null when its chain is broken or unknown. */
  readonly chainLength: number | null;
  /** The kept archives that need it, the nearest first; empty when it is kept for its own sake. */
  readonly neededBy: readonly Archive[];
}

export interface PrunePlan {
  /** The archives of the given subvolumes, in the order of creation. */
  readonly rows: readonly PruneRow[];
  /** The archives to delete, each before the one that it builds on. */
  readonly deletions: readonly Archive[];
  readonly freedBytes: number;
  readonly totalBytes: number;
  /** The archives that are kept only because others need them. */
  readonly ancestors: { readonly count: number; readonly bytes: number };
}

/** Plans a prune. An archive is kept with everything that it builds on, or may build on. */
export function planPrune(request: PruneRequest): PrunePlan {
  const { archives, sources } = request;
  const index = indexArchives(archives);
  const parents = parentsOf(archives, index);
  const reasons = reasonsOf(request);
  const needed = neededBy(archives, reasons, parents);
  const lengths = measureChains(archives, index);
  const ofSources = archives.filter(({ source }) => sources.has(source)).toSorted(byTime);
  const rows = ofSources.map((archive): PruneRow => {
    const own = reasons.get(archive) ?? [];
    const children = needed.get(archive) ?? [];
    return {
      archive,
      chainLength: lengths.get(archive.key)?.length ?? null,
      deleted: own.length === 0 && children.length === 0,
      reasons: own,
      neededBy: own.length === 0 ? children : [],
    };
  });
  const deleted = rows.filter((row) => row.deleted).map(({ archive }) => archive);
  const ancestors = rows.filter((row) => row.neededBy.length > 0).map(({ archive }) => archive);
  return {
    rows,
    deletions: childrenFirst(deleted, parents),
    freedBytes: sumBytes(deleted),
    totalBytes: sumBytes(ofSources),
    ancestors: { count: ancestors.length, bytes: sumBytes(ancestors) },
  };
}

/** Why each archive is kept for its own sake. Archives of other subvolumes are never deleted. */
function reasonsOf({
  archives,
  sources,
  rules,
  calendar,
  now,
  local,
  pinned,
}: PruneRequest): Map<Archive, KeepReason[]> {
  const reasons = new Map<Archive, KeepReason[]>();
  const keep = (archive: Archive | undefined, reason: KeepReason): void => {
    if (archive !== undefined) reasons.set(archive, [...(reasons.get(archive) ?? []), reason]);
  };
  const here = new Set(local.map(identityText));
  for (const [source, group] of groupBy(archives, ({ source: each }) => each)) {
    if (!sources.has(source)) {
      for (const archive of group) keep(archive, "of another subvolume");
      continue;
    }
    const sorted = group.toSorted(byTime);
    const { kept } = judge(sorted.map(dated), rules, calendar, now);
    for (const archive of sorted) for (const reason of kept.get(archive.key) ?? []) keep(archive, reason);
    keep(sorted.at(-1), "the newest archive");
    keep(
      sorted.findLast(({ lineage }) => lineage !== null && here.has(identityText(lineage.snapshot))),
      "the newest whose snapshot is here",
    );
    for (const archive of sorted) {
      if (pinned.has(archive.key)) keep(archive, "pinned");
      if (timeOf(archive) === null) keep(archive, "its date is unknown");
      if (archive.lineage === null) keep(archive, "it is unknown what it builds on");
      if (archive.bytes === 0 || archive.failure !== undefined) keep(archive, "it cannot be read");
    }
  }
  return reasons;
}

/**
 * The archive that each one builds on. Where that is unknown or missing, it is the nearest before it, and so everything
 * before it is kept.
 */
function parentsOf(archives: readonly Archive[], index: ArchiveIndex): ReadonlyMap<Archive, Archive> {
  const parents = new Map<Archive, Archive>();
  for (const [, group] of groupBy(archives, ({ source }) => source)) {
    const sorted = group.toSorted(byTime);
    for (const [at, archive] of sorted.entries()) {
      const named = parentIn(archive, index);
      const parent = named === undefined ? sorted[at - 1] : named;
      if (parent != null && parent !== archive) parents.set(archive, parent);
    }
  }
  return parents;
}

/** For each archive that a kept one builds on: the kept archives that need it, the nearest first. */
function neededBy(
  archives: readonly Archive[],
  reasons: ReadonlyMap<Archive, unknown>,
  parents: ReadonlyMap<Archive, Archive>,
): ReadonlyMap<Archive, readonly Archive[]> {
  const needed = new Map<Archive, Archive[]>();
  for (const archive of archives.filter((each) => reasons.has(each))) {
    const seen = new Set([archive]);
    for (let link = parents.get(archive); link !== undefined && !seen.has(link); link = parents.get(link)) {
      seen.add(link);
      const known = needed.get(link);
      // Its ancestors are marked as needed already; for people, the nearest child is enough.
      if (known !== undefined) {
        known.push(archive);
        break;
      }
      needed.set(link, [archive]);
    }
  }
  return needed;
}

/** Orders archives so that each comes before the one that it builds on. */
function childrenFirst(archives: readonly Archive[], parents: ReadonlyMap<Archive, Archive>): readonly Archive[] {
  const depths = new Map<Archive, number>();
  for (const archive of archives) {
    const pending: Archive[] = [];
    const seen = new Set<Archive>();
    let link: Archive | undefined = archive;
    while (link !== undefined && !depths.has(link) && !seen.has(link)) {
      pending.push(link);
      seen.add(link);
      link = parents.get(link);
    }
    let depth = link === undefined ? 0 : (depths.get(link) ?? 0);
    for (const each of pending.toReversed()) depths.set(each, (depth += 1));
  }
  return archives.toSorted((a, b) => (depths.get(b) ?? 0) - (depths.get(a) ?? 0));
}

function dated(archive: Archive): { readonly id: string; readonly otime: bigint } {
  return { id: archive.key, otime: timeOf(archive) ?? 0n };
}

function byTime(a: Archive, b: Archive): number {
  const [first, second] = [timeOf(a) ?? 0n, timeOf(b) ?? 0n];
  if (first !== second) return first < second ? -1 : 1;
  return (a.otransid ?? 0) - (b.otransid ?? 0) || (a.key < b.key ? -1 : 1);
}
