// Whether a run that is killed again and again, at whatever moment, loses hardly anything and never leaves what looks like
// an archive and is none.
//
//   node dist/test/endurance/kills.js [MEBIBYTES [KILLS [CONCURRENCY]]]      as root; 2048 MiB, 10 times, 4 parts in flight

import assert from "node:assert/strict";
import { createHash, randomInt } from "node:crypto";
import { once } from "node:events";
import { connect, createServer, type AddressInfo } from "node:net";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { cli, type Ran } from "../support/cli.ts";
import { btrfs, run, withLoopback } from "../support/loopback.ts";
import { openSwift, type Swift } from "../support/swift.ts";

const MIB = 2 ** 20;
const PART_BYTES = 16 * MIB;
/** So often is a short run killed, anywhere between its start and its end. */
const SHORT_KILLS = 40;
const SHORT_BYTES = 40 * MIB;

/** Counts the bytes that go to a store. */
interface Counter {
  readonly endpoint: string;
  sent(): number;
  close(): Promise<void>;
}

async function openCounter(target: string): Promise<Counter> {
  const { port, hostname } = new URL(target);
  let sent = 0;
  const server = createServer((client) => {
    const store = connect(Number(port), hostname);
    client.on("data", ({ length }) => (sent += length));
    for (const [from, to] of [
      [client, store],
      [store, client],
    ] as const) {
      from.pipe(to);
      from.on("error", () => to.destroy());
    }
  });
  await once(server.listen(0, "127.0.0.1"), "listening");
  return {
    endpoint: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    sent: () => sent,
    async close() {
      await once(server.close(), "close");
    },
  };
}

interface Scene {
  readonly swift: Swift;
  readonly home: string;
  readonly concurrency: number;
}

/** Kills one upload again and again; gives how many parts' worth each kill has cost. */
async function killOften(
  { swift, home, concurrency }: Scene,
  mebibytes: number,
  kills: number,
): Promise<readonly number[]> {
  const counter = await openCounter(swift.endpoint);
  await swift.createContainer("killed");
  const args = [
    "sync",
    home,
    "--container-name",
    "killed",
    "--endpoint",
    counter.endpoint,
    "--concurrency",
    `${concurrency}`,
    "--json",
  ];
  const moments = Array.from({ length: kills }, () => randomInt(mebibytes * MIB)).toSorted((a, b) => a - b);
  const costs: number[] = [];
  for (const [index, moment] of moments.entries()) {
    const [sentBefore, storedBefore] = [counter.sent(), await storedBytes(swift, "killed")];
    const ran = await cli(args, {
      env: swift.environment,
      during: async (child) => {
        while (child.exitCode === null && storedBefore + counter.sent() - sentBefore < moment) await sleep(1);
        child.kill("SIGKILL");
      },
    });
    assert.equal(ran.code, "SIGKILL", ran.stderr);
    // Requests that were on their way still arrive.
    await sleep(1000);
    assert.deepEqual(await namesIn(swift, "killed"), [], "an object after a kill");
    const [sent, stored] = [counter.sent() - sentBefore, (await storedBytes(swift, "killed")) - storedBefore];
    const lost = Math.max(0, sent - stored) / PART_BYTES;
    costs.push(lost);
    say(`kill ${index + 1} at ${(moment / MIB).toFixed(0)} MiB: ${lost.toFixed(2)} parts' worth to send again`);
  }
  const last = await cli(args, { env: swift.environment });
  assert.equal(last.code, 0, last.stderr);
  say(`the last run found ${(resumedBytes(last) / MIB).toFixed(0)} MiB there already`);
  await assertArchive({ swift, home }, "killed");
  const total = counter.sent() / MIB - mebibytes;
  say(`${total.toFixed(0)} MiB sent twice in all; the archive is the stream, byte for byte`);
  await counter.close();
  return costs;
}

/** Kills runs at any moment of their lives; a key that exists must be a complete archive. */
async function killAnywhere({ swift, home }: Omit<Scene, "concurrency">): Promise<void> {
  const argsFor = (container: string): string[] => ["sync", home, "--container-name", container];
  await swift.createContainer("complete");
  const start = performance.now();
  await cli(argsFor("complete"), { env: swift.environment });
  const durationMs = performance.now() - start;
  let committed = 0;
  for (let kill = 0; kill < SHORT_KILLS; kill += 1) {
    const container = `short-${kill}`;
    await swift.createContainer(container);
    const moment = randomInt(Math.ceil(durationMs));
    await cli(argsFor(container), {
      env: swift.environment,
      during: (child) => setTimeout(() => child.kill("SIGKILL"), moment),
    });
    await sleep(200);
    if ((await namesIn(swift, container)).length > 0) committed += 1;
    else assert.equal((await cli(argsFor(container), { env: swift.environment })).code, 0);
    await assertArchive({ swift, home }, container);
  }
  say(
    `${SHORT_KILLS} short runs killed: ${committed} had stored a complete archive, the others nothing that looks like one`,
  );
}

async function assertArchive({ swift, home }: Omit<Scene, "concurrency">, container: string): Promise<void> {
  const [key = "", ...others] = await namesIn(swift, container);
  assert.deepEqual(others, []);
  const answer = await swift.native.request("GET", `/${container}/${encodeURIComponent(key)}`);
  const hash = createHash("sha256");
  for await (const chunk of answer.body ?? []) hash.update(chunk as Uint8Array);
  const sent = await run("sh", "-c", `btrfs send -q --proto 2 --compressed-data '${home}-snapshot' | sha256sum`);
  assert.equal(hash.digest("hex"), sent.slice(0, 64));
}

async function namesIn({ native }: Swift, container: string): Promise<readonly string[]> {
  return (await (await native.request("GET", `/${container}`)).text())
    .split("\n")
    .filter((name) => name !== "" && !name.endsWith("/proof"));
}

async function storedBytes({ native }: Swift, container: string): Promise<number> {
  const answer = await native.request("GET", `/${container}%2Bsegments?format=json`);
  const segments = answer.ok ? ((await answer.json()) as readonly { readonly bytes: number }[]) : [];
  return segments.reduce((sum, { bytes }) => sum + bytes, 0);
}

function resumedBytes({ stdout }: Ran): number {
  const receipts = stdout
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line) as { type: string; stored?: { resumedBytes: number } });
  return receipts.find(({ type }) => type === "receipt")?.stored?.resumedBytes ?? 0;
}

async function makeHome(mountPoint: string, name: string, bytes: number): Promise<string> {
  const home = join(mountPoint, name);
  await btrfs("subvolume", "create", home);
  await run("sh", "-c", `head -c ${bytes} /dev/urandom > ${home}/file`);
  await btrfs("subvolume", "snapshot", "-r", home, `${home}-snapshot`);
  return home;
}

function say(text: string): void {
  process.stdout.write(`${text}\n`);
}

const [mebibytes = 2048, kills = 10, concurrency = 4] = process.argv.slice(2).map(Number);
await withLoopback({ sizeBytes: (mebibytes + 1024) * MIB }, async ({ mountPoint }) => {
  const swift = await openSwift();
  try {
    const long = await makeHome(mountPoint, "long", mebibytes * MIB);
    const costs = await killOften({ swift, home: long, concurrency }, mebibytes, kills);
    say(`at most ${Math.max(...costs).toFixed(2)} parts' worth was sent again for a kill, ${concurrency} in flight`);
    await killAnywhere({ swift, home: await makeHome(mountPoint, "short", SHORT_BYTES) });
  } finally {
    await swift.close();
  }
});
