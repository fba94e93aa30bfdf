// Carrying out a prune, and the check of a send parent's archive, on a store in memory.

import assert from "node:assert/strict";
import { Readable } from "node:stream";
import { describe, test } from "node:test";
import { BackupError } from "../../../src/errors.ts";
import { readKeepRules, storeKeepRules } from "../../../src/operations/keep-rules.ts";
import { assertParentArchived, dropWithoutParent } from "../../../src/operations/parent-archive.ts";
import { hasGrown, runPrune, takePruneInventory, type PruneFailure } from "../../../src/operations/prune.ts";
import { formatKeepKey } from "../../../src/plan/keep-object.ts";
import { parseKeepText } from "../../../src/plan/keep.ts";
import { formatMetadata } from "../../../src/plan/key.ts";
import { formatVolumeKey } from "../../../src/plan/manifest.ts";
import type { Snapshot } from "../../../src/plan/model.ts";
import { formatPinKey } from "../../../src/plan/pin.ts";
import { keyOf, snapshot, source } from "../../support/builders.ts";
import { memoryContainer, type MemoryContainer } from "../../support/memory-container.ts";

const MiB = 2 ** 20;
const { signal } = new AbortController();
const facts = { encoding: "identity", sendProto: 2, partBytes: 5 * MiB, volumes: null, tool: "test/1" } as const;
const [one, two, three] = [snapshot(1), snapshot(2), snapshot(3)];

async function put(into: MemoryContainer, key: string, metadata: Readonly<Record<string, string>> = {}, text = "x") {
  const options = { partBytes: 5 * MiB, concurrency: 1, partsInMemory: 1, metadata };
  return await into.put(key, Readable.from([Buffer.from(text)], { objectMode: false }), options, signal);
}

async function archive(into: MemoryContainer, of: Snapshot, sendParent: Snapshot | null): Promise<void> {
  await put(into, keyOf(of.path), formatMetadata({ snapshot: of, sendParent }, facts));
}

/** One, with two on top of it, and three on top of that. */
async function line(): Promise<MemoryContainer> {
  const container = memoryContainer();
  await archive(container, one, null);
  await archive(container, two, one);
  await archive(container, three, two);
  return container;
}

async function prune(container: MemoryContainer, paths: readonly string[], disturb?: () => unknown) {
  const inventory = await takePruneInventory([], { container, identities: [] }, signal);
  await disturb?.();
  const deletions = paths.map((path) => inventory.archives.find((each) => each.path === path) ?? assert.fail(path));
  const failures: PruneFailure[] = [];
  const watcher = { onDelete: () => undefined, onFailure: (failure: PruneFailure) => void failures.push(failure) };
  const outcome = await runPrune(deletions, inventory, { container, watcher }, signal);
  return { ...outcome, failures: failures.map(({ archive: { path }, reason }) => `${path}: ${reason}`) };
}

describe("a prune", () => {
  test("deletes an archive with everything beside it, and nothing else", async () => {
    const container = await line();
    const key = keyOf(three.path);
    for (const beside of [formatVolumeKey(key, 1), `${key}/proof`, formatPinKey(key), `${key}/of others`])
      await put(container, beside);
    const { deleted, failures } = await prune(container, [three.path]);
    assert.deepEqual([deleted.length, failures], [1, []]);
    assert.deepEqual(
      [...container.objects.keys()].sort(),
      [keyOf(one.path), keyOf(two.path), `${key}/of others`].sort(),
    );
  });

  test("does not delete an archive that has changed since the plan, nor those that it builds on", async () => {
    const container = await line();
    const { deleted, failures, stoppedBy } = await prune(container, [three.path, two.path], async () => {
      container.objects.delete(keyOf(three.path));
      await put(container, keyOf(three.path), formatMetadata({ snapshot: three, sendParent: two }, facts), "another");
    });
    assert.deepEqual([deleted, stoppedBy], [[], null]);
    assert.match(failures[0] ?? "", /snapshots\/3: it has changed/);
    assert.match(failures[1] ?? "", /snapshots\/2: snapshots\/3 needs it/);
    assert.equal(container.objects.size, 3);
  });

  test("believes only a HEAD after a deletion, and stops when the store does not answer", async () => {
    const container = await line();
    const half = { ...container, delete: async () => Promise.resolve() };
    const { failures } = await prune(half, [three.path]);
    assert.match(failures[0] ?? "", /deleted only a part of it/);
    const down = new BackupError("STORE_UNAVAILABLE", "down");
    const { stoppedBy } = await prune({ ...container, delete: async () => Promise.reject(down) }, [
      three.path,
      two.path,
    ]);
    assert.equal(stoppedBy, down);
  });

  test("counts an archive that somebody else has deleted as deleted", async () => {
    const container = await line();
    const { deleted, failures } = await prune(container, [three.path], () =>
      container.objects.delete(keyOf(three.path)),
    );
    assert.deepEqual([deleted.length, failures], [1, []]);
  });

  test("notices archives that have appeared since the plan", async () => {
    const container = await line();
    const inventory = await takePruneInventory([], { container, identities: [] }, signal);
    assert.equal(await hasGrown([source.uuid], inventory, container, signal), false);
    await put(container, `${keyOf(three.path)}/proof`);
    assert.equal(await hasGrown([source.uuid], inventory, container, signal), false);
    await archive(container, snapshot(4), three);
    assert.equal(await hasGrown([source.uuid], inventory, container, signal), true);
  });
});

describe("the archive of a send parent", () => {
  const step = (key = keyOf(three.path)) => ({
    do: "upload" as const,
    key,
    snapshot: three,
    sendParent: two,
    sendParentArchive: { key: keyOf(two.path), chainLength: 2, chainBytes: 2 },
  });

  test("is checked before a step and after it: an archive without its parent is deleted again, and no other", async () => {
    const container = await line();
    await assertParentArchived(step(), container, signal);
    const { etag = "" } = container.objects.get(keyOf(three.path)) ?? {};
    const stored = { bytes: 1, etag, parts: 1, md5s: [], resumedBytes: 0 };
    await dropWithoutParent(step(), stored, container, signal);
    assert.equal(container.objects.size, 3);
    container.objects.delete(keyOf(two.path));
    const isBroken = (error: unknown): boolean => error instanceof BackupError && error.code === "CHAIN_BROKEN";
    await assert.rejects(assertParentArchived(step(), container, signal), isBroken);
    await assert.rejects(dropWithoutParent(step(), { ...stored, etag: "another's" }, container, signal), isBroken);
    assert.ok(container.objects.has(keyOf(three.path)));
    await assert.rejects(dropWithoutParent(step(), stored, container, signal), isBroken);
    assert.ok(!container.objects.has(keyOf(three.path)));
  });
});

test("keep rules are stored in the container, and a sync stops at rules that it cannot read", async () => {
  const container = memoryContainer();
  const zoned = { rules: parseKeepText("30d *y", "--keep"), timeZone: "Europe/Berlin" };
  assert.equal(await readKeepRules(source.uuid, container, signal), null);
  await storeKeepRules(source.uuid, zoned, container, signal);
  assert.deepEqual(await readKeepRules(source.uuid, container, signal), zoned);
  const others = { rules: { ...parseKeepText("8w", "--keep"), last: 2, withinNs: 3600_000_000_000n }, timeZone: "UTC" };
  await storeKeepRules(source.uuid, others, container, signal);
  assert.deepEqual(await readKeepRules(source.uuid, container, signal), others);
  for (const text of [
    "",
    "{}",
    '{"format":1,"timeZone":"Nowhere/None","keep":{"daily":1}}',
    '{"format":1,"timeZone":"UTC","keep":{}}',
  ]) {
    container.objects.delete(formatKeepKey(source.uuid));
    await put(container, formatKeepKey(source.uuid), {}, text || " ");
    await assert.rejects(
      readKeepRules(source.uuid, container, signal),
      /keep rules in the container .* cannot be read/,
    );
  }
});
