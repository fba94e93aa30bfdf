// Keep rules over months: snapshots of real trees, dated as if one had been taken each day, archived with short chains and
// thinned out.

import assert from "node:assert/strict";
import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { openSource } from "../../src/btrfs/source.ts";
import { readArchives } from "../../src/operations/inventory.ts";
import type { LocalSnapshots, SnapshotSource } from "../../src/operations/ports.ts";
import type { Container } from "../../src/operations/store-ports.ts";
import { prepareSync, runSync } from "../../src/operations/sync.ts";
import { indexArchives, measureChains } from "../../src/plan/chain.ts";
import { openCalendar, parseKeepText } from "../../src/plan/keep.ts";
import type { SyncRequest } from "../../src/plan/sync.ts";
import { openContainer } from "../../src/swift/container.ts";
import { chanceOf } from "../campaign/chance.ts";
import { cli, cliOnTerminal, type Ran } from "../support/cli.ts";
import { openFaultProxy } from "../support/fault-proxy.ts";
import { btrfs, openLoopback, type Loopback } from "../support/loopback.ts";
import { noBtrfsOrSwift } from "../support/requirements.ts";
import { openSwift, type Swift } from "../support/swift.ts";
import { quiet, syncOptions } from "../support/sync-options.ts";
import { compareTrees } from "../support/tree.ts";

const MiB = 2 ** 20;
const DAYS = 120;
const DAY_NS = 86_400_000_000_000n;
const RULES = "14d 6w 4m";
const { signal } = new AbortController();

describe("keep rules", { skip: noBtrfsOrSwift() }, () => {
  let swift: Swift;
  let disk: Loopback;
  let other: Loopback;
  let subvolume: string;
  let source: SnapshotSource;
  let container: Container;
  let all: LocalSnapshots;

  before(async () => {
    [swift, disk, other] = await Promise.all([
      openSwift(),
      openLoopback({ sizeBytes: 512 * MiB }),
      openLoopback({ sizeBytes: 256 * MiB }),
    ]);
    subvolume = join(disk.mountPoint, "vol");
    await btrfs("subvolume", "create", subvolume);
    await mkdir(join(disk.mountPoint, "snaps"));
    for (let day = 1; day <= DAYS; day += 1) {
      await writeFile(join(subvolume, `day-${day % 40}`), `${"x".repeat(3000)}${day}`);
      await btrfs("subvolume", "snapshot", "-r", subvolume, join(disk.mountPoint, "snaps", nameOf(day)));
    }
    await swift.createContainer("months");
    source = await openSource(subvolume, { sendProto: null }, signal);
    all = dated(await source.list(signal));
    container = await open("months");
  });
  after(async () => {
    container.close();
    await source.close();
    await Promise.all([swift.close(), disk.close(), other.close()]);
  });

  async function open(containerName: string): Promise<Container> {
    const credentials = { accessKeyId: swift.accessKey, secretAccessKey: swift.secretKey };
    const how = { region: null, credentials, userAgent: "test/1", retryForMs: 60_000, connections: 4 };
    return openContainer({ containerName, endpoint: swift.endpoint, ...how }, undefined, signal);
  }

  const until = (day: number): LocalSnapshots => ({ ...all, snapshots: all.snapshots.slice(0, day) });

  /** Does the work of a nightly sync on that day. */
  async function sync(day: number, into: Container): Promise<number> {
    const keeping = {
      rules: parseKeepText(RULES, "--keep"),
      calendar: openCalendar("UTC"),
      now: BigInt(Date.now()) * 1_000_000n,
      maxChain: null,
      fullEveryNs: null,
      pinned: new Set<string>(),
    };
    const request: SyncRequest = { keeping };
    const { plan, inventory } = await prepareSync(until(day), { container: into, identities: [] }, request, signal);
    const steps = plan.steps.map((step) => ({ step, estimate: null }));
    const context = { options: syncOptions(), watcher: quiet };
    const edges = { source, container: into };
    const outcome = await runSync({ steps, inventory, request }, edges, context, signal);
    assert.deepEqual([outcome.failures, outcome.stoppedBy], [[], null]);
    return outcome.receipts.length;
  }

  const program = (...args: string[]): Promise<Ran> => cli(args, { env: { ...swift.environment, TZ: "UTC" } });
  const prune = (name: string, ...args: string[]): Promise<Ran> =>
    program("prune", subvolume, "--container-name", name, "--no-progress", ...args);

  /** The lengths of all chains, none of which may be broken. */
  async function lengthsIn(into: Container): Promise<number[]> {
    const archives = await readArchives("", { container: into, identities: [] }, signal);
    const sizes = measureChains(archives, indexArchives(archives));
    return archives.map(({ key, path }) => sizes.get(key)?.length ?? assert.fail(`the chain of ${path} is broken`));
  }

  test("keep chains short and containers small, and everything that is kept can be restored", async () => {
    for (let day = 30; day <= DAYS; day += 30) {
      await sync(day, container);
      const { code, stderr } = await prune("months", "--keep", RULES, "--confirm");
      assert.equal(code, 0, stderr);
    }
    const lengths = await lengthsIn(container);
    assert.ok(lengths.length <= 14 + 6 + 4 + 10, `${lengths.length} archives are left`);
    assert.ok(Math.max(...lengths) <= 14 + 6 + 4, `${Math.max(...lengths)} archives to read`);
    // A second prune deletes nothing, and a sync does not send again what was deleted.
    const again = await prune("months", "--keep", RULES, "--confirm");
    assert.match(again.stdout, /nothing (to delete|can be deleted)/);
    assert.equal(await sync(DAYS, container), 0);
    assert.equal((await program("verify", "--container-name", "months", "--read-data")).code, 0);
    const archives = await readArchives("", { container, identities: [] }, signal);
    const target = other.mountPoint;
    for (const { path } of [archives[0] ?? assert.fail(), archives.at(-1) ?? assert.fail()]) {
      const { code, stderr } = await program("restore", path, "--target", target, "--container-name", "months");
      assert.equal(code, 0, stderr);
      const { differences } = await compareTrees(join(disk.mountPoint, path), join(target, path));
      assert.deepEqual(differences, []);
    }
  });

  test("are stored in the container, and a sync without rules follows them and reports it", async () => {
    const { stderr, stdout, code } = await program("sync", subvolume, "--container-name", "months", "--plan");
    assert.equal(code, 0, stderr);
    assert.match(stderr, /keep rules that prune left in the container: 14 days, 6 weeks, 4 months \(days of UTC\)/);
    assert.match(stdout, /not sent, because no keep rule keeps them/);
    const remembered = await (await swift.native.request("GET", `/months/${all.source.uuid}/keep`)).text();
    assert.deepEqual((JSON.parse(remembered) as { keep: unknown }).keep, { daily: 14, weekly: 6, monthly: 4 });
    // It does not count as an archive.
    assert.doesNotMatch((await program("verify", "--container-name", "months")).stdout, /NOT_AN_ARCHIVE|LEFTOVER/);
  });

  test("show a plan, and delete nothing without --confirm", async () => {
    const before = (await lengthsIn(container)).length;
    const planned = await prune("months", "--keep-last", "2");
    assert.equal(planned.code, 0, planned.stderr);
    assert.match(planned.stdout, /delete/);
    assert.match(planned.stdout, /keep +(one of the last 2|needed by)/);
    assert.match(planned.stderr, /nothing was deleted: use --confirm/);
    const args = ["prune", subvolume, "--container-name", "months", "--keep-last", "2", "--no-progress"];
    const refused = await cliOnTerminal(args, "\n", swift.environment, "[y/N]");
    assert.match(refused.stdout, /nothing was deleted/);
    assert.equal((await lengthsIn(container)).length, before);
    for (const [words, sentence] of [
      [[], /rules that prune left/],
      [["--keep-daily", "0"], /the keep rules keep nothing/],
      [["--keep-daily=-1"], /--keep-daily takes a number of 0 or more, or all: not -1/],
      [["--keep-within", "3x"], /--keep-within takes a duration/],
    ] as const)
      assert.match((await prune("months", ...words)).stderr, sentence);
  });

  test("never delete a pinned archive", async () => {
    const [first] = await readArchives("", { container, identities: [] }, signal);
    assert.ok(first !== undefined);
    assert.equal((await program("pin", first.path, "--container-name", "months")).code, 0);
    const planned = await prune("months", "--keep-last", "1", "--json");
    const rows = planned.stdout
      .trim()
      .split("\n")
      .map((line) => JSON.parse(line) as { key?: string; delete?: boolean; reasons?: string[] });
    assert.deepEqual(rows.find(({ key }) => key === first.key)?.reasons?.includes("pinned"), true);
    assert.equal((await program("unpin", first.path, "--container-name", "months")).code, 0);
    assert.doesNotMatch((await prune("months", "--keep-last", "1")).stdout, /pinned/);
    assert.match((await prune("months", "--keep-last", "1", "--keep", first.path)).stdout, /keep +pinned/);
  });

  test("leave intact chains when a prune is killed at 30 moments, and the next prune deletes the rest", async () => {
    const proxy = await openFaultProxy(swift.endpoint);
    await swift.createContainer("killed");
    const killed = await open("killed");
    try {
      await sync(DAYS, killed);
      const others = all.snapshots.length;
      assert.ok((await lengthsIn(killed)).length < others);
      const random = chanceOf(30);
      for (let kills = 0; kills < 30;) {
        const moment = random.int(1, 12);
        const ran = await cli(
          ["prune", subvolume, "--container-name", "killed", "--keep-last", "1", "--confirm", "--no-progress"],
          {
            env: { ...swift.environment, AWS_ENDPOINT_URL_S3: proxy.endpoint },
            during: (child) => {
              let requests = 0;
              proxy.clear();
              proxy.plan({
                when: (method) => method === "DELETE" || (requests > 0 && method === "HEAD"),
                fault: { kind: "delay", ms: 0 },
                times: "ever",
                then: () => {
                  requests += 1;
                  if (requests === moment) child.kill("SIGKILL");
                },
              });
            },
          },
        );
        assert.ok(ran.code === "SIGKILL" || ran.code === 0, `${ran.code} ${ran.stderr}`);
        await lengthsIn(killed);
        if (ran.code === "SIGKILL") kills += 1;
        else await sync(DAYS, killed);
      }
      proxy.clear();
      assert.equal((await prune("killed", "--keep-last", "1", "--confirm")).code, 0);
      assert.equal((await program("verify", "--container-name", "killed", "--read-data")).code, 0);
      const left = await program(
        "prune",
        subvolume,
        "--leftovers",
        "--leftover-age",
        "0s",
        "--container-name",
        "killed",
      );
      assert.equal(left.code, 0, left.stderr);
      assert.doesNotMatch((await program("verify", "--container-name", "killed")).stdout, /LEFTOVER/);
    } finally {
      killed.close();
      await proxy.close();
    }
  });

  test("let two prunes and a sync run at once", async () => {
    await swift.createContainer("at-once");
    const into = await open("at-once");
    try {
      await sync(60, into);
      const ran = await Promise.all([
        prune("at-once", "--keep", RULES, "--confirm"),
        prune("at-once", "--keep", RULES, "--confirm", "--wait-lock", "60s"),
        program("sync", subvolume, "--container-name", "at-once", "--wait-lock", "60s", "--keep-last", "3"),
      ]);
      for (const { code, stderr } of ran) assert.ok(code === 0 || code === 11, `${code} ${stderr}`);
      await lengthsIn(into);
      assert.equal((await program("verify", "--container-name", "at-once", "--read-data")).code, 0);
    } finally {
      into.close();
    }
  });
});

function nameOf(day: number): string {
  return `d${String(day).padStart(3, "0")}`;
}

/** Dates snapshots as if one had been taken each day, the last one yesterday. */
function dated(local: LocalSnapshots): LocalSnapshots {
  const now = BigInt(Date.now()) * 1_000_000n;
  const snapshots = local.snapshots.map((snapshot, at) => ({
    ...snapshot,
    otime: now - BigInt(local.snapshots.length - at) * DAY_NS,
  }));
  return { ...local, snapshots };
}
