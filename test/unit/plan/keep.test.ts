// Keep rules: how they are parsed, and what they keep.

import assert from "node:assert/strict";
import { describe, test } from "node:test";
import {
  assertKeeps,
  describeRules,
  judge,
  NO_RULES,
  openCalendar,
  parseKeepCount,
  parseKeepText,
  parseKeepWithin,
  type Dated,
  type KeepRules,
} from "../../../src/plan/keep.ts";

const utc = openCalendar("UTC");
const at = (text: string): bigint => BigInt(Date.parse(text)) * 1_000_000n;
const dated = (...texts: readonly string[]): Dated[] => texts.map((id) => ({ id, otime: at(id) }));
const rules = (text: string, more: Partial<KeepRules> = {}): KeepRules => ({
  ...parseKeepText(text, "--keep"),
  ...more,
});
const keptOf = (snapshots: readonly Dated[], given: KeepRules, now = "2030-01-01T00:00:00Z"): string[] =>
  [...judge(snapshots, given, utc, at(now)).kept].map(([id, reasons]) => `${id}: ${reasons.join(", ")}`).sort();

describe("parsing keep rules", () => {
  test("accepts btrbk's form and options", () => {
    assert.deepEqual(rules("24h 30d 8w 24m *y").counts, {
      hourly: 24,
      daily: 30,
      weekly: 8,
      monthly: 24,
      yearly: "all",
    });
    assert.equal(parseKeepCount("all", "--keep-yearly"), "all");
    assert.equal(parseKeepWithin("1w2d", "--keep-within"), 9n * 86_400_000_000_000n);
    assert.equal(
      describeRules(rules("30d 1w *y", { last: 3, withinNs: 86_400_000_000_000n })),
      "the last 3, all within 1 days, 30 days, 1 week, every year",
    );
  });

  for (const text of ["-3d", "3q", "d", "3", "3.5d", "1e3d", "30d,8w"])
    test(`refuses ${text} with one sentence`, () =>
      assert.throws(() => parseKeepText(text, "--keep"), {
        code: "USAGE",
        message: new RegExp(`^--keep takes .*: not ${text.replaceAll(".", "\\.")}$`),
      }));

  test("refuses a count that is negative or no number", () => {
    for (const text of ["-1", "", "many", "1.5"])
      assert.throws(() => parseKeepCount(text, "--keep-daily"), { code: "USAGE", message: /^--keep-daily takes/ });
    for (const text of ["", "0d", "-1d", "3", "forever"])
      assert.throws(() => parseKeepWithin(text, "--keep-within"), { code: "USAGE", message: /^--keep-within takes/ });
  });

  test("refuses rules that keep nothing", () => {
    assert.throws(() => assertKeeps(NO_RULES), { code: "USAGE", message: /keep nothing/ });
    assert.throws(() => assertKeeps(rules("0d")), { code: "USAGE" });
    assertKeeps(rules("1d"));
    assertKeeps({ ...NO_RULES, last: 1 });
  });
});

describe("judging by keep rules", () => {
  test("keeps the first snapshot of each of the newest periods, and gives the coarsest reason first", () => {
    const days = dated(
      "2026-10-31T10:00:00Z",
      "2026-11-01T01:00:00Z",
      "2026-11-01T02:00:00Z",
      "2026-11-02T01:00:00Z",
      "2026-11-03T01:00:00Z",
    );
    assert.deepEqual(keptOf(days, rules("2d 1m")), [
      "2026-11-01T01:00:00Z: first of the month",
      "2026-11-02T01:00:00Z: first of the day",
      "2026-11-03T01:00:00Z: first of the day",
    ]);
    assert.deepEqual(keptOf(days, rules("*y 1w")), [
      "2026-10-31T10:00:00Z: first of the year",
      "2026-11-02T01:00:00Z: first of the week",
    ]);
    assert.deepEqual(keptOf(days, { ...rules("1d 1m"), last: 1 }), [
      "2026-11-01T01:00:00Z: first of the month",
      "2026-11-03T01:00:00Z: first of the day, the newest",
    ]);
  });

  test("does not count periods without a snapshot", () => {
    const gaps = dated("2026-01-01T00:00:00Z", "2026-05-05T00:00:00Z", "2026-11-01T00:00:00Z");
    assert.equal(keptOf(gaps, rules("3d")).length, 3);
  });

  test("counts durations back from the newest snapshot, and keeps snapshots from the future without counting them", () => {
    const some = dated("2026-11-01T00:00:00Z", "2026-11-05T00:00:00Z", "2026-11-06T00:00:00Z", "2031-01-01T00:00:00Z");
    assert.deepEqual(keptOf(some, { ...NO_RULES, withinNs: 86_400_000_000_000n }), [
      "2026-11-05T00:00:00Z: new enough for --keep-within",
      "2026-11-06T00:00:00Z: new enough for --keep-within",
      "2031-01-01T00:00:00Z: its time is in the future",
    ]);
    assert.deepEqual(keptOf(some, { ...NO_RULES, last: 1 }), [
      "2026-11-06T00:00:00Z: the newest",
      "2031-01-01T00:00:00Z: its time is in the future",
    ]);
  });

  test("uses ISO weeks, also around the turn of the year", () => {
    const weeks = ["2026-12-28", "2027-01-03", "2027-01-04", "2024-12-30"].map(
      (day) => utc(at(`${day}T12:00:00Z`)).weekly,
    );
    assert.deepEqual(weeks, ["2026-W53", "2026-W53", "2027-W01", "2025-W01"]);
  });

  test("counts an hour that the clock shows twice as one period, in the given time zone", () => {
    const berlin = openCalendar("Europe/Berlin");
    const [first, second] = [berlin(at("2026-10-25T00:30:00Z")), berlin(at("2026-10-25T01:30:00Z"))];
    assert.deepEqual([first.hourly, second.hourly], ["2026-10-25T02", "2026-10-25T02"]);
    assert.equal(berlin(at("2026-10-31T23:30:00Z")).monthly, "2026-11");
  });

  test("gives a snapshot the lifetime of the coarsest period that it is the first of", () => {
    const { lifetimes } = judge(
      dated("2026-10-01T00:00:00Z", "2026-10-02T00:00:00Z", "2026-11-01T00:00:00Z"),
      rules("30d 24m"),
      utc,
      at("2030-01-01"),
    );
    const day = 86_400_000_000_000n;
    assert.deepEqual([...lifetimes.values()], [24n * 31n * day, 30n * day, 24n * 31n * day]);
    assert.equal(
      judge(dated("2026-10-01T00:00:00Z"), rules("*y"), utc, at("2030-01-01")).lifetimes.get("2026-10-01T00:00:00Z"),
      null,
    );
  });
});
