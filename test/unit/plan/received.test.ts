// Which received snapshots belong together, under which source they are archived, and what of them is archived already.

import assert from "node:assert/strict";
import { describe, test } from "node:test";
import type { Archive, Snapshot } from "../../../src/plan/model.ts";
import { chainReceived, withoutNumbers } from "../../../src/plan/received.ts";
import { planRestore } from "../../../src/plan/restore.ts";
import { planSync } from "../../../src/plan/sync.ts";
import { archiveOf, inventory, snapshot, uuid } from "../../support/builders.ts";

/** The nth that was received, as a copy of 1000 + n in transaction 500 + n, on top of another one. */
function received(number: number, parent: number | null, path = `backup/home.${number}`): Snapshot {
  return snapshot(number, {
    source: parent === null ? null : uuid(parent),
    received: { uuid: uuid(1000 + number), ctransid: 500 + number },
    isCopy: true,
    path,
  });
}

/** As it is archived under the source of the first one. */
function archived(number: number, first: number, parent: number | null): Archive {
  const as = (each: number): Snapshot => ({ ...received(each, null), source: uuid(1000 + first) });
  return archiveOf(as(number), parent === null ? null : as(parent));
}

function chains(snapshots: readonly Snapshot[], archives: readonly Archive[] = []): string[] {
  return chainReceived(snapshots, archives).map(
    ({ source, name, snapshots: members }) =>
      `${Number.parseInt(source.slice(-4), 16)} ${name}: ${members.map(({ path }) => path.replace(/.*\./, "")).join(" ")}`,
  );
}

describe("received snapshots", () => {
  test("of two origins are two chains, in the order in which they were received", () => {
    const www = [received(2, null, "backup/www.2"), received(4, 2, "backup/www.4")];
    assert.deepEqual(chains([received(3, 1), ...www, received(1, null)]), [
      "1001 backup/home.*: 1 3",
      "1002 backup/www.*: 2 4",
    ]);
  });
  test("stay together when links of the chain are gone, by their links or by their name", () => {
    assert.deepEqual(chains([received(1, null), received(3, 2), received(5, 2), received(7, 6)]), [
      "1001 backup/home.*: 1 3 5 7",
    ]);
    assert.deepEqual(chains([received(3, 2), received(7, 6, "other/7")]), [
      "1003 backup/home.*: 3",
      "1007 other/*: other/7",
    ]);
  });
  test("begin a new chain with each that was received in full", () => {
    assert.deepEqual(chains([received(1, null), received(2, null)]), [
      "1001 backup/home.*: 1",
      "1002 backup/home.*: 2",
    ]);
  });
  test("keep the source under which one of them, or one of the same name, is archived", () => {
    assert.deepEqual(chains([received(5, 4), received(6, 5)], [archived(5, 1, 4)]), ["1001 backup/home.*: 5 6"]);
    assert.deepEqual(chains([received(7, 6)], [archived(5, 1, 4)]), ["1001 backup/home.*: 7"]);
    const elsewhere = archiveOf(snapshot(7, { uuid: uuid(1005), ctransid: 505 }), null);
    assert.deepEqual(chains([received(5, null)], [elsewhere]), ["1005 backup/home.*: 5"], "not that of a living one");
  });
  test("that are there twice count once, and changes are reported", () => {
    const twin = { ...received(1, null), uuid: uuid(9), id: 999, otransid: 90, path: "twin" };
    const [chain] = chainReceived([received(1, null), twin, { ...received(2, 1), isCopy: false }], []);
    assert.deepEqual(
      chain?.findings.map(({ message }) => message),
      [
        "backup/home.2 was changed after it was received: it is archived as it is now",
        "twin is a copy of the same snapshot as backup/home.1: one archive serves both",
      ],
    );
  });
  test("have names in which numbers and dates do not count", () => {
    const names = ["home.20261123T0300+0100_1", "12/snapshot", "db1.7", "@home_2026-11-23_03:00", "a/2026.11/x-3.old"];
    assert.deepEqual(names.map(withoutNumbers), ["home.*", "*/snapshot", "db1.*", "@home_*", "a/*/x-*.old"]);
  });

  const own = archiveOf(snapshot(8, { uuid: uuid(1001), ctransid: 501, path: "live/1" }), null);
  const [chain] = chainReceived([received(1, null), received(2, 1)], []);
  const copies = { source: { uuid: uuid(1001), id: 0, path: "", generation: null }, areCopies: true };

  test("are archived where what they are copies of is, and what follows builds on that", () => {
    const plan = planSync(inventory(chain?.snapshots ?? [], [], { ...copies, others: [own] }));
    assert.deepEqual(
      plan.steps.map(({ snapshot: { path }, sendParentIdentity }) => [path, sendParentIdentity?.ctransid]),
      [["backup/home.2", 501]],
    );
    assert.match(plan.findings[0]?.message ?? "", /archived under another name \(live\/1\): a copy of the same/);
    const changed = chain?.snapshots.map((each) => ({ ...each, isCopy: false })) ?? [];
    assert.equal(
      planSync(inventory(changed, [], { ...copies, others: [own] })).steps.length,
      2,
      "unless they were changed",
    );
  });
  test("are looked for under every source before they are sent", () => {
    const given = inventory(chain?.snapshots ?? [], [], { ...copies, examined: "source" });
    assert.equal(planSync(given).examine, "container");
    assert.equal(planSync({ ...given, areCopies: false }).examine, null);
  });
  test("are restored onto the disk that has what they build on", () => {
    const [first, second] = [archived(1, 1, null), archived(2, 1, 1)];
    const present = [{ ...received(1, null), sealed: true, changed: null, within: true }];
    assert.deepEqual(
      planRestore([first, second], present, "chain").steps.map(({ archive }) => archive.path),
      ["backup/home.2"],
    );
    const changed = [{ ...received(1, null), sealed: true, changed: "was changed", within: true }];
    assert.throws(() => planRestore([first, second], changed, "chain"), /would be built on backup\/home\.1/);
  });
});
