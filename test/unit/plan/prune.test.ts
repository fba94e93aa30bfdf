// Which archives a prune deletes, and that it never breaks a chain.

import assert from "node:assert/strict";
import { describe, test } from "node:test";
import fc from "fast-check";
import { findChain, indexArchives } from "../../../src/plan/chain.ts";
import { NO_RULES, openCalendar, parseKeepText, type KeepRules } from "../../../src/plan/keep.ts";
import { streamIdentity, type Archive, type Key, type Snapshot } from "../../../src/plan/model.ts";
import { planPrune, type PrunePlan } from "../../../src/plan/prune.ts";
import { archiveOf, snapshot, source, uuid } from "../../support/builders.ts";
import { assertInProportion } from "../../support/cost.ts";

const utc = openCalendar("UTC");
const DAY = 86_400_000_000_000n;
const START = BigInt(Date.parse("2026-01-01T03:00:00Z")) * 1_000_000n;
const now = START + 5000n * DAY;

/** The snapshot of a day. */
const daily = (day: number, changes: Partial<Snapshot> = {}): Snapshot =>
  snapshot(day + 1, { otime: START + BigInt(day) * DAY, ...changes });

function plan(
  archives: readonly Archive[],
  rules: KeepRules | string,
  more: { local?: readonly Snapshot[]; pinned?: readonly Key[] } = {},
): PrunePlan {
  return planPrune({
    archives,
    sources: new Set([source.uuid]),
    rules: typeof rules === "string" ? parseKeepText(rules, "--keep") : rules,
    calendar: utc,
    now,
    local: (more.local ?? []).map(streamIdentity),
    pinned: new Set(more.pinned),
  });
}

const deletedOf = ({ deletions }: PrunePlan): string[] => deletions.map(({ path }) => path.replace("snapshots/", ""));

/** A line: each builds on the one before it. */
function line(days: readonly number[]): Archive[] {
  return days.map((day, at) => archiveOf(daily(day), at === 0 ? null : daily(days[at - 1] ?? 0)));
}

describe("a prune", () => {
  test("of a line deletes nothing, and names the archives that need each", () => {
    const { deletions, rows, ancestors } = plan(line([0, 1, 2, 3]), "1d");
    assert.deepEqual(deletions, []);
    assert.deepEqual(
      rows.map(({ reasons, neededBy }) => [reasons, neededBy.map(({ path }) => path)]),
      [
        [[], ["snapshots/4"]],
        [[], ["snapshots/4"]],
        [[], ["snapshots/4"]],
        [["first of the day", "the newest archive"], []],
      ],
    );
    assert.deepEqual(ancestors, { count: 3, bytes: 3000 });
    assert.deepEqual(
      rows.map(({ chainLength }) => chainLength),
      [1, 2, 3, 4],
    );
  });

  test("deletes archives that no rule keeps and no other needs, children first", () => {
    const [first, second, third, fourth] = [daily(0), daily(1), daily(2), daily(3)];
    const archives = [
      archiveOf(first, null),
      archiveOf(second, first),
      archiveOf(third, second),
      archiveOf(fourth, first),
    ];
    const given = plan(archives, "1d 1m");
    assert.deepEqual(deletedOf(given), ["3", "2"]);
    assert.deepEqual([given.freedBytes, given.totalBytes], [2000, 4000]);
  });

  test("keeps the newest archive whose snapshot is here, and pinned archives", () => {
    const days = [daily(0), daily(1), daily(2)];
    const archives = days.map((day) => archiveOf(day, null));
    assert.deepEqual(deletedOf(plan(archives, { ...NO_RULES, last: 1 })).sort(), ["1", "2"]);
    assert.deepEqual(deletedOf(plan(archives, { ...NO_RULES, last: 1 }, { local: days.slice(0, 2) })), ["1"]);
    const [pinned] = archives;
    assert.deepEqual(
      deletedOf(plan(archives, { ...NO_RULES, last: 1 }, { pinned: pinned === undefined ? [] : [pinned.key] })),
      ["2"],
    );
  });

  test("deletes no archive of another subvolume, and none that is needed there", () => {
    const base = daily(0);
    const other = daily(1, { source: uuid(4242) });
    const archives = [
      archiveOf(base, null),
      archiveOf(other, base),
      archiveOf(daily(2), null),
      archiveOf(daily(3, { source: uuid(4242) }), null),
    ];
    assert.deepEqual(deletedOf(plan(archives, { ...NO_RULES, last: 1 })), []);
  });

  test("deletes no archive that one of unknown lineage may need", () => {
    const archives = line([0, 1, 2, 3, 4]);
    const silent = archives.map((archive, at): Archive =>
      at === 2 ? { ...archive, lineage: null, encoding: "age" } : archive,
    );
    // The fourth named the third, whose identity is unknown; the fifth stands on the fourth.
    assert.deepEqual(deletedOf(plan(silent, { ...NO_RULES, last: 1 })), []);
    const lonely: Archive[] = [...line([0, 1]), archiveOf(daily(3), null)].map((archive, at) =>
      at === 1 ? { ...archive, lineage: null, encoding: "age" } : archive,
    );
    assert.deepEqual(deletedOf(plan(lonely, { ...NO_RULES, last: 1 })), []);
  });

  test("keeps archives without a date", () => {
    const undated = { ...archiveOf(daily(0), null), otime: null };
    assert.deepEqual(deletedOf(plan([undated, archiveOf(daily(1), null)], { ...NO_RULES, last: 1 })), []);
  });

  test("of many archives takes time in proportion to their number", () => {
    assertInProportion("prune", (size, watch) =>
      plan(watch(line(Array.from({ length: size }, (_, day) => day))), "30d 8w *m"),
    );
  });
});

/** Archives that build on earlier ones at random, some full, some of another subvolume, some of unknown lineage. */
const containers = fc
  .array(
    fc.record({
      parent: fc.double({ min: 0, max: 1, noNaN: true }),
      full: fc.boolean(),
      foreign: fc.boolean(),
      silent: fc.integer({ min: 0, max: 9 }),
    }),
    { minLength: 1, maxLength: 40 },
  )
  .map((facts) => {
    const snapshots = facts.map(({ foreign }, day) => daily(day, foreign ? { source: uuid(777) } : {}));
    return facts.map(({ parent, full, silent }, at): Archive => {
      const before = full || at === 0 ? null : (snapshots[Math.floor(parent * at * 0.999)] ?? null);
      const [own = daily(at)] = snapshots.slice(at);
      const archive = archiveOf(own, before);
      return silent === 0 ? { ...archive, lineage: null, encoding: "age" } : archive;
    });
  });
const someRules = fc
  .record({
    d: fc.integer({ min: 0, max: 9 }),
    w: fc.integer({ min: 0, max: 4 }),
    m: fc.integer({ min: 0, max: 3 }),
    last: fc.integer({ min: 1, max: 3 }),
  })
  .map(({ d, w, m, last }): KeepRules => ({ ...parseKeepText(`${d}d ${w}w ${m}m`, "--keep"), last }));

const isIntact = (archive: Archive, all: readonly Archive[]): boolean => {
  try {
    findChain(archive, indexArchives(all));
    return true;
  } catch {
    return false;
  }
};

describe("any container", () => {
  test("has only intact chains after a prune, complete or interrupted, if they were intact before", () => {
    fc.assert(
      fc.property(containers, someRules, fc.double({ min: 0, max: 1, noNaN: true }), (archives, rules, part) => {
        const { deletions } = plan(archives, rules);
        const gone = new Set(deletions.slice(0, Math.round(part * deletions.length)));
        const left = archives.filter((archive) => !gone.has(archive));
        for (const archive of left) if (isIntact(archive, archives)) assert.ok(isIntact(archive, left), archive.path);
      }),
    );
  });

  test("has nothing to delete for a second prune by the same rules", () => {
    fc.assert(
      fc.property(containers, someRules, (archives, rules) => {
        const gone = new Set(plan(archives, rules).deletions);
        assert.deepEqual(
          plan(
            archives.filter((archive) => !gone.has(archive)),
            rules,
          ).deletions,
          [],
        );
      }),
    );
  });
});
