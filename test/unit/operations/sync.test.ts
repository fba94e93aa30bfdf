// Carrying out a sync, on a source and a store in memory.

import assert from "node:assert/strict";
import { mkdtemp, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, test } from "node:test";
import { BackupError } from "../../../src/errors.ts";
import { takeInventory } from "../../../src/operations/inventory.ts";
import { listSource } from "../../../src/operations/list.ts";
import { bytesSent, type StepProgress } from "../../../src/operations/sync-snapshot.ts";
import {
  estimateSteps,
  prepareSync,
  runSync,
  type SyncOutcome,
  type SyncWatcher,
} from "../../../src/operations/sync.ts";
import { findChain, indexArchives } from "../../../src/plan/chain.ts";
import type { SyncRequest } from "../../../src/plan/sync.ts";
import type { Snapshot } from "../../../src/plan/model.ts";
import { keyOf, snapshot, source } from "../../support/builders.ts";
import { memoryContainer, type MemoryContainer } from "../../support/memory-container.ts";
import { memorySource, type MemorySource } from "../../support/memory-source.ts";
import { quiet, syncOptions } from "../../support/sync-options.ts";

const MiB = 2 ** 20;
const { signal } = new AbortController();
const snapshots = [1, 2, 3, 4, 5].map((number) => snapshot(number));

interface World {
  readonly local: MemorySource;
  readonly container: MemoryContainer;
}

function world(taken: readonly Snapshot[] = snapshots): World {
  return { local: memorySource(taken, () => 1000), container: memoryContainer() };
}

/** Keys of all objects but proofs. */
function archivesIn({ container }: World): string[] {
  return [...container.objects.keys()].filter((key) => !key.endsWith("/proof"));
}

interface Changes {
  readonly dryRun?: boolean;
  readonly request?: SyncRequest;
  readonly spoolDirectory?: string;
  readonly memoryBytes?: number;
  readonly volumeBytes?: number;
  readonly watcher?: SyncWatcher;
  readonly signal?: AbortSignal;
}

async function sync({ local, container }: World, changes: Changes = {}): Promise<SyncOutcome> {
  const request = changes.request ?? {};
  const { inventory, plan } = await prepareSync(
    await local.list(signal),
    { container, identities: [] },
    request,
    signal,
  );
  const steps = await estimateSteps(plan.steps, local, signal);
  const { memoryBytes = 512 * MiB, volumeBytes = null, dryRun = false, spoolDirectory = null } = changes;
  const policy = { memoryBytes, concurrency: 4, volumeBytes };
  const options = syncOptions({ policy, dryRun, spoolDirectory, now: () => 0 });
  const context = { options, watcher: changes.watcher ?? quiet };
  return await runSync({ steps, inventory, request }, { source: local, container }, context, changes.signal ?? signal);
}

describe("a run", () => {
  test("archives everything once, and a second one finds nothing to do", async () => {
    const there = world();
    const { receipts, failures, stoppedBy } = await sync(there);
    assert.deepEqual([receipts.length, failures, stoppedBy], [5, [], null]);
    assert.deepEqual(
      archivesIn(there),
      snapshots.map(({ path }) => keyOf(path)),
    );
    assert.deepEqual(await sync(there), { receipts: [], failures: [], untried: [], stoppedBy: null });
    assert.equal(there.local.sent.length, 5);
  });

  test("leaves archives that show their chain", async () => {
    const there = world();
    await sync(there);
    const { listed } = await listSource(
      await there.local.list(signal),
      { container: there.container, identities: [] },
      signal,
    );
    const archives = listed.flatMap(({ archive }) => archive ?? []);
    assert.deepEqual(findChain(archives.at(-1) ?? assert.fail(), indexArchives(archives)), archives);
    assert.ok(listed.every(({ archive, local }) => archive !== null && local !== null));
  });

  test("that is dry makes every stream and stores nothing", async () => {
    const there = world();
    const { receipts } = await sync(there, { dryRun: true });
    assert.deepEqual(
      receipts.map(({ bytes, stored }) => [bytes, stored]),
      Array(5).fill([1000, null]),
    );
    assert.equal(there.local.sent.length, 5);
    assert.equal(there.container.objects.size, 0);
  });

  test("reports how much was read, and how much the store has confirmed", async () => {
    const seen: string[] = [];
    const watcher: SyncWatcher = { ...quiet, onProgress: ({ read, stored }) => seen.push(`${read}/${stored}`) };
    await sync(world([snapshot(1)]), { watcher });
    assert.deepEqual(seen, ["500/0", "1000/0", "1000/1000"]);
  });
});

test("reports the progress of a compressed stream by the share that was sent", () => {
  const sent = (facts: Partial<StepProgress>): number =>
    bytesSent({ read: 0, encoded: 0, stored: 0, resumed: 0, inFlight: 0, ...facts });
  assert.equal(sent({ read: 1000, stored: 300, inFlight: 200 }), 500);
  assert.equal(sent({ read: 1000, encoded: 400, stored: 100, inFlight: 100 }), 500);
  assert.equal(sent({ read: 1000, encoded: 400, stored: 400 }), 1000);
  assert.equal(sent({ read: 1000, encoded: 100, stored: 200 }), 1000);
});

describe("a failure", () => {
  const damaged = new BackupError("SEND_FAILED", "the stream is damaged");

  test("leaves out that snapshot; those after it build on what is archived; the next run tries again", async () => {
    const there = world();
    there.local.failures.set("snapshots/3", damaged);
    const { receipts, failures, stoppedBy } = await sync(there);
    assert.deepEqual(
      receipts.map(({ step }) => step.snapshot.path.slice(10)),
      ["1", "2", "4", "5"],
    );
    assert.deepEqual(
      failures.map(({ step, error }) => `${step.snapshot.path} ${error.code}`),
      ["snapshots/3 SEND_FAILED"],
    );
    assert.equal(stoppedBy, null);
    assert.deepEqual(there.local.sent.slice(-2), ["snapshots/4<snapshots/2", "snapshots/5<snapshots/4"]);
    assert.equal(there.container.objects.has(keyOf("snapshots/3")), false);
    there.local.failures.clear();
    assert.deepEqual(
      (await sync(there)).receipts.map(({ step }) => step.snapshot.path),
      ["snapshots/3"],
    );
  });

  test("of the first one makes the second one the full", async () => {
    const there = world();
    there.local.failures.set("snapshots/1", damaged);
    await sync(there);
    assert.deepEqual(there.local.sent.slice(-2), ["snapshots/4<snapshots/3", "snapshots/5<snapshots/4"]);
    assert.ok(there.local.sent.includes("snapshots/2"));
  });

  test("of the store ends the run: nothing else can succeed either", async () => {
    const there = world();
    there.local.failures.set("snapshots/2", new BackupError("STORE_UNAVAILABLE", "gone"));
    const { receipts, failures, untried, stoppedBy } = await sync(there);
    assert.deepEqual([receipts.length, failures.length, stoppedBy?.code], [1, 1, "STORE_UNAVAILABLE"]);
    assert.equal(there.local.sent.length, 2);
    assert.deepEqual(
      untried.map(({ snapshot: { path } }) => path),
      ["snapshots/3", "snapshots/4", "snapshots/5"],
    );
  });

  test("that is an interruption ends the run", async () => {
    const there = world();
    const controller = new AbortController();
    const watcher: SyncWatcher = {
      ...quiet,
      onReceipt: () => {
        controller.abort(new BackupError("ABORTED", "stopped by SIGINT"));
      },
    };
    const { receipts, stoppedBy } = await sync(there, { watcher, signal: controller.signal });
    assert.deepEqual([receipts.length, stoppedBy?.code], [1, "ABORTED"]);
    assert.equal(archivesIn(there).length, 1);
  });

  test("to fit the store is reported with what to do", async () => {
    const { failures } = await sync(world([snapshot(1)]), { memoryBytes: 4 * MiB });
    assert.match(failures[0]?.error.hint ?? "", /--memory/);
  });
});

describe("a work directory", () => {
  test("holds a stream while it is sent, without a name, and nothing afterwards", async () => {
    const directory = await mkdtemp(join(tmpdir(), "spool-"));
    try {
      const there = world();
      const files: number[] = [];
      const watcher: SyncWatcher = {
        ...quiet,
        onProgress: () => {
          void readdir(directory).then((names) => files.push(names.length));
        },
      };
      await sync(there, { spoolDirectory: directory, watcher });
      assert.equal(archivesIn(there).length, 5);
      assert.deepEqual(await readdir(directory), []);
      assert.ok(files.length > 0 && files.every((number) => number === 0));
      const stored = there.container.objects.get(keyOf("snapshots/1"));
      assert.deepEqual(
        stored?.body,
        Buffer.concat([Buffer.alloc(500, "snapshots/1"), Buffer.alloc(500, "snapshots/1")]),
      );
    } finally {
      await rm(directory, { recursive: true });
    }
  });

  test("that does not exist fails each snapshot with one sentence", async () => {
    const { failures } = await sync(world([snapshot(1)]), { spoolDirectory: "/nonexistent" });
    assert.equal(failures[0]?.error.code, "CONFIG");
    assert.match(failures[0].error.message, /work directory \/nonexistent/);
  });
});

describe("a listing that lags behind", () => {
  test("and names a lost object: the object decides, and it is sent again", async () => {
    const there = world();
    await sync(there);
    const stale = await there.container.list("", signal);
    there.container.objects.delete(keyOf("snapshots/4"));
    const container: MemoryContainer = { ...there.container, list: async () => Promise.resolve(stale) };
    const { plan } = await prepareSync(await there.local.list(signal), { container, identities: [] }, {}, signal);
    assert.deepEqual(
      plan.steps.map(({ snapshot: { path }, sendParent }) => [path, sendParent?.path]),
      [["snapshots/4", "snapshots/3"]],
    );
    assert.deepEqual((await sync({ ...there, container })).receipts.length, 1);
  });

  test("and lacks an existing object: nothing is sent, and new snapshots build on it", async () => {
    const there = world();
    await sync({ ...there, local: memorySource(snapshots.slice(0, 4), () => 1000) });
    const objects = (await there.container.list("", signal)).filter(({ key }) => key !== keyOf("snapshots/4"));
    const container: MemoryContainer = { ...there.container, list: async () => Promise.resolve(objects) };
    const { receipts, failures } = await sync({ ...there, container });
    assert.deepEqual([receipts.map(({ step }) => step.snapshot.path), failures], [["snapshots/5"], []]);
    assert.equal(there.local.sent.at(-1), "snapshots/5<snapshots/4");
  });
});

test("many archives are asked for one HEAD each, and what is not here only when it is needed", async () => {
  const there = world();
  await sync(there);
  const asked: string[] = [];
  const container: MemoryContainer = {
    ...there.container,
    head: async (key, stop) => {
      asked.push(key);
      return await there.container.head(key, stop);
    },
  };
  const plan = async (taken: readonly Snapshot[]): Promise<number> => {
    asked.length = 0;
    await prepareSync(await memorySource(taken, () => 1).list(signal), { container, identities: [] }, {}, signal);
    return asked.length;
  };
  assert.equal(await plan(snapshots), 5);
  assert.equal(await plan(snapshots.slice(0, 2)), 2);
  assert.equal(await plan(snapshots.slice(3)), 5);
});

test("only objects named like a snapshot of the source count as archived", async () => {
  const container = memoryContainer();
  const there = { local: memorySource([snapshot(1), snapshot(2)], () => 1000), container };
  await sync({ ...there, local: memorySource([snapshot(1)], () => 1000) });
  const other = container.objects.get(keyOf("snapshots/1")) ?? assert.fail();
  for (const key of ["unrelated", `${source.uuid}x`, `${keyOf("snapshots/2")}/000001`])
    container.objects.set(key, { ...other, key });
  const { archived, archives } = await takeInventory(
    await there.local.list(signal),
    { container, identities: [] },
    signal,
  );
  assert.deepEqual([[...archived], archives.map(({ key }) => key)], [[keyOf("snapshots/1")], [keyOf("snapshots/1")]]);
});
