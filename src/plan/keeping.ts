// Applies keep rules to a sync: which snapshots are worth sending, and which archive each builds on. Without rules,
// every snapshot is sent, and builds on the one before it.

import { judge, type Calendar, type KeepRules } from "./keep.ts";
import { chooseParent, isLongest, type Rung } from "./ladder.ts";
import type { ChainSize, Snapshot } from "./model.ts";
import { pinnedAmong } from "./pin.ts";
import type { Inventory } from "./inventory.ts";
import { timeOf } from "./select.ts";
import { archiveOf, type Standing } from "./standing.ts";

/** When a new chain begins although there is a send parent. */
export interface ChainLimits {
  /** The most archives in a chain; null: no limit. */
  readonly maxChain: number | null;
  /** The age of a chain's full archive, in nanoseconds, at which a new chain begins; null: never. */
  readonly fullEveryNs: bigint | null;
}

/** The keep rules of a sync, and the limits of its chains. */
export interface Keeping extends ChainLimits {
  /** Null: no rules, so every snapshot is sent. */
  readonly rules: KeepRules | null;
  readonly calendar: Calendar;
  /** Nanoseconds since the epoch. */
  readonly now: bigint;
  /** Snapshots that are kept whatever the rules say: their keys, or their paths. */
  readonly pinned: ReadonlySet<string>;
}

/** An archived snapshot that could be a send parent. */
export interface Step extends Rung {
  /** When the snapshot of its chain's full archive was taken; null when unknown. */
  readonly began: bigint | null;
  /** The bytes that a restore of it reads; null for one that is still to be sent. */
  readonly chainBytes: number | null;
}

export interface Chosen<Candidate> {
  /** Null: the snapshot is sent in full. */
  readonly parent: Candidate | null;
  /** Why it was chosen, for people; null where there was no choice. */
  readonly reason: string | null;
}

export interface Ladder {
  /** False for a snapshot that is not worth sending: the next prune would delete its archive. */
  keeps(snapshot: Snapshot): boolean;
  /** An archived snapshot as a possible send parent. @param size - of the chain that ends with it; null when unknown */
  stepOf(snapshot: Snapshot, size: ChainSize | null): Step;
  /** A snapshot that is sent incrementally against a parent, or in full, as a possible send parent. */
  above(snapshot: Snapshot, parent: Step | null): Step;
  choose<Candidate extends Step & { readonly snapshot: Snapshot }>(
    snapshot: Snapshot,
    candidates: readonly Candidate[],
  ): Chosen<Candidate>;
}

const NO_LADDER: Ladder = {
  keeps: () => true,
  stepOf: (_snapshot, size) => toStep(null, size),
  above: (snapshot, parent) => addStep(null, snapshot, parent),
  choose: (_snapshot, candidates) => ({ parent: candidates.at(-1) ?? null, reason: null }),
};

/** The ladder of a sync. @param standings - of the inventory's snapshots */
export function openLadder(
  inventory: Inventory,
  standings: readonly Standing[],
  keeping: Keeping | null = null,
): Ladder {
  if (keeping === null) return NO_LADDER;
  const { rules } = keeping;
  const pinned = new Set([...keeping.pinned, ...pinnedAmong(inventory.volumes)]);
  const ids = new Map(standings.map((standing) => [standing.snapshot, idOf(standing)]));
  const nameOf = (snapshot: Snapshot): string => ids.get(snapshot) ?? "";
  const isPinned = (snapshot: Snapshot): boolean => pinned.has(nameOf(snapshot)) || pinned.has(snapshot.path);
  const judged = rules === null ? null : judgeAll(inventory, ids, rules, keeping);
  const newest = inventory.snapshots.at(-1);
  const lifetimeOf = (snapshot: Snapshot): bigint | null => {
    if (judged === null || isPinned(snapshot)) return null;
    const lifetime = judged.lifetimes.get(nameOf(snapshot));
    return lifetime === undefined ? 0n : lifetime;
  };
  const reasonOf = (snapshot: Snapshot): string | null => judged?.kept.get(nameOf(snapshot))?.[0] ?? null;
  return {
    keeps: (snapshot) =>
      judged === null || snapshot === newest || isPinned(snapshot) || judged.kept.has(nameOf(snapshot)),
    stepOf: (snapshot, size) => toStep(lifetimeOf(snapshot), size),
    above: (snapshot, parent) => addStep(lifetimeOf(snapshot), snapshot, parent),
    choose: (snapshot, candidates) => {
      const parent = chooseParent(lifetimeOf(snapshot), candidates);
      if (parent === null) return { parent, reason: null };
      if (isOld(parent.began, snapshot, keeping.fullEveryNs)) return { parent: null, reason: "--full-every" };
      if (isLongest(parent, keeping)) return { parent: null, reason: "--max-chain" };
      return { parent, reason: judged === null ? null : reasonOf(parent.snapshot) };
    },
  };
}

function isOld(began: bigint | null, { otime }: Snapshot, fullEveryNs: bigint | null): boolean {
  return fullEveryNs !== null && began !== null && otime - began >= fullEveryNs;
}

function toStep(lifetime: bigint | null, size: ChainSize | null): Step {
  return { lifetime, chainLength: size?.length ?? 1, began: size?.began ?? null, chainBytes: size?.bytes ?? null };
}

function addStep(lifetime: bigint | null, { otime }: Snapshot, parent: Step | null): Step {
  return {
    lifetime,
    chainLength: (parent?.chainLength ?? 0) + 1,
    began: parent === null ? otime : parent.began,
    chainBytes: null,
  };
}

/** Judges the snapshots on this machine together with archives whose snapshots are gone. */
function judgeAll(
  { archives }: Inventory,
  ids: ReadonlyMap<Snapshot, string>,
  rules: KeepRules,
  { calendar, now }: Keeping,
): ReturnType<typeof judge> {
  const times = new Map<string, bigint>(archives.map((archive) => [archive.key, timeOf(archive) ?? 0n]));
  for (const [{ otime }, id] of ids) times.set(id, otime);
  return judge(
    [...times].map(([id, otime]) => ({ id, otime })),
    rules,
    calendar,
    now,
  );
}

/** One id for a snapshot and its archive. */
function idOf(standing: Standing): string {
  return archiveOf(standing)?.key ?? `here ${standing.snapshot.uuid}`;
}
