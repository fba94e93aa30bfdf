// The choice of send parents under keep rules, and its costs over two years.

import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { judge, NO_RULES, openCalendar, parseKeepText, type Dated, type KeepRules } from "../../../src/plan/keep.ts";
import type { ChainLimits } from "../../../src/plan/keeping.ts";
import { chooseParent } from "../../../src/plan/ladder.ts";
import { simulate, simulateLine, type History, type SimulatedState } from "../../../src/plan/simulate.ts";

const calendar = openCalendar("UTC");
const DAY = 86_400_000_000_000n;
const NO_LIMITS: ChainLimits = { maxChain: null, fullEveryNs: null };
const START = BigInt(Date.parse("2025-01-01T03:00:00Z")) * 1_000_000n;

describe("the send parent", () => {
  const rung = (name: string, days: number | null) => ({
    name,
    chainLength: 1,
    lifetime: days === null ? null : BigInt(days) * DAY,
  });
  const chosen = (days: number | null, candidates: readonly ReturnType<typeof rung>[]): string | undefined =>
    chooseParent(days === null ? null : BigInt(days) * DAY, candidates)?.name;

  test("is the nearest that is kept at least as long", () => {
    const candidates = [rung("year", null), rung("month", 700), rung("day", 30), rung("week", 60)];
    assert.equal(chosen(30, candidates), "week");
    assert.equal(chosen(60, candidates), "week");
    assert.equal(chosen(700, candidates), "month");
    assert.equal(chosen(null, candidates), "year");
  });
  test("is the one that is kept longest, the nearest of several, if none is kept as long", () => {
    assert.equal(
      chosen(700, [rung("old day", 30), rung("week", 60), rung("later week", 60), rung("day", 30)]),
      "later week",
    );
  });
  test("is missing only without candidates", () => {
    assert.equal(chosen(30, []), undefined);
    assert.equal(chosen(null, [rung("day", 1)]), "day");
  });
});

/** A repeatable sequence of numbers from 0 to 1. */
function chance(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state * 48_271) % 2_147_483_647;
    return state / 2_147_483_647;
  };
}

const DAYS = 730;

/** Most changes of a real subvolume hit a small part of it, so blocks are written where blocks were written before. */
const [HOT_WRITES, HOT_PART] = [0.95, 0.05];

interface DatedHistory extends History {
  readonly snapshots: readonly Dated[];
}

/** A subvolume of blocks: each day some are written again, and some are added. */
function history({ added, rewritten }: { readonly added: number; readonly rewritten: number }): DatedHistory {
  const next = chance(42);
  const lastWrite: number[] = Array.from({ length: 20_000 }, () => 0);
  const snapshots: Dated[] = [];
  /** For each day: how many blocks were last written on which day. */
  const written: number[][] = [];
  for (let day = 0; day < DAYS; day += 1) {
    for (let count = 0; day > 0 && count < rewritten; count += 1) {
      const part = next() < HOT_WRITES ? HOT_PART : 1;
      lastWrite[Math.floor(next() * part * lastWrite.length)] = day;
    }
    for (let count = 0; day > 0 && count < added; count += 1) lastWrite.push(day);
    const counts: number[] = Array.from({ length: day + 1 }, () => 0);
    for (const each of lastWrite) counts[each] = (counts[each] ?? 0) + 1;
    written.push(counts);
    snapshots.push({ id: String(day), otime: START + BigInt(day) * DAY });
  }
  const bytes = (snapshot: number, sendParent: number | null): number =>
    (written[snapshot] ?? []).reduce((sum, count, day) => (day > (sendParent ?? -1) ? sum + count : sum), 0);
  return { snapshots, bytes };
}

/**
 * The choice of btrfs2s3 2.1: of the year, the month and the week of a snapshot, it goes on until the snapshot is the first of
 * one. The snapshot builds on the first of the period before that. The first of a year is full.
 */
function star(given: DatedHistory, keep: KeepRules): Pick<SimulatedState, "uploadedBytes" | "storedBytes"> {
  const firsts = new Map<string, number>();
  const sent = given.snapshots.map(({ id, otime }, place) => {
    const { yearly, monthly, weekly } = calendar(otime);
    let parent: number | null = null;
    for (const period of [yearly, monthly, weekly]) {
      const first = firsts.get(period);
      if (first === undefined) break;
      parent = first;
    }
    for (const period of [yearly, monthly, weekly]) if (!firsts.has(period)) firsts.set(period, place);
    return { id, otime, place, parent, bytes: given.bytes(place, parent) };
  });
  return { uploadedBytes: sent.reduce((sum, { bytes }) => sum + bytes, 0), ...storedOf(sent, keep) };
}

function storedOf(
  sent: readonly (Dated & { readonly place: number; readonly parent: number | null; readonly bytes: number })[],
  keep: KeepRules,
): { readonly storedBytes: number } {
  const { kept } = judge(sent, keep, calendar, sent.at(-1)?.otime ?? 0n);
  const needed = new Set<number>();
  for (const each of sent.filter(({ id }) => kept.has(id)))
    for (
      let link: (typeof sent)[number] | undefined = each;
      link !== undefined && !needed.has(link.place);
      link = link.parent === null ? undefined : sent[link.parent]
    )
      needed.add(link.place);
  return { storedBytes: sent.reduce((sum, { place, bytes }) => (needed.has(place) ? sum + bytes : sum), 0) };
}

/** The end of a history. */
function atEnd(
  given: History,
  rules: KeepRules,
  localRules: KeepRules,
  limits: ChainLimits = NO_LIMITS,
): SimulatedState {
  const last = [...simulate(given, { rules, localRules, calendar, limits })].at(-1);
  assert.ok(last);
  return last;
}

describe("two years of days, by keep rules of 30 days, 8 weeks, 24 months and every year", () => {
  const rules = parseKeepText("30d 8w 24m *y", "--keep");
  const workloads = {
    growing: { added: 60, rewritten: 5 },
    mixed: { added: 30, rewritten: 100 },
    rewriting: { added: 0, rewritten: 200 },
  };
  for (const [name, workload] of Object.entries(workloads)) {
    const given = history(workload);
    const line = simulateLine(given);
    const ladder = atEnd(given, rules, rules);
    const figures = `uploaded ${(ladder.uploadedBytes / line.uploadedBytes).toFixed(2)} of the line's, stored ${(ladder.storedBytes / line.storedBytes).toFixed(2)}, ${ladder.chainLength} archives a restore`;

    test(`${name}: a ladder sends little more than a line, stores less, and keeps chains short`, () => {
      assert.ok(ladder.uploadedBytes <= 2.6 * line.uploadedBytes, figures);
      if (name !== "growing") assert.ok(ladder.storedBytes <= 0.9 * line.storedBytes, figures);
      assert.ok(ladder.chainLength <= 31 + 12 + 7 + 2, figures);
      assert.equal(line.chainLength, DAYS);
    });

    test(`${name}: a ladder sends and stores much less than stars`, () => {
      const stars = star(given, rules);
      assert.ok(ladder.uploadedBytes <= 0.55 * stars.uploadedBytes, `${ladder.uploadedBytes} ${stars.uploadedBytes}`);
      assert.ok(ladder.storedBytes <= 0.65 * stars.storedBytes, `${ladder.storedBytes} ${stars.storedBytes}`);
    });
  }

  test("a machine that keeps 14 days has longer chains, and still sends little", () => {
    const given = history(workloads.mixed);
    const line = simulateLine(given);
    const ladder = atEnd(given, rules, { ...NO_RULES, last: 14 });
    assert.ok(ladder.uploadedBytes <= 2.6 * line.uploadedBytes);
    assert.ok(ladder.storedBytes < line.storedBytes);
    assert.ok(ladder.chainLength < 200, String(ladder.chainLength));
  });
});
