// How long the addon takes to list a filesystem with very many snapshots, beside libbtrfsutil's own iteration in C. In
// CPU time, so that what else the machine does counts little; on an idle machine the clock shows the same.
//
//   node dist/test/bench/subvolumes.js [SNAPSHOTS]      as root; 20,000 by default

import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { listSubvolumes, subvolumeInfo } from "../../src/addon/subvolumes.ts";
import { run, withLoopback } from "../support/loopback.ts";

const ROUNDS = 9;
const C_SOURCE = fileURLToPath(new URL("../../../test/bench/subvolumes.c", import.meta.url));

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
    times.ours.push(await timed(() => listSubvolumes(top)));
    times.filtered.push(await timed(() => listSubvolumes(top, { parentUuid: uuid ?? "", readOnly: true })));
  }
  console.log(`${count} subvolumes`);
  const theirs = report("C, btrfs_util_subvolume_iterator_next_info", times.theirs);
  const ours = report("addon, listSubvolumes with all records", times.ours);
  const filtered = report("addon, filtered for what few are (none)", times.filtered);
  console.log(`ratio ${(ours / theirs).toFixed(2)} (filtered ${(filtered / theirs).toFixed(2)}); 1.5 is the limit`);
}

const snapshots = Number(process.argv[2] ?? 20_000);
await withLoopback({ sizeBytes: 8 * 2 ** 30 }, async ({ mountPoint, directory }) => {
  const program = join(directory, "subvolumes");
  await run("cc", "-O2", "-o", program, C_SOURCE, "-lbtrfsutil");
  const populate = `cd "$1"; btrfs -q subvolume create source; btrfs -q subvolume create empty; mkdir snapshots
    seq "$2" | xargs -I{} btrfs -q subvolume snapshot -r source snapshots/{}; btrfs filesystem sync .`;
  await run("sh", "-ec", populate, "sh", mountPoint, String(snapshots));
  await compare(mountPoint, program);
});
