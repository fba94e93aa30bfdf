// A chain as long as that of half a year of days: sent by btrfs, and received again. The container is in memory, where
// two hundred uploads cost nothing.

import assert from "node:assert/strict";
import { appendFile, mkdir, readdir } from "node:fs/promises";
import { join } from "node:path";
import { describe, test } from "node:test";
import { openSource } from "../../src/btrfs/source.ts";
import { openTarget } from "../../src/btrfs/target.ts";
import { readArchives } from "../../src/operations/inventory.ts";
import type { Container } from "../../src/operations/store-ports.ts";
import { prepareRestore, runRestore } from "../../src/operations/restore.ts";
import { prepareSync, runSync } from "../../src/operations/sync.ts";
import { indexArchives, measureChains } from "../../src/plan/chain.ts";
import { btrfs, withLoopback } from "../support/loopback.ts";
import { memoryContainer } from "../support/memory-container.ts";
import { noBtrfs } from "../support/requirements.ts";
import { quiet, syncOptions } from "../support/sync-options.ts";
import { compareTrees } from "../support/tree.ts";

const MiB = 2 ** 20;
const LENGTH = 200;
const { signal } = new AbortController();

describe("a chain of 200", { skip: noBtrfs() }, () => {
  test("is sent, and restored to its last snapshot alone", async () => {
    const container = memoryContainer();
    await withLoopback({ sizeBytes: 512 * MiB }, async ({ mountPoint: top }) => {
      const home = join(top, "home");
      await btrfs("subvolume", "create", home);
      await mkdir(join(top, "s"));
      for (let number = 0; number < LENGTH; number++) {
        await appendFile(join(home, `file-${number % 7}`), `${number}\n`);
        await btrfs("subvolume", "snapshot", "-r", home, join(top, `s/${number}`));
      }
      await sync(home, container);
      const archives = await readArchives("", { container, identities: [] }, signal);
      const lengths = measureChains(archives, indexArchives(archives));
      assert.equal(Math.max(...archives.map(({ key }) => lengths.get(key)?.length ?? 0)), LENGTH);
      await withLoopback({ sizeBytes: 512 * MiB }, async ({ mountPoint: directory }) => {
        await restoreLast(container, directory);
        assert.deepEqual((await compareTrees(join(top, "s/199"), join(directory, "s/199"))).differences, []);
        assert.deepEqual(await readdir(join(directory, "s")), ["199"]);
      });
    });
  });
});

async function sync(home: string, container: Container): Promise<void> {
  const source = await openSource(home, { sendProto: null }, signal);
  const { plan, inventory } = await prepareSync(await source.list(signal), { container, identities: [] }, {}, signal);
  const steps = plan.steps.map((step) => ({ step, estimate: null }));
  const options = syncOptions({ policy: { memoryBytes: 512 * MiB, concurrency: 1, volumeBytes: null } });
  const context = { options, watcher: quiet };
  const outcome = await runSync({ steps, inventory, request: {} }, { source, container }, context, signal);
  assert.deepEqual([outcome.receipts.length, outcome.failures, outcome.stoppedBy], [LENGTH, [], null]);
  await source.close();
}

async function restoreLast(container: Container, directory: string): Promise<void> {
  const target = await openTarget(directory, signal);
  const edges = { container, identities: [], target };
  const plan = await prepareRestore({ by: "name", name: "s/199" }, edges, "last", signal);
  await runRestore(plan, edges, { watcher: quiet, now: () => 0 }, signal);
  await target.close();
}
