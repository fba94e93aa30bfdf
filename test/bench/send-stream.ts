// How fast the send stream's checker is on one core, on real streams of both kinds: much data, and many small files.
// In CPU time, so that what else the machine does counts little.
//
//   node dist/test/bench/send-stream.js      as root

import { spawn } from "node:child_process";
import { join } from "node:path";
import { Readable, Writable } from "node:stream";
import { buffer } from "node:stream/consumers";
import { pipeline } from "node:stream/promises";
import { openSendStreamChecker } from "../../src/addon/send-stream.ts";
import { checkedStream } from "../../src/stream/send-stream.ts";
import { btrfs, run, withLoopback } from "../support/loopback.ts";

const MIN_MS = 1000;

function pieces(bytes: Buffer, size: number): readonly Buffer[] {
  return Array.from({ length: Math.ceil(bytes.length / size) }, (_, i) => bytes.subarray(i * size, (i + 1) * size));
}

function report(what: string, bytes: number, times: readonly number[]): void {
  const rates = times.map((ms) => bytes / 2 ** 30 / (ms / 1000)).sort((a, b) => a - b);
  const median = rates[Math.floor(rates.length / 2)] ?? 0;
  console.log(`${what.padEnd(52)} best ${(rates.at(-1) ?? 0).toFixed(2)} GiB/s, median ${median.toFixed(2)} GiB/s`);
}

function cpuMs(): number {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1000;
}

/** Repeats until it has been enough to measure. */
async function measure(what: string, bytes: number, work: () => Promise<void> | void): Promise<void> {
  const times: number[] = [];
  for (let total = 0; total < MIN_MS || times.length < 5; total += times.at(-1) ?? 0) {
    const start = cpuMs();
    await work();
    times.push(cpuMs() - start);
  }
  report(what, bytes, times);
}

function check(buffers: readonly Buffer[]): void {
  const checker = openSendStreamChecker();
  for (const each of buffers) checker.push(each);
  checker.finish();
}

async function throughPipeline(buffers: readonly Buffer[]): Promise<void> {
  await pipeline(checkedStream(Readable.from(buffers)), new Writable({ write: (_chunk, _encoding, done) => done() }));
}

await withLoopback({ sizeBytes: 4 * 2 ** 30 }, async ({ mountPoint }) => {
  const script = `cd "$1"; btrfs -q subvolume create large; btrfs -q subvolume create small
    head -c 512M /dev/urandom > large/file
    python3 -c 'for i in range(20000): open("small/file-%05d" % i, "wb").write(b"x" * 1000)'
    for tree in large small; do btrfs -q subvolume snapshot -r $tree $tree-snapshot; done`;
  await run("sh", "-ec", script, "sh", mountPoint);
  await btrfs("filesystem", "sync", mountPoint);
  for (const tree of ["large", "small"]) {
    for (const proto of ["1", "2"]) {
      const args = ["send", "--quiet", "--proto", proto, join(mountPoint, `${tree}-snapshot`)];
      const bytes = await buffer(spawn("btrfs", args, { stdio: ["ignore", "pipe", "inherit"] }).stdout);
      for (const size of [65536, 2 ** 20]) {
        const buffers = pieces(bytes, size);
        const name = `${tree}, version ${proto}, pieces of ${size / 1024} KiB`;
        await measure(name, bytes.length, () => check(buffers));
        if (size === 65536) await measure(`${name}, as a stage`, bytes.length, () => throughPipeline(buffers));
      }
    }
  }
});
