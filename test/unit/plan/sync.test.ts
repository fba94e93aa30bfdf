// Which snapshots a sync sends, and against which send parent.

import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { formatMetadata, parseArchive } from "../../../src/plan/key.ts";
import type { Archive, Snapshot } from "../../../src/plan/model.ts";
import { planSync } from "../../../src/plan/sync.ts";
import { archiveOf, inventory, keyOf, snapshot, source, uuid } from "../../support/builders.ts";
import { assertInProportion } from "../../support/cost.ts";
import type { Inventory } from "../../../src/plan/inventory.ts";

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
  test("the first in full, each other incrementally against the one before it", () => {
    assert.deepEqual(stepsOf(inventory([one, two, three])), ["1", "2<1", "3<2"]);
  });
  test("only what is missing at the end", () => {
    assert.deepEqual(stepsOf(inventory([one, two, three], archived(one, two))), ["3<2"]);
  });
  test("nothing, when all is archived", () => {
    const plan = planSync(inventory([one, two, three], archived(one, two, three)));
    assert.deepEqual([plan.steps, plan.findings, plan.examine], [[], [], null]);
    assert.deepEqual(plan.kept, [one, two, three]);
  });
  test("what is missing at the beginning, in full, without blocking the run", () => {
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

  test("a new snapshot under an old name is a finding, and nothing builds on it", () => {
    const given = inventory([one, recreated, three], archived(one, two));
    assert.deepEqual(stepsOf(given), ["3<1"]);
    assert.deepEqual(findingsOf(given), [`NAME_REUSED ${keyOf(two.path)}`]);
  });

  test("the same UUID with another ctransid is another content", () => {
    const changed = snapshot(1, { ctransid: one.ctransid + 1 });
    assert.deepEqual(stepsOf(inventory([changed, two], archived(one))), ["2"]);
  });

  test("a snapshot that is archived in two states is no send parent: a restore could not distinguish them", () => {
    const changed = snapshot(2, { path: "snapshots/changed", ctransid: two.ctransid + 7 });
    const first = archived(one, two, three);
    assert.deepEqual(stepsOf(inventory([one, changed, three, four], first)), ["changed<1", "4<3"]);
    const both: [Snapshot, Archive][] = [...first, [changed, archiveOf(changed, one)]];
    assert.deepEqual(stepsOf(inventory([one, changed, four], both)), ["4<1"]);
    assert.deepEqual(stepsOf(inventory([changed, four], both)), ["4"]);
    assert.deepEqual(findingsOf(inventory([one, changed, four], both)), []);
  });

  test("an encrypted archive without metadata is trusted by name, with a warning when it serves", () => {
    const sealed = { ...archiveOf(one, null), lineage: null, encoding: "age" } as const;
    assert.deepEqual(stepsOf(inventory([one, two], [[one, sealed]])), ["2<1"]);
    assert.deepEqual(findingsOf(inventory([one, two], [[one, sealed]])), [`TRUSTED_BY_NAME ${keyOf(one.path)}`]);
    assert.deepEqual(findingsOf(inventory([one], [[one, sealed]])), []);
  });

  test("snapshots that share a received UUID are sent in full, and are no send parents", () => {
    const shared = [1, 2].map((n) => snapshot(n, { received: { uuid: uuid(77), ctransid: 3 } }));
    assert.deepEqual(stepsOf(inventory([...shared, three, four])), ["1", "2", "3", "4<3"]);
    assert.deepEqual(findingsOf(inventory([...shared, three])), [
      "IDENTITY_SHARED snapshots/1",
      "IDENTITY_SHARED snapshots/2",
    ]);
  });
});

describe("what has to be examined", () => {
  const asked = (archives: [Snapshot, Archive][], changes: Partial<Inventory> = {}): unknown =>
    planSync(inventory([one, two, three], archives, { examined: "snapshots", ...changes })).examine;

  test("no more than what stands under the keys of the snapshots, when all is well", () => {
    assert.equal(asked(archived(one, two, three)), null);
  });
  test("the other archives of the source, when one is missing or builds on what is not here", () => {
    assert.equal(asked(archived(one, two)), "source");
    assert.equal(planSync(inventory([two], [[two, archiveOf(two, one)]], { examined: "snapshots" })).examine, "source");
    assert.equal(asked(archived(one, two), { examined: "source" }), null);
  });
  test("the whole container, when a chain of the source is broken", () => {
    const broken = inventory([two], [[two, archiveOf(two, one)]], { examined: "source" });
    assert.equal(planSync(broken).examine, "container");
    assert.equal(planSync({ ...broken, examined: "container" }).examine, null);
  });
});

describe("a chain", () => {
  /** 1 ← 2 ← 3, without the archive of 1. */
  const rest: [Snapshot, Archive][] = [
    [two, archiveOf(two, one)],
    [three, archiveOf(three, two)],
  ];

  test("that is broken is not used, does not count, and a new one begins", () => {
    const given = inventory([two, three, four, snapshot(5)], rest);
    assert.deepEqual(stepsOf(given), ["4", "5<4"]);
    assert.deepEqual(planSync(given).kept, []);
    assert.deepEqual(findingsOf(given), [`CHAIN_BROKEN ${keyOf(two.path)}`]);
    const [finding] = planSync(given).findings;
    assert.match(
      finding?.message ?? "",
      /^snapshots\/2, snapshots\/3 cannot be restored .* builds on a snapshot that is not archived/,
    );
  });
  test("is intact again after the missing snapshot, which still exists, was sent; the chain continues", () => {
    const given = inventory([one, two, three, four], rest);
    assert.deepEqual(stepsOf(given), ["1", "4<3"]);
    assert.deepEqual([planSync(given).kept, planSync(given).findings], [[two, three], []]);
  });
  test("is intact again even through archives whose snapshots are gone", () => {
    const given = inventory([one, three, four], rest);
    assert.deepEqual(stepsOf(given), ["1", "4<3"]);
    assert.deepEqual(planSync(given).kept, [three]);
  });
  test("that may lead to an archive of unknown contents is trusted, with a warning", () => {
    const sealed: [Snapshot, Archive] = [one, { ...archiveOf(one, null), lineage: null, encoding: "age" }];
    const given = inventory([two, four], [sealed, ...rest]);
    assert.deepEqual(stepsOf(given), ["4<2"]);
    assert.deepEqual(findingsOf(given), [`TRUSTED_BY_NAME ${keyOf(two.path)}`]);
    const later = { ...sealed[1], stored: 9n };
    const stored = rest.map(([of, archive]): [Snapshot, Archive] => [of, { ...archive, stored: 5n }]);
    assert.deepEqual(findingsOf(inventory([two, four], [[one, later], ...stored])), [
      `CHAIN_BROKEN ${keyOf(two.path)}`,
    ]);
  });
  test("that builds on itself is broken", () => {
    const ring: [Snapshot, Archive][] = [
      [one, archiveOf(one, two)],
      [two, archiveOf(two, one)],
    ];
    assert.deepEqual(stepsOf(inventory([one, two, three], ring)), ["3"]);
    assert.deepEqual(planSync(inventory([one, two, three], ring)).kept, []);
  });
  test("begins again on request, and the rest of the run builds on that", () => {
    const given = inventory([one, two, three, four], archived(one, two));
    const steps = planSync(given, { full: true }).steps.map(({ sendParent }) => sendParent?.path ?? null);
    assert.deepEqual(steps, [null, three.path]);
  });
});

describe("the archive under a snapshot's name", () => {
  test("that is empty, or no stream, is an error and never a send parent, and the advice names what builds on it", () => {
    for (const [changes, code] of [
      [{ bytes: 0 }, "ARCHIVE_DAMAGED"],
      [{ encoding: null }, "NOT_AN_ARCHIVE"],
    ] as const) {
      const given = inventory(
        [one, two, three],
        [
          [one, { ...archiveOf(one, null), lineage: null, ...changes }],
          [two, archiveOf(two, one)],
        ],
      );
      assert.deepEqual(stepsOf(given), ["3"]);
      assert.deepEqual(planSync(given).kept, []);
      const [finding] = planSync(given).findings;
      assert.deepEqual([finding?.code, finding?.severity], [code, "error"]);
      assert.match(finding?.message ?? "", /can be restored again then \(snapshots\/2\)/);
    }
  });
  test("that is older than a change of the snapshot does not count, until it is proven to hold the same", () => {
    const changed = snapshot(2, { ctransid: two.ctransid + 5 });
    const archives: [Snapshot, Archive][] = [
      [one, archiveOf(one, null)],
      [two, { ...archiveOf(two, one), etag: "e" }],
    ];
    const given = inventory([one, changed, three], archives);
    assert.deepEqual(findingsOf(given), [`SNAPSHOT_CHANGED ${keyOf(two.path)}`]);
    assert.match(planSync(given).findings[0]?.message ?? "", /made writable, or deduplicated/);
    assert.deepEqual(stepsOf(given), ["3<1"]);
    const proof = { key: keyOf(two.path), etag: "e", uuid: changed.uuid, ctransid: changed.ctransid };
    const proven = planSync({ ...given, proofs: [proof] });
    assert.deepEqual([proven.findings, proven.kept], [[], [one, changed]]);
    assert.deepEqual(
      stepsOf({ ...given, proofs: [proof] }),
      ["3<1"],
      "it does not serve: its stream would name a transaction that no archive has",
    );
    for (const other of [{ etag: "f" }, { ctransid: 1 }, { key: "k" }]) {
      assert.equal(planSync({ ...given, proofs: [{ ...proof, ...other }] }).kept.length, 1);
    }
  });
  test("that is of another snapshot is reported, without advice to delete what may be needed", () => {
    const given = inventory([one, snapshot(9, { path: two.path, otransid: 20 }), three], archived(one, two, three));
    const [finding] = planSync(given).findings;
    assert.deepEqual([finding?.code, finding?.severity], ["NAME_REUSED", "error"]);
    assert.match(finding?.message ?? "", /another machine uses the same source UUID.*rename it/);
    assert.doesNotMatch(finding?.message ?? "", /delete the archive/);
  });
});

describe("snapshots that were moved", () => {
  const moved = [1, 2].map((n) => snapshot(n, { path: `elsewhere/${n}` }));

  test("count as archived: nothing is sent again, they are send parents, and there is one finding", () => {
    const given = inventory([...moved, three], [], { archives: archived(one, two).map(([, archive]) => archive) });
    assert.deepEqual(stepsOf(given), ["3<elsewhere/2"]);
    assert.deepEqual(planSync(given).kept, moved);
    assert.deepEqual(findingsOf(given), ["ARCHIVED_ELSEWHERE elsewhere/1"]);
    assert.equal(planSync(given).findings[0]?.severity, "warning");
  });
  test("are sent again on request", () => {
    const given = inventory(moved, [], { archives: archived(one, two).map(([, archive]) => archive) });
    assert.deepEqual(
      planSync(given, { rearchive: true }).steps.map(({ key }) => key),
      moved.map(({ path }) => keyOf(path)),
    );
  });
  test("are sent again when their old archives cannot be restored", () => {
    const given = inventory(moved.slice(1), [], { archives: [archiveOf(two, one)] });
    assert.deepEqual(stepsOf(given), ["elsewhere/2"]);
  });
  test("onto the name of another still count as archived", () => {
    const given = inventory([snapshot(1, { path: two.path }), three], archived(one, two));
    assert.deepEqual(findingsOf(given), [`ARCHIVED_ELSEWHERE ${two.path}`]);
  });
});

test("archives of a later state than the subvolume has ever had are another machine's", () => {
  const given = inventory([one], archived(one, two, three), { source: { ...source, generation: 15 } });
  assert.deepEqual(findingsOf(given), [`SOURCE_SHARED ${source.uuid}`]);
  assert.deepEqual(findingsOf({ ...given, source: { ...source, generation: 30 } }), []);
});

test("a plan for many snapshots takes time that grows with them", () => {
  assertInProportion("a plan", (size, watch) => {
    const many = Array.from({ length: size }, (_, n) => snapshot(n + 1));
    const archives = many.map((each): [Snapshot, Archive] => [each, archiveOf(each, null)]);
    const changed = many.map((each, n) => (n % 2 === 0 ? each : { ...each, uuid: uuid(size + n + 1) }));
    const given = inventory(changed, archives);
    const watched = { ...given, snapshots: watch(given.snapshots), archives: watch(given.archives) };
    assert.equal(planSync(watched).findings.length, Math.floor(size / 2));
  });
});

test("a path that no key can express is refused, alone", () => {
  const bad = snapshot(2, { path: "a\\x2fb" });
  const lossy = snapshot(3, { pathIsExact: false });
  assert.deepEqual(stepsOf(inventory([one, bad, lossy, four])), ["1", "4<1"]);
  assert.deepEqual(findingsOf(inventory([one, bad, lossy, four])), [
    `NAME_UNUSABLE ${bad.path}`,
    `NAME_UNUSABLE ${lossy.path}`,
  ]);
});

describe("a subvolume that was made from a snapshot", () => {
  const origin = snapshot(50, { source: null, received: { uuid: uuid(1), ctransid: 9 }, ctransid: 777 });
  const archive = archiveOf(snapshot(1), null);
  const local = [snapshot(60), snapshot(61)];

  test("asks for the archive of that, where a snapshot would be sent in full", () => {
    const asked = (changes: Partial<Inventory>, archives: [Snapshot, Archive][] = []): unknown =>
      planSync(inventory(local, archives, { examined: "source", ...changes })).examine;
    assert.equal(asked({ origin }), "container");
    assert.equal(asked({}), null);
    assert.equal(asked({ origin }, [[snapshot(60), archiveOf(snapshot(60), null)]]), null);
  });
  test("explains why nothing builds on a snapshot that came back from another disk", () => {
    const returned = { ...origin, received: { uuid: uuid(1), ctransid: 40 } };
    const given = inventory([snapshot(60)], [], { origin: returned, others: [archiveOf(one, null)] });
    const { steps, findings } = planSync(given);
    assert.equal(steps[0]?.sendParent, null);
    assert.match(
      findings[0]?.message ?? "",
      /was received from a copy of snapshots\/1, .*another transaction \(40, archived 9\).* sent in full/,
    );
    assert.deepEqual(planSync({ ...given, others: [] }).findings, []);
  });
  test("continues from it, and names it as its archive does", () => {
    const { steps, examine } = planSync(inventory(local, [], { origin, others: [archive] }));
    assert.equal(examine, null);
    assert.deepEqual(
      steps.map(({ sendParent }) => sendParent?.path),
      [origin.path, "snapshots/60"],
    );
    const lineages = steps.map(
      (step) => parseArchive({ key: step.key, bytes: 1, metadata: formatMetadata(step, facts) })?.lineage,
    );
    assert.deepEqual(lineages[0]?.sendParent, { uuid: uuid(1), ctransid: 9 });
    assert.deepEqual(lineages[1]?.sendParent, lineages[0].snapshot);
  });
});

const facts = { encoding: "identity", sendProto: 2, partBytes: 5242880, volumes: null, tool: "test/1" } as const;
