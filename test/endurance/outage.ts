// Whether a run outlasts a store that is away for as long as it may be, and sends nothing twice for it. Three stores at once,
// each without another one of its servers.
//
//   node dist/test/endurance/outage.js [MINUTES] [proxy | object | container]...      as root; 10 minutes, all three

import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { cli } from "../support/cli.ts";
import { btrfs, run, withLoopback } from "../support/loopback.ts";
import { openSwift, type Swift, type SwiftServer } from "../support/swift.ts";

const MIB = 2 ** 20;
const STREAM_BYTES = 256 * MIB;
const SERVERS = ["proxy", "object", "container"] as const satisfies readonly SwiftServer[];

/** Different names, because one run at a time may send a subvolume to a container. */
function containerOf(server: SwiftServer): string {
  return `without-${server}`;
}

interface Segment {
  readonly name: string;
  readonly last_modified: string;
}

async function segmentsIn({ native }: Swift, server: SwiftServer): Promise<readonly Segment[]> {
  const answer = await native.request("GET", `/${containerOf(server)}%2Bsegments?format=json`);
  return answer.ok ? ((await answer.json()) as Segment[]).filter(({ name }) => /\/\d+$/.test(name)) : [];
}

/** Takes a server away in the middle of an upload; gives the parts that were stored by then. */
async function interrupt(swift: Swift, server: SwiftServer, minutes: number): Promise<readonly Segment[]> {
  while ((await segmentsIn(swift, server)).length < 4) await sleep(100);
  const stored = await segmentsIn(swift, server);
  await swift.stop(server);
  say(`${server}: away, with ${stored.length} parts stored`);
  await sleep(minutes * 60_000);
  await swift.start(server);
  say(`${server}: back`);
  return stored;
}

async function outlast(home: string, server: SwiftServer, minutes: number): Promise<void> {
  const swift = await openSwift();
  try {
    await swift.createContainer(containerOf(server));
    let away: Promise<readonly Segment[]> = Promise.resolve([]);
    const args = ["sync", home, "--container-name", containerOf(server), "--limit-upload", "24Mi", "--json"];
    const start = performance.now();
    const during = (): void => {
      away = interrupt(swift, server, minutes);
      // When the run fails first, that failure is reported.
      away.catch(() => undefined);
    };
    const ran = await cli(args, { env: swift.environment, during });
    const seconds = (performance.now() - start) / 1000;
    assert.equal(ran.code, 0, ran.stderr);
    const before = await away;
    const after = new Map((await segmentsIn(swift, server)).map(({ name, last_modified }) => [name, last_modified]));
    const again = before.filter(({ name, last_modified }) => after.get(name) !== last_modified);
    assert.deepEqual(again, [], "sent twice");
    // Not from a listing: without its server, the container does not show it yet.
    const { key } = JSON.parse(ran.stdout.split("\n").find((line) => line.includes('"receipt"')) ?? "{}") as {
      key: string;
    };
    await checkArchive(swift, home, `/${containerOf(server)}/${encodeURIComponent(key)}`);
    say(
      `${server}: outlasted ${minutes} minutes in ${seconds.toFixed(0)} s; of ${before.length} parts stored before, none was sent again`,
    );
  } finally {
    await swift.close();
  }
}

async function checkArchive({ native }: Swift, home: string, path: string): Promise<void> {
  const body = Buffer.from(await (await native.request("GET", path)).arrayBuffer());
  const sent = await run("sh", "-c", `btrfs send -q --proto 2 --compressed-data '${home}-snapshot' | sha256sum`);
  assert.equal(createHash("sha256").update(body).digest("hex"), sent.slice(0, 64));
}

function say(text: string): void {
  process.stdout.write(`${text}\n`);
}

const words = process.argv.slice(2);
const minutes = Number(words.find((word) => /^[\d.]+$/.test(word)) ?? 10);
const named = SERVERS.filter((server) => words.includes(server));
await withLoopback({ sizeBytes: 1024 * MIB }, async ({ mountPoint }) => {
  const home = join(mountPoint, "home");
  await btrfs("subvolume", "create", home);
  await run("sh", "-c", `head -c ${STREAM_BYTES} /dev/urandom > ${home}/file`);
  await btrfs("subvolume", "snapshot", "-r", home, `${home}-snapshot`);
  const outcomes = await Promise.allSettled(
    (named.length === 0 ? SERVERS : named).map((server) => outlast(home, server, minutes)),
  );
  for (const outcome of outcomes) {
    if (outcome.status === "rejected") {
      process.exitCode = 1;
      process.stderr.write(`${String(outcome.reason)}\n`);
    }
  }
});
