// Simulations: how a subvolume changes, read from a few sizes or from a history, and what the planners make of it.

import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { measureSnapshots } from "../../../src/operations/measure.ts";
import { BackupError } from "../../../src/errors.ts";
import { parseHistory, toHistory } from "../../../src/plan/history.ts";
import { NO_RULES, openCalendar, parseKeepText } from "../../../src/plan/keep.ts";
import type { ChainLimits } from "../../../src/plan/keeping.ts";
import type { Difference, Snapshot } from "../../../src/plan/model.ts";
import {
  assumeHistory,
  differenceOver,
  planMeasurement,
  toProfile,
  type Measured,
  type Measurement,
  type MeasurementPlan,
} from "../../../src/plan/profile.ts";
import {
  pickMilestones,
  simulate,
  simulateLine,
  type History,
  type SimulatedState,
} from "../../../src/plan/simulate.ts";
import { snapshot } from "../../support/builders.ts";

const HOUR = 3_600_000_000_000n;
const DAY = 24n * HOUR;
const START = BigInt(Date.UTC(2026, 0, 1, 3)) * 1_000_000n;
const { signal } = new AbortController();

/** Snapshots so many hours after the start. */
const atHours = (...hours: number[]): Snapshot[] =>
  hours.map((hour, at) => snapshot(at + 1, { path: `h${hour}`, otime: START + BigInt(hour * 60) * (HOUR / 60n) }));

const show = ({ snapshot: { path }, sendParent }: Difference): string => `${sendParent?.path ?? "full"} ${path}`;

function planned(snapshots: readonly Snapshot[]): MeasurementPlan {
  const plan = planMeasurement(snapshots);
  assert.ok(plan);
  return plan;
}

describe("the streams that show how a subvolume changes", () => {
  test("are the newest steps, and differences to the newest over growing distances", () => {
    const days = Array.from({ length: 40 }, (_, day) => day * 24);
    const plan = planned(atHours(...days));
    assert.deepEqual(plan.incrementals.map(show), [
      ...["h912 h936", "h888 h912", "h864 h888", "h840 h864", "h816 h840"],
      ...["h888 h936", "h840 h936", "h744 h936", "h552 h936", "h168 h936", "h0 h936"],
    ]);
    assert.deepEqual([plan.newest.path, plan.oldest.path, plan.intervalNs], ["h936", "h0", DAY]);
  });

  test("leave out what was taken within an hour of another, and need two snapshots", () => {
    const plan = planned(atHours(0, 24, 24.1, 48, 48.2, 48.3));
    assert.deepEqual(plan.incrementals.map(show), ["h24.1 h48.3", "h0 h24.1", "h0 h48.3"]);
    assert.equal(plan.intervalNs, DAY);
    assert.equal(planMeasurement(atHours(0, 0.2, 0.4)), null);
    assert.equal(planMeasurement(atHours(0)), null);
    assert.equal(planMeasurement([]), null);
  });

  test("take the usual distance of the newest, where older ones were thinned out", () => {
    assert.equal(planned(atHours(0, 720, 1440, 1441, 1442, 1443, 1444)).intervalNs, HOUR);
  });

  test("are measured one after the other; one that cannot be made is left out, but for the newest in full", async () => {
    const plan = planned(atHours(0, 24, 48));
    const seen: string[] = [];
    const source = (broken: string) => ({
      estimate: (difference: Difference) =>
        show(difference) === broken
          ? Promise.reject(new BackupError("SEND_FAILED", "broken"))
          : Promise.resolve({ bytes: 10 * (seen.push(show(difference)) + 1), exact: true }),
    });
    const watcher = { onEstimate: (number: number, of: number) => void seen.push(`${number} of ${of}`) };
    const measured = await measureSnapshots(plan, source("full h0"), watcher, signal);
    assert.deepEqual(
      seen.filter((each) => each.includes(" of ")),
      ["1 of 5", "2 of 5", "3 of 5", "4 of 5", "5 of 5"],
    );
    assert.equal(measured.oldest, null);
    assert.deepEqual(
      measured.incrementals.map(({ days }) => days),
      [1, 1, 2],
    );
    await assert.rejects(measureSnapshots(plan, source("full h48"), watcher, signal), { code: "SEND_FAILED" });
    const alone = planned(atHours(0, 24));
    await assert.rejects(measureSnapshots(alone, source("h0 h24"), watcher, signal), /no incremental stream/);
  });
});

describe("a profile", () => {
  const point = (days: number, bytes: number): Measured => ({ days, bytes, exact: true });
  const measurement = (incrementals: readonly Measured[], changes: Partial<Measurement> = {}): Measurement => ({
    intervalNs: DAY,
    newest: { bytes: 1000, exact: true },
    oldest: point(10, 900),
    incrementals,
    ...changes,
  });

  test("joins measured points by straight lines, and takes the usual one of several over the same time", () => {
    const profile = toProfile(measurement([point(1, 90), point(4, 160), point(1.01, 100), point(0.99, 500)]));
    assert.deepEqual(profile.curve, [
      { days: 1, bytes: 100 },
      { days: 4, bytes: 160 },
    ]);
    assert.deepEqual(
      [0.5, 1, 2, 3, 4].map((days) => differenceOver(days, profile)),
      [50, 100, 120, 140, 160],
    );
  });

  test("goes on beyond the longest as between the last two, or as the subvolume grows; and never falls", () => {
    const steep = toProfile(measurement([point(1, 100), point(4, 160)]));
    assert.equal(differenceOver(14, steep), 360);
    const level = toProfile(measurement([point(1, 100), point(4, 90)]));
    assert.deepEqual([differenceOver(4, level), differenceOver(14, level)], [100, 200]);
    const single = toProfile(measurement([point(2, 100)]));
    assert.deepEqual([differenceOver(1, single), differenceOver(4, single)], [50, 200]);
  });

  test("makes a history of snapshots at each interval, no difference larger than the snapshot in full", () => {
    const history = assumeHistory(toProfile(measurement([point(1, 100), point(4, 400)])), { from: START, days: 30 });
    assert.equal(history.snapshots.length, 31);
    assert.equal(history.snapshots.at(-1)?.otime, START + 30n * DAY);
    assert.deepEqual([history.bytes(0, null), history.bytes(30, null)], [1000, 1300]);
    assert.deepEqual([history.bytes(3, 0), history.bytes(13, 0), history.bytes(30, 0)], [300, 1130, 1300]);
  });

  test("does not shrink to nothing, and has no growth where it was not measured", () => {
    const shrinks = toProfile(measurement([point(1, 10)], { oldest: point(10, 5000) }));
    assert.equal(assumeHistory(shrinks, { from: START, days: 365 }).bytes(365, null), 1000);
    assert.equal(toProfile(measurement([point(1, 10)], { oldest: null })).growthPerDay, 0);
  });
});

const line = (day: number, bytes: unknown, more: object = {}): string =>
  JSON.stringify({ otime: `2026-01-${String(day + 1).padStart(2, "0")}T03:00:00Z`, bytes, ...more });

describe("a history", () => {
  const sizes = ({ snapshots, bytes }: History): readonly (readonly number[])[] =>
    snapshots.map((_, at) => [bytes(at, null), bytes(at, at === 0 ? null : 0)]);

  test("of lines: a difference over several is the sum, at most the full size", () => {
    const { lines } = parseHistory(
      `${line(0, 100)}\n\n${line(1, 30)}\n${line(2, 40, { fullBytes: 110 })}\n${line(4, 60)}\n`,
    );
    const history = toHistory(lines, null);
    assert.deepEqual(sizes(history), [
      [100, 100],
      [130, 30],
      [110, 70],
      [170, 130],
    ]);
    assert.equal(history.bytes(3, 2), 60);
    assert.equal(history.snapshots[3]?.otime, START + 4n * DAY);
    const rewritten = parseHistory(`${line(0, 100)}\n${line(1, 90)}\n${line(2, 90, { fullBytes: 100 })}`);
    assert.equal(toHistory(rewritten.lines, null).bytes(2, 0), 100);
  });

  test("is cut to the days asked for, or repeats", () => {
    const { lines } = parseHistory([line(0, 100), line(1, 30), line(3, 40)].join("\n"));
    assert.deepEqual(sizes(toHistory(lines, 2)), [
      [100, 100],
      [130, 30],
    ]);
    const longer = toHistory(lines, 7);
    assert.deepEqual(
      longer.snapshots.map(({ otime }) => Number((otime - START) / DAY)),
      [0, 1, 3, 4, 6, 7],
    );
    assert.deepEqual(
      [1, 2, 3, 4, 5].map((at) => longer.bytes(at, at - 1)),
      [30, 40, 30, 40, 30],
    );
    assert.equal(longer.bytes(5, null), 270);
  });

  const refused: readonly (readonly [what: string, text: string, sentence: RegExp])[] = [
    ["nothing", "", /a history needs two snapshots/],
    ["one line", line(0, 1), /a history needs two snapshots/],
    ["no JSON", `${line(0, 1)}\nnonsense`, /line 2 of the history/],
    ["a list", `${line(0, 1)}\n[1]`, /line 2 of the history/],
    ["negative sizes", `${line(0, 1)}\n${line(1, -5)}`, /line 2 of the history/],
    ["sizes that are no numbers", `${line(0, 1)}\n${line(1, "5")}`, /line 2 of the history/],
    ["sizes that JSON makes infinite", `${line(0, 1)}\n${line(1, 5).replace("5}", "1e999}")}`, /line 2 of the history/],
    ["a first one of no bytes", `\n${line(0, 0)}\n${line(1, 5)}`, /line 2 of the history/],
    ["broken full sizes", `${line(0, 1)}\n${line(1, 5, { fullBytes: 0 })}`, /line 2 of the history/],
    ["a step back", `${line(3, 1)}\n${line(1, 5)}`, /line 2 of the history/],
    ["the same moment twice", `${line(1, 1)}\n${line(1, 5)}`, /line 2 of the history/],
    ["dates without a zone", `${line(0, 1)}\n{"otime":"2026-02-01T03:00:00","bytes":1}`, /line 2 of the history/],
    ["days that do not exist", `${line(0, 1)}\n{"otime":"2026-02-31T03:00:00Z","bytes":1}`, /line 2 of the history/],
  ];
  for (const [what, text, sentence] of refused) {
    test(`refuses ${what}`, () => {
      assert.throws(() => parseHistory(text), { code: "USAGE", message: sentence });
    });
  }

  const archive = (day: number, bytes: number, more: object = {}): object => ({
    key: `k${day}`,
    path: `p${day}`,
    source: "s",
    otime: `2026-01-0${day}T03:00:00.000000001Z`,
    archived: true,
    bytes,
    sendParent: { uuid: "u", ctransid: 1 },
    chainLength: 9,
    ...more,
  });
  const full = { sendParent: null, chainLength: 1 };
  const listed = (...archives: object[]): string => JSON.stringify({ container: "c", archives, findings: [] });

  test("of `list --json`: in the order of time, and full ones count as a usual difference", () => {
    const given = parseHistory(
      listed(archive(3, 30), archive(1, 500, full), archive(2, 20), archive(4, 600, full), {
        ...archive(5, 0),
        bytes: null,
        archived: false,
      }),
    );
    assert.equal(given.fulls, 1);
    assert.deepEqual(
      given.lines.map(({ bytes, fullBytes }) => [bytes, fullBytes]),
      [
        [500, 500],
        [20, null],
        [30, null],
        [30, 600],
      ],
    );
    assert.equal(given.lines[0]?.otime, START + 1n);
  });

  test("of `list --json` is refused where it does not show a line of one subvolume", () => {
    const refusal = (message: RegExp, ...archives: object[]): void =>
      assert.throws(() => parseHistory(listed(...archives)), { code: "USAGE", message });
    refusal(/2 subvolumes/, archive(1, 5, full), archive(2, 5, { source: "other" }));
    refusal(/oldest archive of the list is incremental/, archive(1, 5), archive(2, 5));
    refusal(/unknown when the archive of p2/, archive(1, 5, full), archive(2, 5, { otime: null }));
    refusal(/size of the archive of p2 is unknown/, archive(1, 5, full), archive(2, 0));
    refusal(/needs two snapshots/, archive(1, 5, full));
    refusal(/needs two snapshots/);
  });
});

describe("a simulation", () => {
  const calendar = openCalendar("UTC");
  const NO_LIMITS: ChainLimits = { maxChain: null, fullEveryNs: null };
  const everyHours = (hours: number, count: number): History => ({
    snapshots: Array.from({ length: count }, (_, at) => ({ otime: START + BigInt(at * hours) * HOUR })),
    bytes: (at, sendParent) => (sendParent === null ? 1000 : at - sendParent),
  });
  const run = (history: History, keep: string, limits: Partial<ChainLimits> = {}): readonly SimulatedState[] => {
    const rules = parseKeepText(keep, "--keep");
    return [...simulate(history, { rules, localRules: rules, calendar, limits: { ...NO_LIMITS, ...limits } })];
  };

  test("begins with the first in full, and adds up what each day sends", () => {
    const states = run(everyHours(24, 10), "30d");
    assert.deepEqual(
      states
        .slice(0, 3)
        .map(({ archives, uploadedBytes, storedBytes, chainLength, chainBytes }) => [
          ...[archives, uploadedBytes, storedBytes, chainLength, chainBytes],
        ]),
      [
        [1, 1000, 1000, 1, 1000],
        [2, 1001, 1001, 2, 1001],
        [3, 1002, 1002, 3, 1002],
      ],
    );
  });

  test("syncs once a day: of hourly snapshots, those that no rule keeps are not sent", () => {
    const states = run(everyHours(1, 10 * 24), "30d");
    assert.equal(states.length, 11);
    // The first of each day, and the newest.
    assert.deepEqual([states.at(-1)?.archives, states.at(-1)?.ancestors], [12, 0]);
    assert.equal(simulateLine(everyHours(1, 240)).archives, 240);
  });

  test("begins new chains as sync does, with --max-chain and --full-every", () => {
    const history = everyHours(24, 60);
    assert.equal(run(history, "60d", { maxChain: 7 }).at(-1)?.chainLength, 7);
    const monthly = run(history, "60d", { fullEveryNs: 30n * DAY });
    assert.equal(monthly.at(-1)?.uploadedBytes, 2 * 1000 + 58);
    assert.equal(monthly.at(-1)?.chainLength, 30);
  });

  test("counts what is kept only because others build on it", () => {
    const history = everyHours(24, 60);
    const last = [
      ...simulate(history, {
        rules: { ...NO_RULES, last: 3 },
        localRules: { ...NO_RULES, last: 2 },
        calendar,
        limits: NO_LIMITS,
      }),
    ].at(-1);
    assert.deepEqual([last?.archives, last?.ancestors], [60, 57]);
  });

  test("shows the months and years that it reached, and its end", () => {
    const states = run(everyHours(24, 101), "3d");
    assert.deepEqual(
      pickMilestones(states).map(({ days, state }) => [days, Number((state.otime - START) / DAY)]),
      [
        [30, 30],
        [90, 90],
        [100, 100],
      ],
    );
    assert.deepEqual(pickMilestones([]), []);
  });
});
