// The kinds of faults that are situations: others at work, snapshots that change, full disks, what the store has lost.

import { rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { run } from "../support/loopback.ts";
import type { SeenSubvolume } from "./eyes.ts";
import { strike, type FaultKind } from "./faults.ts";
import { checkArchived, checkEnd, checkRestored, heldTo, violated } from "./invariants.ts";
import { openMachine, type Machine, type Running } from "./machine.ts";
import {
  change,
  changeSnapshot,
  checkAll,
  conflicts,
  deleteSnapshot,
  disturbedSync,
  keepOne,
  momentOfSync,
  nextName,
  planMoment,
  renameSnapshot,
  restoreNewest,
  someWords,
  takeSnapshot,
  untilHit,
  work,
  type Round,
} from "./round.ts";
import { keyOf, remember, snapshotsOf, startRestore, startSync, startVerify, type World } from "./world.ts";

/** Both ran at the same time for a while. */
async function overlap(
  first: Running,
  second: () => Running,
  delayMs: number,
): Promise<{ readonly both: boolean; readonly other: Running }> {
  await Promise.race([sleep(delayMs), first.ended]);
  const both = !first.isOver();
  return { both, other: second() };
}

export const twoRuns: FaultKind = {
  name: "two runs at once",
  async play(round) {
    const { world, chance } = round;
    await untilHit(round, async () => {
      await work(round, world.machine, { snapshots: chance.int(1, 3) });
      const before = await snapshotsOf(world, world.machine);
      const first = startSync(world, someWords(world, chance));
      const isSync = chance.maybe(0.6);
      const second = isSync
        ? () => startSync(world, [...someWords(world, chance), ...(chance.maybe(0.5) ? ["--wait-lock", "20s"] : [])])
        : () => startVerify(world, [chance.pick(["--remove-leftovers", "--read-data"])]);
      const { both, other } = await overlap(first, second, chance.int(0, 700));
      const [one, two] = await Promise.all([first.ended, other.ended]);
      checkEnd(one, "the first run", [0, 11]);
      checkEnd(two, "the second run", [0, 11]);
      if (one.code === 0 || (isSync && two.code === 0)) {
        await checkArchived(world, await heldTo(world, world.machine, before), "one of two runs");
      }
      return both;
    });
  },
};

export const twoMachines: FaultKind = {
  name: "two machines, one UUID",
  async play(round) {
    const { world, chance } = round;
    const { machine } = world;
    const clone = await openMachine("clone", machine);
    try {
      const sameName = chance.maybe(0.6);
      const name = nextName(world);
      for (const each of chance.shuffled([machine, clone])) {
        await change(world, chance, each, chance.maybe(0.5));
        await takeSnapshot(each, sameName ? name : `${name}-${each.name}`);
        await remember(world, each);
      }
      await untilHit(round, (attempt) => meet(round, clone, attempt));
      world.ground.proxy.clear();
      for (const each of chance.shuffled([machine, clone])) await settleMachine(round, each, sameName);
      await checkAll(round);
    } finally {
      await clone.close();
    }
    for (const snapshot of await conflicts(world, machine)) await deleteSnapshot(machine, snapshot.path);
  },
};

/** The two machines' runs meet in the container. */
async function meet(round: Round, clone: Machine, attempt: number): Promise<boolean> {
  const { world, chance } = round;
  const [one, two] = chance.maybe(0.5) ? [world.machine, clone] : [clone, world.machine];
  if (chance.maybe(0.4)) {
    // One is killed in the middle, and the other finds what it left.
    const came = planMoment(world, momentOfSync(chance, attempt));
    await disturbedSync(
      round,
      someWords(world, chance, false),
      async (running) => {
        if (await came(running)) await strike(running, "SIGKILL", chance);
      },
      { machine: one },
    );
    await disturbedSync(round, someWords(world, chance, false), () => Promise.resolve(), { machine: two });
    return true;
  }
  const slow = [...someWords(world, chance, false), "--limit-upload", "8Mi"];
  let both = false;
  await disturbedSync(
    round,
    slow,
    async (first) => {
      await Promise.race([sleep(chance.int(0, 900)), first.ended]);
      both = !first.isOver();
      await disturbedSync(round, someWords(world, chance, false), () => Promise.resolve(), { machine: two });
    },
    { machine: one },
  );
  return both;
}

async function settleMachine({ world }: Round, machine: Machine, sameName: boolean): Promise<void> {
  const before = await snapshotsOf(world, machine);
  const ran = await startSync(world, ["--no-encryption"], { machine }).ended;
  const lost = await conflicts(world, machine);
  checkEnd(ran, `the clean sync of machine ${machine.name}`, lost.length > 0 ? [3] : sameName ? [0, 3] : [0]);
  const others = before.filter((each) => !lost.some(({ path }) => path === each.path));
  await checkArchived(
    world,
    others,
    `the clean sync of machine ${machine.name} (but for what the other machine stored there)`,
  );
}

// --- snapshots that do not stay as they are

type Deed = "delete" | "rename" | "anew" | "swap" | "change";

/** Something that people and their scripts do to snapshots. */
async function doTo({ taken }: World, machine: Machine, { path }: SeenSubvolume, deed: Deed): Promise<void> {
  const name = path.slice(machine.snaps.length + 1);
  if (deed === "delete" || deed === "anew") await deleteSnapshot(machine, path);
  if (deed === "rename") await renameSnapshot(machine, path, `${path}-renamed`);
  if (deed === "swap") await renameSnapshot(machine, path, `${path}-before`);
  if (deed === "anew" || deed === "swap") await takeSnapshot(machine, name);
  if (deed === "change") await changeSnapshot(machine, path, `changed ${taken}`);
}

export const snapshotsChanged: FaultKind = {
  name: "snapshots changed",
  async play(round) {
    const { world, chance } = round;
    const { machine } = world;
    await untilHit(round, async (attempt) => {
      await work(round, machine, { snapshots: chance.int(1, 3) });
      const deeds = Array.from({ length: chance.int(1, 2) }, () =>
        chance.pick<Deed>(["delete", "rename", "anew", "swap", "change"]),
      );
      const during = chance.maybe(0.6);
      let hit = false;
      const act = async (): Promise<void> => {
        await change(world, chance, machine, false);
        for (const deed of deeds) {
          const [first, ...rest] = await snapshotsOf(world, machine);
          if (first === undefined) continue;
          const snapshot = chance.pick([first, ...rest, ...rest.slice(-2)]);
          // While it is being sent, the kernel lets nobody delete it or make it writable.
          hit = await doTo(world, machine, snapshot, deed).then(
            () => true,
            () => hit,
          );
        }
        await remember(world, machine);
      };
      if (!during) await act();
      const came = during ? planMoment(world, momentOfSync(chance, attempt)) : null;
      await disturbedSync(round, someWords(world, chance), async (running) => {
        if (came !== null && (await came(running))) await act();
      });
      world.ground.proxy.clear();
      await settleSnapshots(round);
      return hit;
    });
  },
};

/** Archives everything that can be archived, also where one snapshot's name is taken; then that snapshot gets out of the way. */
async function settleSnapshots(round: Round): Promise<void> {
  const { world, chance } = round;
  const { machine } = world;
  await keepOne(round);
  await remember(world, machine);
  const before = await snapshotsOf(world, machine);
  const taken = await conflicts(world, machine);
  const ran = await startSync(world, ["--no-encryption"]).ended;
  checkEnd(ran, "the sync after snapshots changed", taken.length > 0 ? [3] : [0]);
  const paths = new Set(taken.map(({ path }) => path));
  await checkArchived(
    world,
    before.filter(({ path }) => !paths.has(path)),
    "the sync after snapshots changed (but for those whose name is taken)",
  );
  for (const { path } of taken) {
    if (chance.maybe(0.5)) await renameSnapshot(machine, path, `${machine.snaps}/${nextName(world)}`);
    else await deleteSnapshot(machine, path);
  }
}

// --- room

export const noSpace: FaultKind = {
  name: "no space",
  async play(round) {
    await untilHit(round, () => round.chance.pick([fullWorkDirectory, fullTarget, fullState])(round));
  },
};

async function withTmpfs<T>(directory: string, size: string, use: () => Promise<T>): Promise<T> {
  await run("mount", "-t", "tmpfs", "-o", `size=${size}`, "none", directory);
  try {
    return await use();
  } finally {
    await run("umount", directory);
  }
}

async function fullWorkDirectory(round: Round): Promise<boolean> {
  const { world, chance } = round;
  await work(round, world.machine, { snapshots: 1, big: true });
  const words = [
    ...someWords(world, chance).filter((word) => word !== "--work-dir" && word !== world.machine.work),
    "--work-dir",
    world.machine.work,
  ];
  return await withTmpfs(world.machine.work, `${chance.int(16, 600)}k`, async () => {
    const ran = await disturbedSync(round, words, () => Promise.resolve());
    const left = await world.machine.leftFiles();
    if (left.length > 0) violated("there are no leftovers", left.join(", "));
    return ran.code !== 0;
  });
}

async function fullState(round: Round): Promise<boolean> {
  const { world, chance } = round;
  const { root } = world.machine;
  await work(round, world.machine, { snapshots: 1, big: true });
  const words = [
    ...someWords(world, chance),
    "--volume-size",
    "5Mi",
    "--age-recipient",
    world.ground.age.recipient,
  ].filter((word) => word !== "--no-encryption");
  return await withTmpfs(join(root, "lib"), "8k", () =>
    withTmpfs(join(root, "cache"), "8k", () =>
      withTmpfs(join(root, "home"), "8k", async () => {
        for (const each of ["lib", "cache", "home"])
          await writeFile(join(root, each, "filler"), Buffer.alloc(8192)).catch(() => undefined);
        await disturbedSync(round, words, () => Promise.resolve());
        return true;
      }),
    ),
  );
}

async function fullTarget(round: Round): Promise<boolean> {
  const { world, chance } = round;
  await work(round, world.machine, { snapshots: 1, big: true });
  await disturbedSync(round, someWords(world, chance), () => Promise.resolve());
  const newest = (await snapshotsOf(world, world.machine)).at(-1);
  if (newest === undefined) return false;
  const { target } = world;
  const small = await openMachine("full", null, 512 * 2 ** 20);
  try {
    world.target = small;
    const filler = join(small.mountPoint, "filler");
    await run(
      "sh",
      "-c",
      `dd if=/dev/zero of='${filler}' bs=64k status=none 2>/dev/null; sync -f '${filler}'; truncate -s -${chance.int(0, 900)}k '${filler}'`,
    );
    const ran = await startRestore(world, keyOf(newest)).ended;
    checkEnd(ran, "restore to a full filesystem", [0, 3, 14, 15, 75]);
    await checkRestored(world);
    await rm(filler);
    await restoreNewest(round, "once there was room");
    return ran.code !== 0;
  } finally {
    world.target = target;
    await small.close();
  }
}
