import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { BackupError } from "../../src/errors.ts";
import { findChain, indexArchives } from "../../src/plan/chain.ts";
import { planRestore } from "../../src/plan/restore.ts";
import { archiveOf, snapshot, uuid } from "../support/builders.ts";

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
    assert.throws(() => findChain(last, indexArchives([archives[0], changed, ...archives.slice(2)].flatMap((a) => a ?? []))), brokenChain);
  });
  test("that runs in a ring is refused", () => {
    const ring = [archiveOf(snapshot(1), snapshot(2)), archiveOf(snapshot(2), snapshot(1))];
    assert.throws(() => findChain(ring[0] ?? assert.fail(), indexArchives(ring)), brokenChain);
  });
  test("of an archive that tells nothing is refused", () => {
    assert.throws(() => findChain({ ...last, lineage: null }, index), brokenChain);
  });
});

describe("what is received", () => {
  const keys = (present: Parameters<typeof planRestore>[2]): string[] =>
    planRestore(last, index, present).steps.map(({ archive }) => archive.path.replace("snapshots/", ""));
  const received = (number: number, ctransid = 10 * number - 1): ReturnType<typeof snapshot> =>
    snapshot(number + 100, { received: { uuid: uuid(number), ctransid } });

  test("everything, on an empty target", () => {
    assert.deepEqual(keys([]), ["1", "2", "3", "4"]);
  });
  test("what follows the newest one that is there, even when an older one is not", () => {
    assert.deepEqual(keys([received(1), received(2)]), ["3", "4"]);
    assert.deepEqual(keys([received(3)]), ["4"]);
  });
  test("nothing, when the snapshot is there, received or where it was taken", () => {
    assert.deepEqual(keys([received(4)]), []);
    assert.deepEqual(keys(snapshots), []);
  });
  test("a copy of another state of the same snapshot does not count", () => {
    assert.deepEqual(keys([received(4, 1)]), ["1", "2", "3", "4"]);
  });
});
