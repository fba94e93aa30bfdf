// What keep rules mean for a sync: which snapshots are worth sending, and which archive each builds on. Without rules,
// every snapshot is sent, and builds on the one before it.

import { judge, type Calendar, type KeepRules } from "./keep.ts";
import { chooseParent, type Rung } from "./ladder.ts";
import type { Archive, ChainSize, Snapshot } from "./model.ts";
import { pinnedAmong } from "./pin.ts";
import type { Inventory } from "./inventory.ts";
import type { Standing } from "./standing.ts";

/** What somebody wishes for the chains of a sync. */
export interface Keeping {
  /** Null: none. Everything is sent. */
  readonly rules: KeepRules | null;
  readonly calendar: Calendar;
  /** Nanoseconds since the epoch. */
  readonly now: bigint;
  /** No chain is longer than so many archives; null: no limit. */
  readonly maxChain: number | null;
  /** A new chain begins when the full archive of the last one is so old; null: never. In nanoseconds. */
  readonly fullEveryNs: bigint | null;
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
  /** Why this one, for people; null where there was no choice. */
  readonly reason: string | null;
}

export interface Ladder {
  /** False for a snapshot that is not worth sending: the next prune would delete its archive. */
  keeps(snapshot: Snapshot): boolean;
  /** The place of an archived snapshot. @param size - of the chain that ends with it; null when unknown */
  stepOf(snapshot: Snapshot, size: ChainSize | null): Step;
  /** The place of a snapshot that is sent on top of a parent. */
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

/** @param standings - of the inventory's snapshots */
export function openLadder(
  inventory: Inventory,
  standings: readonly Standing[],
  keeping: Keeping | null = null,
): Ladder {
  if (keeping === null) return NO_LADDER;
  const { rules } = keeping;
  const pinned = new Set([...keeping.pinned, ...pinnedAmong(inventory.volumes)]);
  const ids = new Map(standings.map((standing) => [standing.snapshot, idOf(standing)]));
  const isPinned = (snapshot: Snapshot): boolean => pinned.has(ids.get(snapshot) ?? "") || pinned.has(snapshot.path);
  const judged = rules === null ? null : judgeAll(inventory, ids, rules, keeping);
  const newest = inventory.snapshots.at(-1);
  const lifetimeOf = (snapshot: Snapshot): bigint | null => {
    if (judged === null || isPinned(snapshot)) return null;
    return judged.lifetimes.get(ids.get(snapshot) ?? "") ?? (judged.lifetimes.has(ids.get(snapshot) ?? "") ? null : 0n);
  };
  const reasonOf = (snapshot: Snapshot): string | null => {
    const [first = null, ...others] = judged?.kept.get(ids.get(snapshot) ?? "") ?? [];
    return [first, ...others].find((reason) => reason?.startsWith("first of") === true) ?? first;
  };
  return {
    keeps: (snapshot) =>
      judged === null || snapshot === newest || isPinned(snapshot) || judged.kept.has(ids.get(snapshot) ?? ""),
    stepOf: (snapshot, size) => toStep(lifetimeOf(snapshot), size),
    above: (snapshot, parent) => addStep(lifetimeOf(snapshot), snapshot, parent),
    choose: (snapshot, candidates) => {
      const wanted = chooseParent(lifetimeOf(snapshot), candidates);
      if (wanted === null) return { parent: null, reason: null };
      if (isOld(wanted.began, snapshot, keeping.fullEveryNs)) return { parent: null, reason: "--full-every" };
      const parent = chooseParent(lifetimeOf(snapshot), candidates, keeping);
      if (parent === null) return { parent, reason: "--max-chain" };
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

/** Snapshots here and archives whose snapshots are gone, judged together. */
function judgeAll(
  { archives }: Inventory,
  ids: ReadonlyMap<Snapshot, string>,
  rules: KeepRules,
  { calendar, now }: Keeping,
): ReturnType<typeof judge> {
  const times = new Map<string, bigint>(archives.map((archive) => [archive.key, timeOf(archive)]));
  for (const [{ otime }, id] of ids) times.set(id, otime);
  return judge(
    [...times].map(([id, otime]) => ({ id, otime })),
    rules,
    calendar,
    now,
  );
}

/** When its snapshot was taken, or else when it was stored. */
function timeOf({ otime, stored }: Archive): bigint {
  return otime ?? stored ?? 0n;
}

/** Of a snapshot and its archive, the same. */
function idOf(standing: Standing): string {
  switch (standing.is) {
    case "archived":
    case "proven":
    case "trusted":
    case "elsewhere":
      return standing.archive.key;
    default:
      return `here ${standing.snapshot.uuid}`;
  }
}
