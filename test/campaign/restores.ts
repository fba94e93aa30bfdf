// The kinds of faults that strike a restore.

import type { Fault } from "../support/fault-proxy.ts";
import type { SwiftServer } from "../support/swift.ts";
import type { Chance } from "./chance.ts";
import { badWire, disturbServer, planBadLuck, strike, strikeChild, type FaultKind } from "./faults.ts";
import { checkEnd, checkRestored } from "./invariants.ts";
import type { Running } from "./machine.ts";
import {
  archivedHere,
  clearTarget,
  cleanSync,
  DISTURBED_CHILDREN,
  momentOfRestore,
  planMoment,
  restoreNewest,
  untilHit,
  work,
  type Round,
} from "./round.ts";
import { keyOf, startRestore, startVerify, type World } from "./world.ts";

/** Archives something that the target lacks, and gives its key. */
async function somethingToRestore(round: Round): Promise<string> {
  const { world, chance } = round;
  await work(round, world.machine, { snapshots: 1, big: chance.maybe(0.7) });
  await cleanSync(round, "before a restore");
  if (chance.maybe(0.5)) await clearTarget(world);
  const newest = (await archivedHere(world)).at(-1);
  if (newest === undefined) throw new Error("nothing to restore");
  return keyOf(newest);
}

/** A restore that something is done to: what it seals is right, and the next one brings the rest. */
async function disturbedRestore(
  round: Round,
  key: string,
  disturb: (running: Running) => Promise<void>,
): Promise<void> {
  const { world, chance } = round;
  const running = startRestore(world, key, ["--concurrency", `${chance.int(1, 4)}`]);
  await disturb(running);
  const ran = await running.ended;
  checkEnd(ran, "restore", DISTURBED_CHILDREN);
  await checkRestored(world);
}

export const restoreKilled: FaultKind = {
  name: "restore killed",
  async play(round) {
    const { world, chance } = round;
    await untilHit(round, async (attempt) => {
      const key = await somethingToRestore(round);
      let hit = false;
      for (let times = chance.int(1, 2); times > 0; times -= 1) {
        const child = chance.maybe(0.35);
        const came = child ? null : planMoment(world, momentOfRestore(chance, attempt));
        await disturbedRestore(round, key, async (running) => {
          const struck = came === null ? await strikeChild(running, chance, chance.int(0, 200)) : await came(running);
          if (struck) hit = true;
          if (struck && came !== null)
            await strike(running, chance.pick(["SIGKILL", "SIGKILL", "SIGTERM", "SIGINT", "SIGSTOP"]), chance);
        });
        world.ground.proxy.clear();
      }
      await restoreNewest(round, "after one was killed");
      return hit;
    });
  },
};

export const restoreDisturbed: FaultKind = {
  name: "restore over a bad way",
  async play(round) {
    const { world, chance } = round;
    await untilHit(round, async (attempt) => {
      const key = await somethingToRestore(round);
      let hit = false;
      if (chance.maybe(0.6)) {
        const hits = planBadLuck(world, chance, () => badDownload(chance), attempt === 1 ? 0.4 : 0.9);
        if (chance.maybe(0.3))
          checkEnd(await startVerify(world, ["--read-data"]).ended, "verify over a bad way", [0, 2, 13, 14, 75]);
        else await disturbedRestore(round, key, () => Promise.resolve());
        hit = hits() > 0;
      } else {
        const came = planMoment(world, momentOfRestore(chance, attempt));
        await disturbedRestore(round, key, async (running) => {
          hit = await came(running);
          if (!hit) return;
          const how = chance.pick(["kill", "freeze"] as const);
          await disturbServer(
            world,
            chance.pick<SwiftServer>(["proxy", "object", "container"]),
            how,
            chance.int(200, 1500),
          );
        });
      }
      world.ground.proxy.clear();
      await restoreNewest(round, "after a disturbed one");
      return hit;
    });
  },
};

function badDownload(chance: Chance): Fault {
  const afterBytes = chance.maybe(0.5) ? chance.int(0, 2000) : chance.int(0, 400_000);
  return chance.pick<Fault>([
    { kind: "cut", afterBytes },
    { kind: "stall", afterBytes, ms: chance.int(100, 1500) },
    { kind: "flip", atByte: afterBytes },
    { kind: "answer", by: "another", status: chance.pick([429, 500, 503, 403, 404, 206]), body: "planned" },
    badWire(chance),
  ]);
}

export type { World };
