import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { formatMetadata, parseArchive } from "../../src/plan/key.ts";
import type { Archive, Inventory, Snapshot, Unexamined } from "../../src/plan/model.ts";
import { planSync } from "../../src/plan/sync.ts";
import { archiveOf, inventory, keyOf, snapshot, unexamined, uuid } from "../support/builders.ts";

const [one, two, three, four] = [snapshot(1), snapshot(2), snapshot(3), snapshot(4)];

/** `2<1` for a difference, `1` for a full. */
function stepsOf(given: Inventory): string[] {
  return planSync(given).steps.map(({ snapshot: { path }, sendParent }) =>
    [path, sendParent?.path].flatMap((name) => name?.replace("snapshots/", "") ?? []).join("<"),
  );
}

function archived(...snapshots: Snapshot[]): [Snapshot, Archive][] {
  return snapshots.map((each, index) => [each, archiveOf(each, snapshots[index - 1] ?? null)]);
}

function findingsOf(given: Inventory): string[] {
  return planSync(given).findings.map(({ code, subject }) => `${code} ${subject}`);
}

describe("what is sent", () => {
  test("nothing, when there is nothing", () => {
    assert.deepEqual(stepsOf(inventory([])), []);
  });
  test("the first whole, each other as the difference to the one before it", () => {
    assert.deepEqual(stepsOf(inventory([one, two, three])), ["1", "2<1", "3<2"]);
  });
  test("only what is missing at the end", () => {
    assert.deepEqual(stepsOf(inventory([one, two, three], archived(one, two))), ["3<2"]);
  });
  test("nothing, when all is archived", () => {
    const plan = planSync(inventory([one, two, three], archived(one, two, three)));
    assert.deepEqual([plan.steps, plan.findings, plan.unexamined], [[], [], []]);
    assert.deepEqual(plan.kept, [one, two, three]);
  });
  test("what is missing at the beginning, whole, without blocking the run", () => {
    assert.deepEqual(stepsOf(inventory([one, two, three, four], archived(two, three, four))), ["1"]);
    assert.deepEqual(stepsOf(inventory([one, two, three, four], archived(three, four))), ["1", "2<1"]);
  });
  test("a hole in the middle, on the archived one before it", () => {
    assert.deepEqual(stepsOf(inventory([one, two, three, four], archived(one, two, four))), ["3<2"]);
  });
  test("a new chain, when every archived snapshot is gone from this machine", () => {
    assert.deepEqual(stepsOf(inventory([three, four], archived(one, two))), ["3", "4<3"]);
  });
  test("no snapshot twice: of two with one path the second is refused", () => {
    const twin = snapshot(2, { path: one.path });
    assert.deepEqual(stepsOf(inventory([one, twin])), ["1"]);
    assert.deepEqual(stepsOf(inventory([one, twin], archived(one))), []);
    assert.deepEqual(findingsOf(inventory([one, twin])), [`NAME_UNUSABLE ${one.path}`]);
  });
});

describe("identity", () => {
  const recreated = snapshot(9, { path: two.path, otransid: two.otransid, id: two.id, otime: two.otime });

  test("a snapshot made anew under an old name is a finding, and nothing builds on it", () => {
    const given = inventory([one, recreated, three], archived(one, two));
    assert.deepEqual(stepsOf(given), ["3<1"]);
    assert.deepEqual(findingsOf(given), [`NAME_REUSED ${keyOf(two.path)}`]);
  });

  test("the same UUID with another ctransid is another content", () => {
    const changed = snapshot(1, { ctransid: one.ctransid + 1 });
    assert.deepEqual(stepsOf(inventory([changed, two], archived(one))), ["2"]);
  });

  test("an encrypted archive without metadata is trusted by name, with a warning when it serves", () => {
    const sealed = { ...archiveOf(one, null), lineage: null };
    assert.deepEqual(stepsOf(inventory([one, two], [[one, sealed]])), ["2<1"]);
    assert.deepEqual(findingsOf(inventory([one, two], [[one, sealed]])), [`TRUSTED_BY_NAME ${keyOf(one.path)}`]);
    assert.deepEqual(findingsOf(inventory([one], [[one, sealed]])), []);
  });

  test("snapshots that share a received UUID are sent whole and serve nobody", () => {
    const shared = [1, 2].map((n) => snapshot(n, { received: { uuid: uuid(77), ctransid: 3 } }));
    assert.deepEqual(stepsOf(inventory([...shared, three, four])), ["1", "2", "3", "4<3"]);
    assert.deepEqual(findingsOf(inventory([...shared, three])), ["IDENTITY_SHARED snapshots/1", "IDENTITY_SHARED snapshots/2"]);
  });
});

describe("what has to be examined", () => {
  const examinedBy = (given: Inventory): readonly string[] => planSync(given).unexamined;
  const listed = (...snapshots: Snapshot[]): [Snapshot, Unexamined][] => snapshots.map((each) => [each, unexamined(each)]);

  test("of many archives only the one that a difference builds on", () => {
    assert.deepEqual(examinedBy(inventory([one, two, three, four], listed(one, two, three))), [keyOf(three.path)]);
  });
  test("nothing, when nothing is missing", () => {
    assert.deepEqual(examinedBy(inventory([one, two], listed(one, two))), []);
  });
  test("an archive that is older than the snapshot of its name", () => {
    const older = { bytes: 1, modified: two.otime - 1n };
    assert.deepEqual(examinedBy(inventory([one, two], [[one, unexamined(one)], [two, older]])), [keyOf(two.path)]);
  });
});

test("a path that no key can say is refused, alone", () => {
  const bad = snapshot(2, { path: "a\\x2fb" });
  const lossy = snapshot(3, { pathIsExact: false });
  assert.deepEqual(stepsOf(inventory([one, bad, lossy, four])), ["1", "4<1"]);
  assert.deepEqual(findingsOf(inventory([one, bad, lossy, four])), [
    `NAME_UNUSABLE ${bad.path}`,
    `NAME_UNUSABLE ${lossy.path}`,
  ]);
});

describe("a subvolume that began as a snapshot", () => {
  const origin = snapshot(50, { source: null, received: { uuid: uuid(1), ctransid: 9 }, ctransid: 777 });
  const archive = archiveOf(snapshot(1), null);
  const local = [snapshot(60), snapshot(61)];

  test("asks for the archive of that, where a snapshot would be sent whole", () => {
    assert.equal(planSync({ ...inventory(local), origin: { snapshot: origin, archive: null } }).wantsOrigin, true);
    assert.equal(planSync(inventory(local)).wantsOrigin, false);
    const archived = archiveOf(snapshot(60), null);
    const goesOn = inventory(local, [[snapshot(60), archived]]);
    assert.equal(planSync({ ...goesOn, origin: { snapshot: origin, archive: null } }).wantsOrigin, false);
  });
  test("goes on from it, and calls it what its archive is called", () => {
    const { steps, wantsOrigin } = planSync({ ...inventory(local), origin: { snapshot: origin, archive } });
    assert.equal(wantsOrigin, false);
    assert.deepEqual(steps.map(({ sendParent }) => sendParent?.path), [origin.path, "snapshots/60"]);
    const lineages = steps.map((step) => parseArchive({ key: step.key, bytes: 1, metadata: formatMetadata(step, facts) })?.lineage);
    assert.deepEqual(lineages[0]?.sendParent, { uuid: uuid(1), ctransid: 9 });
    assert.deepEqual(lineages[1]?.sendParent, lineages[0].snapshot);
  });
});

const facts = { encoding: "identity", sendProto: 2, partBytes: 5242880, volumes: null, tool: "test/1" } as const;
