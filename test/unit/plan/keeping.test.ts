// Sync plans with keep rules and limits of chains.

import assert from "node:assert/strict";
import { describe, test } from "node:test";
import fc from "fast-check";
import { judge, openCalendar, parseKeepText, type KeepRules } from "../../../src/plan/keep.ts";
import type { Keeping } from "../../../src/plan/keeping.ts";
import { formatMetadata, parseArchive } from "../../../src/plan/key.ts";
import { streamIdentity, type Snapshot } from "../../../src/plan/model.ts";
import { formatPinKey } from "../../../src/plan/pin.ts";
import { planPrune } from "../../../src/plan/prune.ts";
import { planSync } from "../../../src/plan/sync.ts";
import { archiveOf, inventory, keyOf, snapshot, source } from "../../support/builders.ts";

const DAY_NS = 86_400_000_000_000n;
/** A Thursday, and the first of a month and of a year. */
const NEW_YEAR = BigInt(Date.UTC(2026, 0, 1, 3)) * 1_000_000n;

/** The snapshot of a day, counted from 1 January 2026. */
const onDay = (day: number): Snapshot => snapshot(day + 1, { path: `d${day}`, otime: NEW_YEAR + BigInt(day) * DAY_NS });
const days = (count: number): Snapshot[] => Array.from({ length: count }, (_, day) => onDay(day));

function keeping(rules: string | null, changes: Partial<Keeping> = {}): Keeping {
  const parsed: KeepRules | null = rules === null ? null : parseKeepText(rules, "--keep");
  const now = NEW_YEAR + 1000n * DAY_NS;
  const none = { maxChain: null, fullEveryNs: null, pinned: new Set<string>() };
  return { rules: parsed, calendar: openCalendar("UTC"), now, ...none, ...changes };
}

/** Each step as `snapshot parent (reason)`. */
function planned(snapshots: readonly Snapshot[], by: Keeping | null, archived: Parameters<typeof inventory>[1] = []) {
  const { steps, notKept } = planSync(inventory(snapshots, archived), { keeping: by });
  return {
    steps: steps.map(({ snapshot: { path }, sendParent, reason = "" }) =>
      `${path} ${sendParent?.path ?? "full"} ${reason}`.trim(),
    ),
    notKept: notKept.map(({ path }) => path),
  };
}

describe("a sync with keep rules", () => {
  test("builds each snapshot on one that is kept at least as long, and gives the reason", () => {
    const { steps, notKept } = planned(days(20), keeping("30d 8w 12m *y"));
    assert.deepEqual(notKept, []);
    assert.deepEqual(steps.slice(0, 6), [
      "d0 full",
      "d1 d0 first of the year",
      "d2 d1 first of the day",
      "d3 d2 first of the day",
      // A Monday.
      "d4 d0 first of the year",
      "d5 d4 first of the week",
    ]);
    assert.equal(steps[11], "d11 d4 first of the week");
    assert.equal(steps[18], "d18 d11 first of the week");
  });

  test("sends only what the rules keep, and always the newest", () => {
    const twice = [onDay(0), onDay(1), snapshot(50, { path: "noon", otime: NEW_YEAR + DAY_NS + 3600_000_000_000n })];
    const noon = { ...twice[2], otransid: 25, id: 300 } as Snapshot;
    assert.deepEqual(planned([onDay(0), onDay(1), noon], keeping("9d")).notKept, []);
    assert.deepEqual(planned([onDay(0), onDay(1), noon, onDay(2)], keeping("9d")).notKept, ["noon"]);
    assert.deepEqual(planned(days(9), keeping("3d")).notKept, ["d0", "d1", "d2", "d3", "d4", "d5"]);
    const pinned = keeping("3d", { pinned: new Set(["d1"]) });
    assert.deepEqual(planned(days(9), pinned).notKept, ["d0", "d2", "d3", "d4", "d5"]);
  });

  test("counts archives whose snapshots are gone: what follows the first of a period is not the first", () => {
    const [first, second, third] = [onDay(4), onDay(5), onDay(6)];
    const given = inventory([second, third], [[first, archiveOf(first, null)]]);
    const { steps, notKept } = planSync(given, { keeping: keeping("1w") });
    assert.deepEqual([steps.map(({ snapshot: { path } }) => path), notKept], [["d6"], [second]]);
  });

  test("uses a snapshot that is pinned in the container as a send parent for ever", () => {
    const all = days(3);
    const [first, second] = all;
    assert.ok(first !== undefined && second !== undefined);
    const archived = [
      [first, archiveOf(first, null)],
      [second, archiveOf(second, first)],
    ] as const;
    const pins = { volumes: [formatPinKey(keyOf("d1"))] };
    const { steps } = planSync(inventory(all, archived, pins), { keeping: keeping("9d *y") });
    assert.equal(steps[0]?.sendParent?.path, "d1");
  });

  test("needs to know every archive of the subvolume", () => {
    const [first, second] = [onDay(0), onDay(1)];
    const given = inventory([first, second], [[first, archiveOf(first, null)]], { examined: "snapshots" });
    assert.equal(planSync({ ...given, snapshots: [first] }).examine, null);
    assert.equal(planSync({ ...given, snapshots: [first] }, { keeping: keeping("9d") }).examine, "source");
  });
});

/** Days on which a snapshot was taken; some have several. */
const someDays = fc
  .array(fc.integer({ min: 0, max: 400 }), { minLength: 2, maxLength: 60 })
  .map((taken) =>
    taken
      .toSorted((a, b) => a - b)
      .map((day, at) =>
        snapshot(at + 1, { path: `s${at}`, otime: NEW_YEAR + BigInt(day) * DAY_NS + BigInt(at) * 1_000_000_000n }),
      ),
  );
const someCounts = fc
  .record({
    d: fc.integer({ min: 1, max: 30 }),
    w: fc.integer({ min: 0, max: 8 }),
    m: fc.integer({ min: 0, max: 12 }),
    y: fc.boolean(),
  })
  .map(({ d, w, m, y }) => `${d}d ${w}w ${m}m${y ? " *y" : ""}`);

describe("whatever snapshots and rules there are", () => {
  test("a parent lives as long as its child wherever one does, and else the longest", () => {
    fc.assert(
      fc.property(someDays, someCounts, (snapshots, rules) => {
        const by = keeping(rules);
        const { steps } = planSync(inventory(snapshots), { keeping: by });
        const dated = snapshots.map(({ path: id, otime }) => ({ id, otime }));
        const { lifetimes } = judge(dated, by.rules ?? assert.fail(), by.calendar, by.now);
        const lifeOf = ({ path }: Snapshot): bigint => lifetimes.get(path) ?? 10n ** 30n;
        for (const [at, { snapshot: child, sendParent }] of steps.entries()) {
          const before = steps.slice(0, at).map((step) => step.snapshot);
          const enough = before.filter((each) => lifeOf(each) >= lifeOf(child));
          const longest = before.reduce((most, each) => (lifeOf(each) > most ? lifeOf(each) : most), 0n);
          if (at === 0) assert.equal(sendParent, null);
          else if (enough.length > 0) assert.equal(sendParent, enough.at(-1));
          else assert.equal(lifeOf(sendParent ?? assert.fail("full, although something is archived")), longest);
        }
      }),
    );
  });

  test("a sync after a prune by the same rules sends nothing", () => {
    fc.assert(
      fc.property(someDays, someCounts, (snapshots, rules) => {
        const by = keeping(rules);
        const all = snapshots.map((each) => archiveOf(each, null));
        const { deletions } = planPrune({
          archives: all,
          sources: new Set([source.uuid]),
          rules: by.rules ?? assert.fail(),
          calendar: by.calendar,
          now: by.now,
          local: snapshots.map(streamIdentity),
          pinned: new Set(),
        });
        const left = all.filter((archive) => !deletions.includes(archive));
        const there = inventory(snapshots, [], { archives: left, archived: new Set(left.map(({ key }) => key)) });
        assert.deepEqual(planSync(there, { keeping: by }).steps, []);
      }),
    );
  });
});

describe("limits of chains", () => {
  test("begin a new chain by its length or its age, with keep rules and without", () => {
    assert.deepEqual(planned(days(5), keeping(null, { maxChain: 2 })).steps, [
      "d0 full",
      "d1 d0",
      "d2 full --max-chain",
      "d3 d2",
      "d4 full --max-chain",
    ]);
    assert.deepEqual(planned(days(4), keeping(null, { fullEveryNs: 2n * DAY_NS })).steps, [
      "d0 full",
      "d1 d0",
      "d2 full --full-every",
      "d3 d2",
    ]);
    const [first] = days(1);
    assert.ok(first !== undefined);
    const archived = [[first, archiveOf(first, null)]] as const;
    assert.deepEqual(planned([first, onDay(9)], keeping("9d", { fullEveryNs: 7n * DAY_NS }), archived).steps, [
      "d9 full --full-every",
    ]);
  });

  test("do not exist without options: each snapshot builds on the one before it", () => {
    assert.deepEqual(planned(days(3), null).steps, ["d0 full", "d1 d0", "d2 d1"]);
  });
});

test("the metadata of an archive has the length of its chain, and the bytes that come before it", () => {
  const facts = { encoding: "identity", sendProto: 2, partBytes: 1, volumes: null, tool: "t/1" } as const;
  const [one, two] = days(2);
  assert.ok(one !== undefined && two !== undefined);
  const read = (sendParent: Snapshot | null, parentChain: { length: number; bytes: number | null } | null) =>
    parseArchive({
      key: keyOf("d1"),
      bytes: 7,
      metadata: formatMetadata({ snapshot: two, sendParent }, { ...facts, parentChain }),
    })?.chain;
  assert.deepEqual(read(null, null), { length: 1, bytes: 7, began: null });
  assert.deepEqual(read(one, { length: 3, bytes: 100 }), { length: 4, bytes: 107, began: null });
  assert.deepEqual(read(one, { length: 3, bytes: null }), { length: 4, bytes: null, began: null });
  assert.equal(read(one, null), undefined);
});
