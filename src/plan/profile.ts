// Describes how a subvolume changes, from the sizes of a few streams, and assumes the snapshots to come from it.

import { DAY_NS, HOUR_NS } from "./keep.ts";
import type { Difference, Estimate, Snapshot } from "./model.ts";
import type { History } from "./simulate.ts";

/** Snapshots that are nearer to each other are taken for one: pairs around an installation, for example. */
const LEAST_GAP_NS = (HOUR_NS * 5n) / 6n;

/** So many of the newest snapshots show how often one is taken, and what a usual step holds. */
const RECENT = 6;

/** The streams to estimate, and how often a snapshot is taken. */
export interface MeasurementPlan {
  readonly intervalNs: bigint;
  readonly newest: Snapshot;
  readonly oldest: Snapshot;
  readonly incrementals: readonly Difference[];
}

/** The size of a stream. */
export interface Measured extends Estimate {
  /** Days between the two snapshots. */
  readonly days: number;
}

export interface Measurement {
  readonly intervalNs: bigint;
  /** The newest snapshot in full. */
  readonly newest: Estimate;
  /** The oldest one in full, and how much earlier it was taken; null when it could not be estimated. */
  readonly oldest: Measured | null;
  readonly incrementals: readonly Measured[];
}

/** How a subvolume changes. */
export interface Profile {
  readonly intervalNs: bigint;
  readonly fullBytes: number;
  /** Never negative: a subvolume that shrinks is taken as one that stays as it is. */
  readonly growthPerDay: number;
  /** Bytes of a difference over so many days, both ascending. */
  readonly curve: readonly { readonly days: number; readonly bytes: number }[];
}

/**
 * Chooses the streams: the differences to the newest snapshot over 1, 2, 4, 8 and so on, and those of the newest
 * snapshots to the one before. Null where there are no two snapshots that are at least about an hour apart.
 *
 * @param snapshots - in the order of creation
 */
export function planMeasurement(snapshots: readonly Snapshot[]): MeasurementPlan | null {
  const apart = takeApart(snapshots);
  const [newest, before] = apart;
  const oldest = apart.at(-1);
  if (newest === undefined || before === undefined || oldest === undefined) return null;
  const steps = apart.slice(0, RECENT).flatMap((snapshot, at): Difference[] => {
    const sendParent = apart[at + 1];
    return sendParent === undefined || at === RECENT - 1 ? [] : [{ snapshot, sendParent }];
  });
  const further = apart.filter((_, at) => at > 1 && (isPowerOf2(at) || at === apart.length - 1));
  return {
    intervalNs: toWholeHours(median(steps.map(gapOf))),
    newest,
    oldest,
    incrementals: [...steps, ...further.map((sendParent) => ({ snapshot: newest, sendParent }))],
  };
}

/** The newest first. */
function takeApart(snapshots: readonly Snapshot[]): readonly Snapshot[] {
  const apart: Snapshot[] = [];
  for (const snapshot of snapshots.toReversed()) {
    const last = apart.at(-1);
    if (last === undefined || last.otime - snapshot.otime >= LEAST_GAP_NS) apart.push(snapshot);
  }
  return apart;
}

function isPowerOf2(number: number): boolean {
  return Number.isInteger(Math.log2(number));
}

function gapOf({ snapshot, sendParent }: Difference): number {
  return Number(snapshot.otime - (sendParent?.otime ?? snapshot.otime));
}

function toWholeHours(nanoseconds: number): bigint {
  return BigInt(Math.max(1, Math.round(nanoseconds / Number(HOUR_NS)))) * HOUR_NS;
}

/** Days between a snapshot and its send parent. */
export function daysOf(difference: Difference): number {
  return gapOf(difference) / Number(DAY_NS);
}

/** The middle one; of an even number, the greater of the two in the middle. */
export function median(numbers: readonly number[]): number {
  return numbers.toSorted((a, b) => a - b)[Math.floor(numbers.length / 2)] ?? 0;
}

export function toProfile({ intervalNs, newest, oldest, incrementals }: Measurement): Profile {
  const grown = oldest === null ? 0 : (newest.bytes - oldest.bytes) / oldest.days;
  let most = 0;
  const curve = joinAlike(incrementals).map(({ days, bytes }) => ({ days, bytes: (most = Math.max(most, bytes)) }));
  return { intervalNs, fullBytes: newest.bytes, growthPerDay: Math.max(0, grown), curve };
}

/** Differences over about the same time are one point: the one in the middle. */
function joinAlike(differences: readonly Measured[]): { readonly days: number; readonly bytes: number }[] {
  const groups: Measured[][] = [];
  for (const each of differences.toSorted((a, b) => a.days - b.days)) {
    const group = groups.at(-1);
    if (group?.[0] !== undefined && each.days <= group[0].days * 1.25) group.push(each);
    else groups.push([each]);
  }
  return groups.map((group) => ({
    days: median(group.map(({ days }) => days)),
    bytes: median(group.map(({ bytes }) => bytes)),
  }));
}

/**
 * Bytes of a difference over so many days: a straight line between measured points. Beyond the last it goes on as
 * between the last two, or as the subvolume grows, whichever is steeper.
 */
export function differenceOver(days: number, { curve, growthPerDay }: Profile): number {
  const at = curve.findIndex((point) => point.days >= days);
  const to = curve[at] ?? curve.at(-1) ?? { days: 1, bytes: 0 };
  const from = curve[(at === -1 ? curve.length : at + 1) - 2] ?? { days: 0, bytes: 0 };
  const slope = (to.bytes - from.bytes) / (to.days - from.days);
  return at === -1
    ? to.bytes + (days - to.days) * Math.max(slope, growthPerDay)
    : from.bytes + (days - from.days) * slope;
}

/** Assumes a snapshot at each interval from a moment on. No difference is larger than the snapshot in full. */
export function assumeHistory(
  profile: Profile,
  { from, days }: { readonly from: bigint; readonly days: number },
): History {
  const { intervalNs, fullBytes, growthPerDay } = profile;
  const interval = Number(intervalNs) / Number(DAY_NS);
  const snapshots = Array.from({ length: Math.floor(days / interval) + 1 }, (_, place) => ({
    otime: from + BigInt(place) * intervalNs,
  }));
  return {
    snapshots,
    bytes: (snapshot, sendParent) => {
      const full = Math.round(fullBytes + growthPerDay * snapshot * interval);
      if (sendParent === null) return full;
      return Math.min(full, Math.round(differenceOver((snapshot - sendParent) * interval, profile)));
    },
  };
}
