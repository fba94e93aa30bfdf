// Shows how much keep rules would cost over time: the planner run once for each snapshot of a history, real or assumed.

import { judge, type Calendar, type Dated, type KeepRules } from "./keep.ts";
import { chooseParent, type LadderLimits } from "./ladder.ts";

/** Snapshots of one subvolume, in the order of creation, and what a stream between any two of them holds. */
export interface History {
  readonly snapshots: readonly Dated[];
  /** Bytes of the stream of the snapshot at a place, full (`null`) or against an earlier one. */
  bytes(snapshot: number, sendParent: number | null): number;
}

export interface SimulationRequest {
  /** Null: none. Nothing is deleted, and each snapshot builds on the one before it. */
  readonly rules: KeepRules | null;
  /** By which this machine thins out its own snapshots; null: it keeps them all. */
  readonly localRules: KeepRules | null;
  readonly calendar: Calendar;
  readonly limits?: LadderLimits;
}

export interface Simulation {
  readonly uploadedBytes: number;
  /** At the end. */
  readonly storedBytes: number;
  /** At the end. */
  readonly archives: number;
  /** The number of those that are kept only because others build on them. */
  readonly ancestors: number;
  /** The most archives that any restore ever read. */
  readonly longestChain: number;
  /** The most bytes that the restore of a newest snapshot ever read. */
  readonly largestRestoreBytes: number;
}

/** An archive of the simulated container. */
interface Stored extends Dated {
  readonly place: number;
  readonly bytes: number;
  readonly parent: Stored | null;
  readonly lifetime: bigint | null;
  readonly chainLength: number;
  readonly chainBytes: number;
}

/** Runs sync and prune after each snapshot of a history. */
export function simulate(history: History, request: SimulationRequest): Simulation {
  const calendar = remembered(request.calendar);
  let stored: readonly Stored[] = [];
  let local: readonly Dated[] = [];
  let [uploadedBytes, longestChain, largestRestoreBytes, ancestors] = [0, 0, 0, 0];
  for (const [place, snapshot] of history.snapshots.entries()) {
    local = thin([...local, snapshot], request.localRules, calendar);
    const sent = send({ history, place, stored, local, request, calendar });
    uploadedBytes += sent.bytes;
    longestChain = Math.max(longestChain, sent.chainLength);
    largestRestoreBytes = Math.max(largestRestoreBytes, sent.chainBytes);
    ({ stored, ancestors } = prune([...stored, sent], local, request.rules, calendar));
  }
  return {
    uploadedBytes,
    storedBytes: stored.reduce((sum, { bytes }) => sum + bytes, 0),
    archives: stored.length,
    ancestors,
    longestChain,
    largestRestoreBytes,
  };
}

interface Sending {
  readonly history: History;
  readonly place: number;
  readonly stored: readonly Stored[];
  readonly local: readonly Dated[];
  readonly request: SimulationRequest;
  readonly calendar: Calendar;
}

function send({ history, place, stored, local, request, calendar }: Sending): Stored {
  const snapshot = history.snapshots[place] ?? { id: "", otime: 0n };
  const here = new Set(local.map(({ id }) => id));
  const candidates = stored.filter(({ id }) => here.has(id));
  const { rules, limits } = request;
  const judged = rules === null ? null : judge([...stored, snapshot], rules, calendar, snapshot.otime);
  const lifetime = judged?.lifetimes.get(snapshot.id) ?? null;
  const parent = judged === null ? (candidates.at(-1) ?? null) : chooseParent(lifetime, candidates, limits);
  const bytes = history.bytes(place, parent?.place ?? null);
  return {
    ...snapshot,
    place,
    bytes,
    parent,
    lifetime,
    chainLength: (parent?.chainLength ?? 0) + 1,
    chainBytes: (parent?.chainBytes ?? 0) + bytes,
  };
}

function thin(snapshots: readonly Dated[], rules: KeepRules | null, calendar: Calendar): readonly Dated[] {
  const now = snapshots.at(-1)?.otime;
  if (rules === null || now === undefined) return snapshots;
  const { kept } = judge(snapshots, rules, calendar, now);
  return snapshots.filter(({ id, otime }) => kept.has(id) || otime === now);
}

function prune(
  stored: readonly Stored[],
  local: readonly Dated[],
  rules: KeepRules | null,
  calendar: Calendar,
): { readonly stored: readonly Stored[]; readonly ancestors: number } {
  const newest = stored.at(-1);
  if (rules === null || newest === undefined) return { stored, ancestors: 0 };
  const { kept } = judge(stored, rules, calendar, newest.otime);
  const here = new Set(local.map(({ id }) => id));
  const newestHere = stored.findLast(({ id }) => here.has(id));
  const own = stored.filter((each) => kept.has(each.id) || each === newest || each === newestHere);
  const needed = new Set<Stored>();
  for (const archive of own)
    for (let link: Stored | null = archive; link !== null && !needed.has(link); link = link.parent) needed.add(link);
  return { stored: stored.filter((each) => needed.has(each)), ancestors: needed.size - own.length };
}

/** Naming the periods of a moment is the costly part, and each moment is asked for again and again. */
function remembered(calendar: Calendar): Calendar {
  const known = new Map<bigint, ReturnType<Calendar>>();
  return (otime) => {
    const periods = known.get(otime) ?? calendar(otime);
    known.set(otime, periods);
    return periods;
  };
}
