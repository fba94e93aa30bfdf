// Shows how much keep rules would cost over time: the planners of sync and prune run once a day over a history of
// snapshots, real or assumed.

import { groupBy } from "./chain.ts";
import { DAY_NS, judge, type Calendar, type Dated, type KeepRules } from "./keep.ts";
import type { ChainLimits } from "./keeping.ts";
import {
  parseUuid,
  streamIdentity,
  sumBytes,
  type Archive,
  type Key,
  type Snapshot,
  type UploadStep,
} from "./model.ts";
import { planPrune } from "./prune.ts";
import { NOTHING_STORED } from "./standing.ts";
import { planSync } from "./sync.ts";

/** Snapshots of one subvolume, in the order of creation, and the sizes of their streams. */
export interface History {
  readonly snapshots: readonly Pick<Dated, "otime">[];
  /** Bytes of the stream of the snapshot at a place, full (`null`) or against an earlier one. */
  bytes(snapshot: number, sendParent: number | null): number;
}

export interface SimulationRequest {
  readonly rules: KeepRules;
  /** The rules by which this machine thins out its own snapshots. */
  readonly localRules: KeepRules;
  readonly calendar: Calendar;
  readonly limits: ChainLimits;
}

/** The container after a day's sync and prune. */
export interface SimulatedState {
  /** When the newest snapshot was taken. */
  readonly otime: bigint;
  readonly archives: number;
  /** The number of those that are kept only because others build on them. */
  readonly ancestors: number;
  /** Everything that was sent so far. */
  readonly uploadedBytes: number;
  readonly storedBytes: number;
  /** The most archives that a restore ever read until then. */
  readonly chainLength: number;
  /** The most bytes that a restore ever read until then. */
  readonly chainBytes: number;
}

/** Runs sync and prune once a day, after the last snapshot of the day. */
export function* simulate(history: History, request: SimulationRequest): Generator<SimulatedState, void> {
  const { rules, localRules, limits } = request;
  const calendar = remembered(request.calendar);
  const chains = openChains(history);
  let local: readonly Snapshot[] = [];
  let archives: readonly Archive[] = [];
  for (const day of groupBy(toSnapshots(history), ({ otime }) => calendar(otime).daily).values()) {
    const now = day.at(-1)?.otime ?? 0n;
    local = thin([...local, ...day], localRules, calendar);
    const archived = new Set(archives.map(({ key }) => key));
    const inventory = { ...NOTHING_STORED, source: SOURCE, snapshots: local, archives, archived };
    const keeping = { rules, calendar, now, ...limits, pinned: new Set<string>() };
    archives = [...archives, ...planSync(inventory, { keeping }).steps.map(chains.add)];
    const { deletions, ancestors } = planPrune({
      archives,
      sources: new Set([SOURCE.uuid]),
      rules,
      calendar,
      now,
      local: local.map(streamIdentity),
      pinned: keeping.pinned,
    });
    const deleted = new Set(deletions);
    archives = archives.filter((archive) => !deleted.has(archive));
    yield {
      otime: now,
      archives: archives.length,
      ancestors: ancestors.count,
      storedBytes: sumBytes(archives),
      ...chains.soFar(),
    };
  }
}

/** The end of a history without keep rules: each snapshot is sent, each builds on the one before, and nothing goes. */
export function simulateLine(history: History): SimulatedState {
  const { snapshots } = history;
  const bytes = snapshots.reduce((sum, _, place) => sum + history.bytes(place, place === 0 ? null : place - 1), 0);
  return {
    otime: snapshots.at(-1)?.otime ?? 0n,
    archives: snapshots.length,
    ancestors: 0,
    uploadedBytes: bytes,
    storedBytes: bytes,
    chainLength: snapshots.length,
    chainBytes: bytes,
  };
}

/** A state, and after how many days it was reached. */
export interface Milestone {
  readonly days: number;
  readonly state: SimulatedState;
}

const MILESTONES = [30, 90, 180, 365, 730, 1095, 1825, 3650];

/** Picks the states that a table shows: after a month, a quarter and so on, and at the end. */
export function pickMilestones(states: readonly SimulatedState[]): readonly Milestone[] {
  const [first, last] = [states[0], states.at(-1)];
  if (first === undefined || last === undefined) return [];
  const end = Math.round(Number(last.otime - first.otime) / Number(DAY_NS));
  const before = MILESTONES.filter((days) => days < end).flatMap((days) => {
    const state = states.findLast(({ otime }) => otime - first.otime <= BigInt(days) * DAY_NS);
    return state === undefined ? [] : [{ days, state }];
  });
  return [...before, { days: end, state: last }];
}

const SOURCE = { uuid: uuidOf(0xffff_ffff), id: 256, path: "simulated", generation: null };

/** Makes a snapshot of each place. Its `otransid` is the place. */
function toSnapshots({ snapshots }: History): readonly Snapshot[] {
  return snapshots.map(({ otime }, place) => ({
    uuid: uuidOf(place + 1),
    id: 257 + place,
    source: SOURCE.uuid,
    received: null,
    path: `snapshots/${place}`,
    pathIsExact: true,
    ctransid: place,
    otransid: place,
    otime,
  }));
}

function uuidOf(number: number): Snapshot["uuid"] {
  const uuid = parseUuid(`00000000-0000-4000-8000-${number.toString(16).padStart(12, "0")}`);
  if (uuid === null) throw new TypeError(`${number} makes no UUID`);
  return uuid;
}

/** Makes the archives of a simulation, and measures what was sent and what a restore reads. */
function openChains(history: History) {
  const chains = new Map<Key, { readonly length: number; readonly bytes: number }>();
  let [uploadedBytes, chainLength, chainBytes] = [0, 0, 0];
  return {
    add: ({ key, snapshot, sendParent, sendParentArchive: parent }: UploadStep): Archive => {
      // No stream is empty, and an empty archive would count as damaged.
      const bytes = Math.max(1, history.bytes(snapshot.otransid, sendParent?.otransid ?? null));
      const before = (parent === undefined ? undefined : chains.get(parent.key)) ?? { length: 0, bytes: 0 };
      const chain = { length: before.length + 1, bytes: before.bytes + bytes };
      chains.set(key, chain);
      uploadedBytes += bytes;
      chainLength = Math.max(chainLength, chain.length);
      chainBytes = Math.max(chainBytes, chain.bytes);
      return toArchive({ key, snapshot, sendParent }, bytes);
    },
    soFar: () => ({ uploadedBytes, chainLength, chainBytes }),
  };
}

function toArchive({ key, snapshot, sendParent }: Pick<UploadStep, "key" | "snapshot" | "sendParent">, bytes: number) {
  const { path, otime, otransid } = snapshot;
  return {
    key,
    source: SOURCE.uuid,
    path,
    bytes,
    volumes: null,
    lineage: {
      snapshot: streamIdentity(snapshot),
      sendParent: sendParent === null ? null : streamIdentity(sendParent),
    },
    otime,
    otransid,
    stored: null,
    encoding: "identity",
    partBytes: null,
    etag: null,
  } satisfies Archive;
}

/** The newest always stays. */
function thin(snapshots: readonly Snapshot[], rules: KeepRules, calendar: Calendar): readonly Snapshot[] {
  const newest = snapshots.at(-1);
  const { kept } = judge(
    snapshots.map(({ uuid: id, otime }) => ({ id, otime })),
    rules,
    calendar,
    newest?.otime ?? 0n,
  );
  return snapshots.filter((snapshot) => snapshot === newest || kept.has(snapshot.uuid));
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
