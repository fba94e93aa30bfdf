// Which archives are sent again on a better parent, and how one archive replaces another.

import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { openCalendar, parseKeepText } from "../../../src/plan/keep.ts";
import type { Keeping } from "../../../src/plan/keeping.ts";
import { formatManifest, formatVolumeKey, parseManifest, type Volume } from "../../../src/plan/manifest.ts";
import { originOf, streamIdentity, type Archive, type Snapshot } from "../../../src/plan/model.ts";
import { planPrune } from "../../../src/plan/prune.ts";
import { planRebase, suggestRebases } from "../../../src/plan/rebase.ts";
import { formatReplacement, parseReplacement } from "../../../src/plan/replacement.ts";
import { archiveOf, inventory, keyOf, snapshot, source } from "../../support/builders.ts";

const DAY_NS = 86_400_000_000_000n;
const NEW_YEAR = BigInt(Date.UTC(2026, 0, 1, 3)) * 1_000_000n;
const onDay = (day: number, changes: Partial<Snapshot> = {}): Snapshot =>
  snapshot(day + 1, { path: `d${day}`, otime: NEW_YEAR + BigInt(day) * DAY_NS, ...changes });
const days = Array.from({ length: 70 }, (_, day) => onDay(day));
const now = NEW_YEAR + 400n * DAY_NS;

function keeping(rules: string): Keeping {
  const none = { maxChain: null, fullEveryNs: null, pinned: new Set<string>() };
  return { rules: parseKeepText(rules, "--keep"), calendar: openCalendar("UTC"), now, ...none };
}

/** The archives of all days, each on the one before it. */
const line = (): Archive[] => days.map((day, at) => archiveOf(day, days[at - 1] ?? null));

/** Snapshots that are here, beside a line of all days. */
const beside = (here: readonly Snapshot[]) => {
  const archives = line();
  return { archives, of: inventory(here, [], { archives, archived: new Set(archives.map(({ key }) => key)) }) };
};

describe("a rebase", () => {
  const planned = (day: number, here: readonly Snapshot[], rules: string): string => {
    const { archives, of } = beside(here);
    const plan = planRebase(archives[day] ?? assert.fail(), of, keeping(rules));
    if ("refused" in plan) return plan.refused;
    assert.equal(plan.step.replaces, archives[day]);
    return `${plan.step.snapshot.path} on ${plan.step.sendParent?.path ?? "nothing"}: ${plan.step.reason ?? ""}`;
  };

  test("builds on what a sync by the same rules would have chosen then", () => {
    // Day 31 is the first of February; day 59 the first of March.
    assert.equal(planned(31, days, "30d 8w 24m *y"), "d31 on d0: first of the year");
    assert.equal(planned(59, days, "30d 8w 24m *y"), "d59 on d31: first of the month");
    assert.equal(planned(60, days, "30d 8w 24m *y"), "it already builds on what the keep rules would choose");
    assert.equal(planned(46, days, "30d 8w 24m *y"), "d46 on d39: first of the week");
  });

  test("needs the snapshot here, as it was archived, and something better to build on", () => {
    assert.match(planned(31, days.slice(32), "24m"), /not on this machine any more/);
    assert.match(planned(1, days, "30d"), /already builds on/);
    const changed = days.map((each) => (each.path === "d31" ? { ...each, ctransid: each.ctransid + 1 } : each));
    assert.match(planned(31, changed, "30d 24m"), /was changed/);
    // The first of January is gone: the nearest that lives longest is all there is.
    assert.equal(planned(31, days.slice(20), "30d 8w 24m *y"), "d31 on d25: first of the week");
  });

  test("never builds on what is not archived, or on an archive that builds on its own", () => {
    const { archives, of } = beside(days);
    const without = { ...of, archives: archives.filter(({ path }) => path !== "d0") };
    const plan = planRebase(archives[31] ?? assert.fail(), without, keeping("30d 24m *y"));
    assert.ok("refused" in plan || plan.step.sendParent === null);
    // A ring: d0 was sent again on top of d31.
    const [first, second] = [onDay(0), onDay(31)];
    const ring = [archiveOf(first, second), archiveOf(second, null)];
    const of2 = inventory([first, second], [], { archives: ring, archived: new Set(ring.map(({ key }) => key)) });
    const inRing = planRebase(ring[1] ?? assert.fail(), of2, keeping("30d 24m *y"));
    assert.deepEqual(inRing, { refused: "it already builds on what the keep rules would choose" });
  });

  test("is suggested where a prune can delete more after it, with the bytes that it frees", () => {
    const { archives, of } = beside(days);
    const rules = keeping("3d 2m");
    const request = {
      archives,
      sources: new Set([source.uuid]),
      rules: rules.rules ?? assert.fail(),
      calendar: rules.calendar,
      now,
      local: days.flatMap((day) => [streamIdentity(day), originOf(day)]),
      pinned: new Set<string>(),
    };
    const plan = planPrune(request);
    const suggested = suggestRebases(plan, request, of);
    assert.deepEqual(
      suggested.map(({ step, freedBytes }) => [step.snapshot.path, step.sendParent?.path, freedBytes]),
      [["d31", "d0", 30_000], ["d59", "d31", 27_000]], // prettier-ignore
    );
    assert.deepEqual(suggestRebases(plan, request, { ...of, snapshots: [] }), []);
  });
});

test("the volumes of a replacement have numbers of their own, and only they are accepted", () => {
  const key = keyOf("d1");
  const volume = (number: number): Volume => ({
    key: formatVolumeKey(key, number),
    bytes: 5,
    etag: "e",
    sha256: "0".repeat(64),
    partBytes: 5,
  });
  const text = formatManifest([volume(3), volume(4)], key);
  assert.deepEqual(parseManifest(text, key), [volume(3), volume(4)]);
  const decision = { replaces: "e1", metadata: { "btrfs-format": "1" } };
  assert.deepEqual(parseReplacement(formatReplacement(decision, text), key), {
    ...decision,
    volumes: [volume(3), volume(4)],
  });
  for (const wrong of [text.replace("000004", "000005"), text.replaceAll("d1", "d2"), "{}", ""]) {
    assert.throws(() => parseManifest(wrong, key), { code: "ARCHIVE_DAMAGED" });
    assert.equal(parseReplacement(formatReplacement(decision, wrong), key), null);
  }
});
