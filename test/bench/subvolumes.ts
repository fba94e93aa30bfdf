// How long the addon takes to list a filesystem with very many snapshots, beside libbtrfsutil's own iteration in C. In
// CPU time, so that what else the machine does counts little; on an idle machine the clock shows the same.
//
//   node dist/test/bench/subvolumes.js [SNAPSHOTS]      as root; 20,000 by default

import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { listSubvolumes, subvolumeInfo } from "../../src/addon/subvolumes.ts";
import { btrfs, run, withLoopback } from "../support/loopback.ts";
import { takeSnapshots } from "./snapshots.ts";

const ROUNDS = 9;
const C_SOURCE = fileURLToPath(new URL("../../../test/bench/subvolumes.c", import.meta.url));
const SELF = fileURLToPath(import.meta.url);

/** In place of a number: only list. */
const ONCE = "--once";

async function timed(work: () => Promise<unknown>): Promise<number> {
  const before = process.cpuUsage();
  await work();
  const { user, system } = process.cpuUsage(before);
  return (user + system) / 1000;
}

function report(what: string, times: readonly number[]): number {
  const best = Math.min(...times);
  const median = [...times].sort((a, b) => a - b)[Math.floor(times.length / 2)] ?? best;
  console.log(`${what.padEnd(48)} best ${best.toFixed(1)} ms, median ${median.toFixed(1)} ms`);
  return best;
}

async function compare(top: string, program: string): Promise<void> {
  const times: Record<"ours" | "theirs" | "filtered", number[]> = { ours: [], theirs: [], filtered: [] };
  let count = 0;
  const { uuid } = await subvolumeInfo(join(top, "empty"));
  // In turns, so that what else the machine does hits both.
  for (let round = 0; round < ROUNDS; round++) {
    const [counted, milliseconds] = (await run(program, top, "1")).trim().split(" ").map(Number);
    count = counted ?? 0;
    times.theirs.push(milliseconds ?? 0);
    times.ours.push(Number(await run(process.execPath, SELF, ONCE, top)));
    times.filtered.push(Number(await run(process.execPath, SELF, ONCE, top, uuid ?? "")));
  }
  console.log(`${count} subvolumes`);
  const theirs = report("C, btrfs_util_subvolume_iterator_next_info", times.theirs);
  const ours = report("addon, listSubvolumes with all records", times.ours);
  const filtered = report("addon, filtered for what few are (none)", times.filtered);
  console.log(`ratio ${(ours / theirs).toFixed(2)} (filtered ${(filtered / theirs).toFixed(2)}); 1.3 is the limit`);
}

/** Lists once, as every run of the program does: what a list before left behind would be cleared away on its account. */
async function listOnce(top: string, parentUuid?: string): Promise<void> {
  const filter = parentUuid === undefined ? {} : { parentUuid, readOnly: true };
  console.log(await timed(() => listSubvolumes(top, filter)));
}

async function main(snapshots: number): Promise<void> {
  await withLoopback({ sizeBytes: 8 * 2 ** 30 }, async ({ mountPoint, directory }) => {
    const program = join(directory, "subvolumes");
    await run("cc", "-O2", "-o", program, C_SOURCE, "-lbtrfsutil");
    for (const name of ["source", "empty"]) await btrfs("-q", "subvolume", "create", join(mountPoint, name));
    await mkdir(join(mountPoint, "snapshots"));
    await takeSnapshots(join(mountPoint, "source"), join(mountPoint, "snapshots"), 1, snapshots);
    await btrfs("filesystem", "sync", mountPoint);
    await compare(mountPoint, program);
  });
}

const [first = "20000", top = "", parentUuid] = process.argv.slice(2);
if (first === ONCE) await listOnce(top, parentUuid);
else await main(Number(first));
