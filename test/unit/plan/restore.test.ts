// Which archives a restore receives, and which subvolumes on the target it trusts.

import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { BackupError } from "../../../src/errors.ts";
import { findChain, indexArchives } from "../../../src/plan/chain.ts";
import {
  OWN_PREFIX,
  type Archive,
  type Lineage,
  type TargetSubvolume,
  type Snapshot,
} from "../../../src/plan/model.ts";
import { planRestore, assertGenuine, assertSameStream, type RestoreScope } from "../../../src/plan/restore.ts";
import { archiveOf, snapshot, uuid } from "../../support/builders.ts";

const snapshots = [1, 2, 3, 4].map((number) => snapshot(number));
const archives = snapshots.map((each, index) => archiveOf(each, snapshots[index - 1] ?? null));
const index = indexArchives(archives);
const last = archives[3] ?? assert.fail();

const brokenChain = (error: unknown): boolean => error instanceof BackupError && error.code === "CHAIN_BROKEN";

describe("a chain", () => {
  test("begins with the full archive and ends with the one asked for", () => {
    assert.deepEqual(findChain(last, index), archives);
  });
  test("of a full archive is that archive", () => {
    assert.deepEqual(findChain(archives[0] ?? assert.fail(), index), [archives[0]]);
  });
  test("with a missing link is refused", () => {
    assert.throws(() => findChain(last, indexArchives([...archives.slice(0, 1), ...archives.slice(2)])), brokenChain);
  });
  test("does not take an archive of the same UUID and another ctransid for a link", () => {
    const changed = archiveOf(snapshot(2, { ctransid: 999 }), snapshots[0] ?? null);
    assert.throws(
      () => findChain(last, indexArchives([archives[0], changed, ...archives.slice(2)].flatMap((a) => a ?? []))),
      brokenChain,
    );
  });
  test("that runs in a ring is refused", () => {
    const ring = [archiveOf(snapshot(1), snapshot(2)), archiveOf(snapshot(2), snapshot(1))];
    assert.throws(() => findChain(ring[0] ?? assert.fail(), indexArchives(ring)), brokenChain);
  });
  test("of an archive of unknown contents is refused", () => {
    assert.throws(() => findChain({ ...last, lineage: null }, index), brokenChain);
  });
});

describe("what is received", () => {
  const chain = findChain(last, index);
  const present = (each: Snapshot, sealed = true): TargetSubvolume => ({
    ...each,
    sealed,
    changed: null,
    within: true,
  });
  const received = (
    number: number,
    ctransid = 10 * number - 1,
    changes: Partial<TargetSubvolume> = {},
  ): TargetSubvolume => ({
    ...present(snapshot(number + 100, { received: { uuid: uuid(number), ctransid } })),
    ...changes,
  });
  const keys = (there: readonly TargetSubvolume[], scope: RestoreScope = "chain"): string[] =>
    planRestore(chain, there, scope).steps.map(({ archive }) => archive.path.replace("snapshots/", ""));
  const refused = (there: readonly TargetSubvolume[], reason: RegExp): void => {
    assert.throws(
      () => keys(there),
      (error) => error instanceof BackupError && error.code === "RECEIVE_FAILED" && reason.test(error.message),
    );
  };

  test("everything, on an empty target", () => {
    assert.deepEqual(keys([]), ["1", "2", "3", "4"]);
  });
  test("what follows the newest one that is there, even when an older one is not", () => {
    assert.deepEqual(keys([received(1), received(2)]), ["3", "4"]);
    assert.deepEqual(keys([received(3)]), ["4"]);
  });
  test("nothing, when the snapshot is there, received or where it was taken", () => {
    assert.deepEqual(keys([received(4)]), []);
    assert.deepEqual(keys(snapshots.map((each) => present(each))), []);
  });
  test("a copy of another state of the same snapshot does not count", () => {
    assert.deepEqual(keys([received(4, 1)]), ["1", "2", "3", "4"]);
  });
  test("what was made writable where it was taken does not count, and is not in the way", () => {
    assert.deepEqual(keys([present(snapshot(3), false)]), ["1", "2", "3", "4"]);
  });

  test("a subvolume that btrfs would take for a parent although it is none is refused, with the reason", () => {
    refused(
      [received(2, 999)],
      /snapshots\/3 would be built on snapshots\/102,.* transaction 19\) but was received in another/,
    );
    refused(
      [received(1), received(2, 19, { sealed: false })],
      /snapshots\/3 would be built on .* but is writable or unfinished/,
    );
    refused([received(2), received(2, 999, { id: 999 })], /in another state \(transaction 999\)/);
    assert.deepEqual(keys([received(4, 999), received(3)]), ["4"], "nothing builds on it");
  });
  test("a parent that is outside the mounted part of that filesystem is refused before anything is received", () => {
    refused(
      [received(2, 19, { within: false })],
      /snapshots\/3 builds on snapshots\/102, which is outside the mounted part of that filesystem/,
    );
    refused([received(2, 19, { within: false }), received(2, 19, { id: 999 })], /outside the mounted part/);
    assert.deepEqual(
      keys([received(2), received(2, 19, { within: false, id: 999 })]),
      ["3", "4"],
      "the one received first counts",
    );
    assert.deepEqual(
      keys([present({ ...snapshot(2) }), received(4, 39, { within: false })]),
      [],
      "nothing builds on it",
    );
  });

  test("what was changed after it was received counts neither as restored nor as a parent, and is reported", () => {
    const changed = "was changed after it was received (inode 257)";
    refused(
      [received(2, 19, { changed })],
      /snapshots\/3 would be built on snapshots\/102,.* but was changed after it was received/,
    );
    const there = [received(4, 39, { changed }), received(3)];
    assert.deepEqual(keys(there), ["4"]);
    assert.deepEqual(planRestore(chain, there, "chain").passedOver, [{ path: "snapshots/104", reason: changed }]);
    assert.deepEqual(planRestore(chain, [received(4)], "chain").passedOver, []);
  });

  describe("a stream", () => {
    const lineage = last.lineage ?? assert.fail();
    const parent = archives[2] ?? assert.fail();
    const damaged = (found: Lineage | null, of: Archive | null = parent): void => {
      assert.throws(
        () => assertSameStream(last, of, found),
        (error) => error instanceof BackupError && error.code === "ARCHIVE_DAMAGED",
      );
    };
    const { snapshot: itself, sendParent } = lineage;
    assert.ok(sendParent);

    test("is the one that the chain was made of, or damage", () => {
      assertSameStream(last, parent, lineage);
      damaged(null);
      damaged({ snapshot: { ...itself, ctransid: 1 }, sendParent });
      damaged({ snapshot: itself, sendParent: null });
      damaged({ snapshot: itself, sendParent: { ...sendParent, uuid: uuid(9) } });
      damaged({ snapshot: itself, sendParent: { ...sendParent, ctransid: 1 } });
      const [full] = archives;
      assert.ok(full?.lineage);
      assert.throws(
        () => assertSameStream(full, null, { ...full.lineage, snapshot: full.lineage?.snapshot ?? itself, sendParent }),
        /on top of/,
      );
    });

    test("on top of a restored snapshot, which is of another source, names it by another transaction", () => {
      const found = { snapshot: itself, sendParent: { ...sendParent, ctransid: 1 } };
      assertSameStream(last, { ...parent, source: uuid(77) }, found);
      damaged({ snapshot: itself, sendParent: { ...sendParent, uuid: uuid(9) } }, { ...parent, source: uuid(77) });
    });
  });
  test("the leftovers of an interrupted restore do not make the next one fail", () => {
    const half = received(2, 19, { sealed: false, path: `restored/${OWN_PREFIX}${uuid(2)}` });
    assert.deepEqual(keys([received(1), half]), ["2", "3", "4"]);
    const [, third] = planRestore(chain, [received(1)], "chain").steps;
    assert.ok(third);
    assert.throws(() => assertGenuine(third, [half]), /unfinished/);
  });

  test("where only the last is wanted, the others go where they are found again, and nobody else looks", () => {
    const plan = planRestore(chain, [], "last");
    const scaffold = `${OWN_PREFIX}only-${uuid(4)}`;
    assert.equal(plan.scaffold, scaffold);
    assert.deepEqual(
      plan.steps.map(({ place }) => place),
      [...[1, 2, 3].map((n) => `${scaffold}/${uuid(n)}`), "snapshots/4"],
    );
    const interrupted = received(2, 19, { path: `restored/${scaffold}/${uuid(2)}` });
    assert.deepEqual(keys([interrupted], "last"), ["3", "4"]);
    assert.deepEqual(keys([interrupted], "chain"), ["1", "2", "3", "4"]);
    assert.equal(planRestore(findChain(archives[0] ?? assert.fail(), index), [], "last").scaffold, null);
  });
});
