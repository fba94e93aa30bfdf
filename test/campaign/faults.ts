// The kinds of faults that strike a sync from outside: signals, children, servers, the way to the store, clocks.

import { setTimeout as sleep } from "node:timers/promises";
import type { Fault } from "../support/fault-proxy.ts";
import type { SwiftServer } from "../support/swift.ts";
import type { Chance } from "./chance.ts";
import type { Running } from "./machine.ts";
import {
  DISTURBED_CHILDREN,
  disturbedSync,
  isKind,
  momentOfSync,
  planMoment,
  someWords,
  untilHit,
  work,
  workFor,
  type Round,
} from "./round.ts";
import type { World } from "./world.ts";

/** Something that goes wrong, in many ways; every kind has a counter of its own. */
export interface FaultKind {
  readonly name: string;
  /** Makes it happen, and checks what must hold during it. @throws Violation, NotHit */
  play(round: Round): Promise<void>;
}

type Signal = "SIGKILL" | "SIGTERM" | "SIGINT" | "SIGSTOP";

/** Ends a run, or holds it up for a while. */
export async function strike(running: Running, signal: Signal, chance: Chance): Promise<void> {
  running.kill(signal);
  if (signal === "SIGINT") {
    await sleep(chance.int(0, 400));
    running.kill("SIGINT");
  }
  if (signal === "SIGSTOP") {
    await sleep(chance.int(200, 1500));
    running.kill("SIGCONT");
  }
}

export const toolKilled: FaultKind = {
  name: "tool killed",
  async play(round) {
    const { world, chance } = round;
    await untilHit(round, async (attempt) => {
      const moment = momentOfSync(chance, attempt);
      await workFor(round, moment, world.machine);
      const signal = chance.pick<Signal>(["SIGKILL", "SIGKILL", "SIGKILL", "SIGTERM", "SIGINT", "SIGSTOP"]);
      const came = planMoment(world, moment);
      let hit = false;
      await disturbedSync(round, someWords(world, chance), async (running) => {
        hit = await came(running);
        if (hit) await strike(running, signal, chance);
      });
      return hit;
    });
  },
};

const PROGRAMS = ["btrfs", "age", "zstd", "cat"];

/** Waits for a child of a run with one of these names, and does something to it; false when there was none. */
export async function strikeChild(running: Running, chance: Chance, delayMs: number): Promise<boolean> {
  await Promise.race([sleep(delayMs), running.ended]);
  const stop = chance.maybe(0.4);
  while (!running.isOver()) {
    const victims = (await running.children()).filter(({ name }) => PROGRAMS.includes(name));
    const victim = victims.length === 0 ? undefined : chance.pick([victims[0], ...victims.slice(1)]);
    if (victim !== undefined && signalled(victim.pid, stop ? "SIGSTOP" : "SIGKILL")) {
      if (!stop) return true;
      await sleep(chance.int(100, 1200));
      signalled(victim.pid, "SIGCONT");
      return true;
    }
    await sleep(3);
  }
  return false;
}

function signalled(pid: number, signal: NodeJS.Signals): boolean {
  try {
    return process.kill(pid, signal);
  } catch {
    return false;
  }
}

export const childKilled: FaultKind = {
  name: "child killed",
  async play(round) {
    const { world, chance } = round;
    await untilHit(round, async (attempt) => {
      await work(round, world.machine, { snapshots: chance.int(1, 2), big: true });
      let hit = false;
      await disturbedSync(
        round,
        someWords(world, chance),
        async (running) => {
          hit = await strikeChild(running, chance, attempt > 1 ? 0 : chance.int(0, 700));
        },
        { allowed: DISTURBED_CHILDREN },
      );
      return hit;
    });
  },
};

const SERVERS: readonly [SwiftServer, ...SwiftServer[]] = ["proxy", "object", "object", "container"];

/** Takes a server away, or freezes it, and brings it back. */
export async function disturbServer(
  { ground: { swift } }: World,
  server: SwiftServer,
  how: "kill" | "freeze",
  ms: number,
): Promise<void> {
  if (how === "kill") await swift.stop(server);
  else swift.freeze(server);
  await sleep(ms);
  if (how === "kill") await swift.start(server);
  else swift.thaw(server);
}

function serverFault(name: string, how: "kill" | "freeze"): FaultKind {
  return {
    name,
    async play(round) {
      const { world, chance } = round;
      await untilHit(round, async (attempt) => {
        const moment = momentOfSync(chance, attempt);
        await workFor(round, moment, world.machine);
        const server = chance.pick(SERVERS);
        const came = planMoment(world, moment);
        let hit = false;
        await disturbedSync(round, someWords(world, chance), async (running) => {
          hit = await came(running);
          if (hit) await disturbServer(world, server, how, chance.int(200, how === "kill" ? 1000 : 2000));
        });
        return hit;
      });
    },
  };
}

export const serverKilled = serverFault("server killed", "kill");
export const serverFrozen = serverFault("server frozen", "freeze");

/** Each request has bad luck so often; gives how often it happened. */
export function planBadLuck(world: World, chance: Chance, fault: () => Fault, often: number): () => number {
  let hits = 0;
  const most = chance.int(1, 6);
  for (let count = 0; count < most; count += 1) {
    const kind = chance.pick(["any", "any", "any", "part", "complete", "put"] as const);
    const matches = isKind(kind);
    const when = (method: string, path: string): boolean => matches(method, path) && chance.maybe(often);
    world.ground.proxy.plan({ when, fault: fault(), then: () => void (hits += 1) });
  }
  return () => hits;
}

function answer(chance: Chance): Fault {
  const status = chance.pick([429, 500, 502, 503, 503, 504, 403, 408]);
  const code = status === 403 ? "AccessDenied" : status === 429 ? "SlowDown" : "ServiceUnavailable";
  const xml = `<?xml version="1.0" encoding="UTF-8"?><Error><Code>${code}</Code><Message>planned</Message></Error>`;
  // Refusals are the store's own words; a busy store may answer anything.
  return {
    kind: "answer",
    status,
    body: status === 403 || chance.maybe(0.5) ? xml : chance.pick(["", "<html>busy</html>", "\0\u0001"]),
  };
}

export const badAnswers: FaultKind = {
  name: "bad answers",
  play: (round) => badWay(round, () => answer(round.chance)),
};

function badWire(chance: Chance): Fault {
  return chance.pick<Fault>([
    { kind: "lose-answer" },
    { kind: "lose-answer" },
    { kind: "delay", ms: chance.int(100, 2000) },
    { kind: "garble" },
    { kind: "hang", ms: chance.int(100, 1500) },
    { kind: "cut", afterBytes: chance.int(0, 300) },
    { kind: "stall", afterBytes: chance.int(0, 300), ms: chance.int(100, 1500) },
    { kind: "flip", atByte: chance.int(0, 400) },
    { kind: "lie", headers: { "content-length": "0" } },
    { kind: "lie", headers: { etag: '"00000000000000000000000000000000"' } },
  ]);
}

export const badConnection: FaultKind = {
  name: "bad connection",
  play: (round) => badWay(round, () => badWire(round.chance)),
};

async function badWay(round: Round, fault: () => Fault): Promise<void> {
  const { world, chance } = round;
  await untilHit(round, async (attempt) => {
    await work(round, world.machine, { snapshots: chance.int(1, 2) });
    const hits = planBadLuck(world, chance, fault, attempt === 1 ? 0.2 : 0.6);
    await disturbedSync(round, someWords(world, chance), () => Promise.resolve());
    world.ground.proxy.clear();
    return hits() > 0;
  });
}

export { badWire };

const MINUTE = 60_000;

export const wrongClock: FaultKind = {
  name: "wrong clock",
  async play(round) {
    const { world, chance } = round;
    await untilHit(round, async (attempt) => {
      await work(round, world.machine, { snapshots: chance.int(1, 2) });
      if (chance.maybe(0.5)) {
        // Something that another clock saw begin.
        const came = planMoment(world, momentOfSync(chance, attempt));
        await disturbedSync(round, someWords(world, chance), async (running) => {
          if (await came(running)) running.kill("SIGKILL");
        });
        world.ground.proxy.clear();
      }
      const clockMs = chance.pick([-26 * 60, -180, -20, 20, 180, 26 * 60]) * MINUTE;
      const ran = await disturbedSync(
        round,
        [...someWords(world, chance), "-v", "--log-format", "json"],
        () => Promise.resolve(),
        { clockMs },
      );
      return timesIn(ran.stderr).some((time) => Math.abs(time - Date.now() - clockMs) < 5 * MINUTE);
    });
  },
};

/** The time that the program's log reports. */
function timesIn(log: string): readonly number[] {
  return [...log.matchAll(/"time":"([^"]+)"/g)].map(([, time]) => Date.parse(time ?? ""));
}
