// What very many snapshots and archives cost: a list, for the first time and again, and the plan of a sync. With more and
// more of them, so that what grows faster than their number shows.
//
//   node dist/test/bench/many.js [SNAPSHOTS...]      as root; 2,000, 5,000, 10,000 and 20,000 by default

import { join } from "node:path";
import { listSnapshots } from "../../src/btrfs/subvolumes.ts";
import type { Snapshot } from "../../src/plan/model.ts";
import { PUBLISHED } from "../support/cli.ts";
import { openFaultProxy, type FaultProxy } from "../support/fault-proxy.ts";
import { btrfs, run, withLoopback } from "../support/loopback.ts";
import { putArchive } from "../support/put-archive.ts";
import { openSwift, type Swift } from "../support/swift.ts";
import { openMeter, type Meter } from "./measure.ts";
import { takeSnapshots } from "./snapshots.ts";
import { formatRows, formatTargets, type Aim } from "./table.ts";

const CONTAINER = "many";

/** The snapshots that are not archived. */
const NEW = 10;

/** Every so many archives a chain begins. */
const CHAIN = 50;

const PUTS_AT_ONCE = 8;

/** The size of each archive, and what else its metadata says. */
const BYTES = 1000;
const FACTS = { encoding: "identity", sendProto: 1, partBytes: 16 * 2 ** 20, volumes: null, tool: "bench/0" } as const;

interface Lap {
  readonly seconds: number;
  readonly cpu: number;
  readonly requests: number;
}

interface Laps {
  readonly snapshots: number;
  readonly cold: Lap;
  readonly warm: Lap;
  readonly plan: Lap;
}

interface Ground {
  readonly home: string;
  readonly meter: Meter;
  readonly swift: Swift;
  /** The way to the store, on which requests are counted. */
  readonly proxy: FaultProxy;
  /** Keeps the catalogue. */
  readonly cache: string;
}

/** Stores objects that look like the archives of snapshots: a list and a plan ask for no more. */
async function storeArchives({ swift }: Ground, snapshots: readonly Snapshot[], done: number): Promise<void> {
  const queue = snapshots.map((snapshot, position) => ({ snapshot, position })).slice(done);
  const work = async (): Promise<void> => {
    for (let next = queue.shift(); next !== undefined; next = queue.shift()) {
      const { snapshot, position } = next;
      const sendParent = position % CHAIN === 0 ? null : (snapshots[position - 1] ?? null);
      const before = position % CHAIN;
      const parentChain = { length: before, bytes: before * BYTES };
      const body = Buffer.alloc(BYTES);
      await putArchive(swift.native, CONTAINER, { snapshot, sendParent }, { facts: { ...FACTS, parentChain }, body });
    }
  };
  await Promise.all(Array.from({ length: PUTS_AT_ONCE }, work));
}

async function lap({ meter, swift, proxy, cache }: Ground, ...words: readonly string[]): Promise<Lap> {
  const before = proxy.seen.length;
  const line = meter.measured("client", [PUBLISHED, ...words, "--container-name", CONTAINER]);
  const path = [join(process.execPath, ".."), process.env["PATH"] ?? ""].join(":");
  const environment = { ...swift.environment, AWS_ENDPOINT_URL_S3: proxy.endpoint, PATH: path, XDG_CACHE_HOME: cache };
  const { seconds, costs } = await meter.run(`${line} >/dev/null`, environment);
  return { seconds, cpu: costs["client"]?.cpu ?? NaN, requests: proxy.seen.length - before };
}

async function measure(ground: Ground, { snapshots, before }: { snapshots: number; before: number }): Promise<Laps> {
  const directory = join(ground.home, "../snapshots");
  await takeSnapshots(ground.home, directory, before + 1, snapshots);
  await btrfs("filesystem", "sync", ground.home);
  const listed = await listSnapshots(ground.home);
  await storeArchives(ground, listed.slice(0, snapshots - NEW), Math.max(0, before - NEW));
  await run("rm", "-rf", ground.cache);
  const cold = await lap(ground, "list");
  const warm = await lap(ground, "list");
  const plan = await lap(ground, "sync", ground.home, "--plan", "--no-estimate");
  return { snapshots, cold, warm, plan };
}

function format(all: readonly Laps[]): string {
  const head = ["", "list wall s", "CPU s", "requests", "again: wall s", "CPU s", "requests", "plan: wall s", "CPU s"];
  const rows = all.map(({ snapshots, cold, warm, plan }) => [
    `${snapshots} snapshots`,
    cold.seconds.toFixed(2),
    cold.cpu.toFixed(2),
    String(cold.requests),
    warm.seconds.toFixed(2),
    warm.cpu.toFixed(2),
    String(warm.requests),
    plan.seconds.toFixed(2),
    plan.cpu.toFixed(2),
  ]);
  const of = (count: number, figure: (laps: Laps) => number): number => {
    const found = all.find(({ snapshots }) => snapshots === count);
    return found === undefined ? NaN : figure(found);
  };
  /** How much more each snapshot costs among 20,000 than among 5,000. */
  const growth = (figure: (laps: Laps) => number): number => of(20_000, figure) / of(5_000, figure) / 4;
  const aims: readonly Aim[] = [
    { what: "wall, second list ÷ first, 2,000", value: of(2_000, (l) => l.warm.seconds / l.cold.seconds), limit: 0.1 },
    {
      what: "requests, second list ÷ first, 2,000",
      value: of(2_000, ({ warm, cold }) => warm.requests / cold.requests),
      limit: 0.15,
    },
    { what: "CPU s, sync --plan --no-estimate, 10,000", value: of(10_000, ({ plan }) => plan.cpu), limit: 1.5 },
    { what: "CPU of each, list of 20,000 ÷ of 5,000", value: growth(({ cold }) => cold.cpu), limit: 1.3 },
    { what: "CPU of each, second list of 20,000 ÷ of 5,000", value: growth(({ warm }) => warm.cpu), limit: 1.3 },
    { what: "CPU of each, plan of 20,000 ÷ of 5,000", value: growth(({ plan }) => plan.cpu), limit: 1.3 },
  ];
  return `${formatRows([head, ...rows])}\n\n${formatTargets(aims)}`;
}

const asked = process.argv.slice(2).map(Number);
const sizes = asked.length === 0 ? [2_000, 5_000, 10_000, 20_000] : asked;
const swift = await openSwift();
const proxy = await openFaultProxy(swift.endpoint);
try {
  await swift.createContainer(CONTAINER);
  await withLoopback({ sizeBytes: 8 * 2 ** 30 }, async ({ mountPoint, directory }) => {
    const home = join(mountPoint, "home");
    await btrfs("-q", "subvolume", "create", home);
    await run("mkdir", join(mountPoint, "snapshots"));
    const ground: Ground = { home, meter: await openMeter(directory), swift, proxy, cache: join(directory, "cache") };
    const all: Laps[] = [];
    for (const snapshots of sizes) {
      all.push(await measure(ground, { snapshots, before: all.at(-1)?.snapshots ?? 0 }));
      process.stderr.write(`${snapshots} snapshots measured\n`);
    }
    console.log(format(all));
  });
} finally {
  await proxy.close();
  await swift.close();
}
