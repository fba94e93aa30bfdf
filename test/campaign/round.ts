// The pieces of a round: a workload, options, moments at which something goes wrong, and the clean run at the end.

import { rename, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import type { Ran } from "../support/cli.ts";
import { btrfs } from "../support/loopback.ts";
import type { Chance } from "./chance.ts";
import type { SeenSubvolume } from "./eyes.ts";
import {
  checkArchived,
  checkContainer,
  checkEnd,
  checkNothingLeft,
  checkRestored,
  heldTo,
  identitiesIn,
  identityIn,
  look,
  NotHit,
  violated,
} from "./invariants.ts";
import { empty, type Machine, type Running } from "./machine.ts";
import {
  catchUp,
  identityOf,
  keyOf,
  remember,
  snapshotsOf,
  startRestore,
  startSync,
  type RunOptions,
  type World,
} from "./world.ts";

export interface Round {
  readonly world: World;
  readonly chance: Chance;
  /** How often a planned fault did not hit before it did. */
  misses: number;
}

/** Tries a fault until it hits; a plan that cannot hit is a plan that is wrong. @throws NotHit */
export async function untilHit(round: Round, attempt: (number: number) => Promise<boolean>): Promise<void> {
  for (let number = 1; number <= 4; number += 1) {
    if (await attempt(number)) return;
    round.misses += 1;
  }
  throw new NotHit("a planned fault did not hit in four attempts");
}

// --- workload

const MOST_SNAPSHOTS = 8;

/** Changes the subvolume and takes snapshots of it; now and then thins out old ones. */
export async function work(
  { world, chance }: Round,
  machine: Machine,
  options: { readonly snapshots: number; readonly big?: boolean },
): Promise<void> {
  for (let count = 0; count < options.snapshots; count += 1) {
    await change(world, chance, machine, options.big ?? chance.maybe(0.3));
    await takeSnapshot(machine, nextName(world));
  }
  const snapshots = await snapshotsOf(world, machine);
  for (const snapshot of snapshots.slice(0, Math.max(0, snapshots.length - MOST_SNAPSHOTS)))
    await deleteSnapshot(machine, snapshot.path);
  await remember(world, machine);
}

export function nextName(world: World): string {
  return `s${String((world.taken += 1)).padStart(4, "0")}`;
}

export async function change(world: World, chance: Chance, machine: Machine, big: boolean): Promise<void> {
  await world.ground.eyes.change(machine.vol, chance.int(1, 1e9));
  // Incompressible, so that it needs parts and volumes however it is encoded.
  if (big) await writeBig(join(machine.vol, `big-${chance.int(1, 2)}`), chance.bytes(chance.int(6 << 20, 11 << 20)));
  // Trees do not grow forever.
  if (chance.maybe(0.2)) await rm(join(machine.vol, "big-1"), { recursive: true, force: true });
}

/** Changes swap names: a directory may have the file's. */
async function writeBig(path: string, bytes: Buffer): Promise<void> {
  await rm(path, { recursive: true, force: true });
  await writeFile(path, bytes);
}

export async function takeSnapshot({ vol, mountPoint, snaps }: Machine, name: string): Promise<string> {
  await btrfs("subvolume", "snapshot", "-r", vol, join(mountPoint, snaps, name));
  return `${snaps}/${name}`;
}

export async function deleteSnapshot({ mountPoint }: Machine, path: string): Promise<void> {
  await btrfs("subvolume", "delete", join(mountPoint, path));
}

export async function renameSnapshot({ mountPoint }: Machine, from: string, to: string): Promise<void> {
  await rename(join(mountPoint, from), join(mountPoint, to));
}

/** Made writable, changed, and read-only again: the same UUID, another content. */
export async function changeSnapshot({ mountPoint }: Machine, path: string, text: string): Promise<void> {
  const directory = join(mountPoint, path);
  await btrfs("property", "set", "-f", directory, "ro", "false");
  await writeFile(join(directory, "changed-afterwards"), text);
  await btrfs("property", "set", directory, "ro", "true");
}

// --- options

/**
 * Options of a sync, by chance.
 * @param sweeps - it may remove what was left a second ago; not where another machine may still be at it
 */
export function someWords(world: World, chance: Chance, sweeps = true): string[] {
  const words: string[] = [];
  const encrypted = chance.maybe(0.35);
  words.push(...(encrypted ? ["--age-recipient", world.ground.age.recipient] : ["--no-encryption"]));
  if (chance.maybe(0.3)) words.push("--compress", "zstd");
  if (chance.maybe(0.35)) words.push("--volume-size", "5Mi");
  const concurrency = chance.int(1, 3);
  words.push("--concurrency", `${concurrency}`);
  // The smallest parts that S3 has, one for each in flight, and one that fills.
  if (chance.maybe(0.75)) words.push("--memory", `${(concurrency + 1) * 5}Mi`);
  if (chance.maybe(0.2)) words.push("--work-dir", world.machine.work);
  if (chance.maybe(0.15)) words.push("--no-estimate");
  if (chance.maybe(0.15)) words.push("--no-resume");
  if (chance.maybe(0.2)) words.push("--send-proto", "1");
  if (sweeps && chance.maybe(0.25)) words.push("--leftover-age", "1s");
  if (chance.maybe(0.3)) words.push("--limit-upload", `${chance.int(8, 32)}Mi`);
  return words;
}

// --- moments

type RequestKind = "any" | "part" | "complete" | "create" | "put" | "head" | "list" | "get";

/** When something happens: so long after the start, or after a request of a kind, the nth of them. */
export type Moment =
  { readonly startMs: number } | { readonly request: RequestKind; readonly nth: number; readonly afterMs: number };

/** One of the moments of a sync; later attempts take what happens more surely. */
export function momentOfSync(chance: Chance, attempt: number): Moment {
  const late = attempt > 1;
  if (!late && chance.maybe(0.15)) return { startMs: chance.int(50, 900) };
  const request = late
    ? "any"
    : chance.pick<RequestKind>(["any", "any", "any", "part", "part", "complete", "complete", "create", "head", "list"]);
  const nth = late
    ? chance.int(1, 5)
    : request === "any"
      ? chance.int(1, 12)
      : request === "part"
        ? chance.int(1, 2)
        : 1;
  return { request, nth, afterMs: chance.maybe(0.4) ? 0 : chance.int(1, 80) };
}

/** Work that has such a moment: what takes no parts has no part to interrupt. */
export async function workFor(round: Round, moment: Moment, machine: Machine): Promise<void> {
  const parts = "request" in moment && ["part", "complete", "create"].includes(moment.request);
  await work(round, machine, { snapshots: round.chance.int(1, 2), ...(parts ? { big: true } : {}) });
}

export function momentOfRestore(chance: Chance, attempt: number): Moment {
  if (attempt <= 2 && chance.maybe(0.3)) return { startMs: chance.int(200, 900) };
  return {
    request: chance.pick<RequestKind>(["any", "get"]),
    nth: chance.int(1, attempt > 2 ? 2 : 6),
    afterMs: chance.int(0, 80),
  };
}

export function isKind(kind: RequestKind): (method: string, path: string) => boolean {
  return (method, path) => {
    const upload = /[?&]uploadId=/.test(path);
    switch (kind) {
      case "any":
        return true;
      case "part":
        return method === "PUT" && upload;
      case "complete":
        return method === "POST" && upload;
      case "create":
        return method === "POST" && /[?&]uploads\b/.test(path);
      case "put":
        return method === "PUT" && !upload;
      case "head":
        return method === "HEAD";
      case "list":
        return method === "GET" && /[?&](list-type|uploads)\b/.test(path);
      case "get":
        return method === "GET" && !/[?&](list-type|uploads)\b/.test(path);
    }
  };
}

/** Resolves when the moment has come: true, or false when the run was over before. Plan it before the run starts. */
export function planMoment({ ground: { proxy } }: World, moment: Moment): (running: Running) => Promise<boolean> {
  if ("startMs" in moment) {
    return async (running) => {
      await Promise.race([sleep(moment.startMs), running.ended]);
      return !running.isOver();
    };
  }
  const matches = isKind(moment.request);
  let seen = 0;
  const when = (method: string, path: string): boolean => matches(method, path) && (seen += 1) === moment.nth;
  const came = new Promise<void>((resolve) => proxy.plan({ when, fault: { kind: "delay", ms: 0 }, then: resolve }));
  return async (running) => {
    await Promise.race([came.then(() => sleep(moment.afterMs)), running.ended]);
    return !running.isOver();
  };
}

// --- how rounds go on and end

/** How a sync may end while something goes wrong. */
export const DISTURBED: readonly (number | string)[] = [
  0,
  3,
  11,
  13,
  14,
  75,
  129,
  130,
  143,
  "SIGKILL",
  "SIGTERM",
  "SIGINT",
];

/** And when it is done to its children: btrfs that was killed has refused, and age that was killed takes no recipients. */
export const DISTURBED_CHILDREN: readonly (number | string)[] = [...DISTURBED, 2, 15];

/** A sync with a fault while it runs; everything that it reports must be true. Returns how it ended. */
export async function disturbedSync(
  round: Round,
  words: readonly string[],
  disturb: (running: Running) => Promise<void>,
  options: RunOptions & { readonly machine?: Machine; readonly allowed?: typeof DISTURBED } = {},
): Promise<Ran> {
  const { world } = round;
  const machine = options.machine ?? world.machine;
  const before = await snapshotsOf(world, machine);
  const running = startSync(world, words, options);
  await disturb(running);
  const ran = await running.ended;
  // A subvolume without snapshots is a mistake of the caller, not a success.
  const none = before.length === 0 || (await snapshotsOf(world, machine)).length === 0;
  checkEnd(ran, "sync", [...(options.allowed ?? DISTURBED), ...(none ? [2] : [])]);
  if (ran.code === 0) {
    await remember(world, machine);
    await checkArchived(world, await heldTo(world, machine, before), "sync");
  }
  return ran;
}

/** The fault is over. Everything is there again, and what is planned is forgotten. */
export async function calm({ ground }: World): Promise<void> {
  ground.proxy.clear();
  for (const server of ["proxy", "object", "container", "account"] as const) {
    ground.swift.thaw(server);
    await ground.swift.start(server);
  }
  await catchUp(ground);
}

/** With nothing going wrong a sync ends with 0, and all is archived. */
export async function cleanSync(round: Round, what: string): Promise<void> {
  const { world } = round;
  await keepOne(round);
  await remember(world, world.machine);
  const before = await snapshotsOf(world, world.machine);
  const ran = await startSync(world, cleanWords(round)).ended;
  checkEnd(ran, `the clean sync ${what}`, [0]);
  await checkArchived(world, before, `the clean sync ${what}`);
}

/** Takes a snapshot where none is left: there is something to archive, always. */
export async function keepOne(round: Round): Promise<void> {
  const { world } = round;
  if ((await snapshotsOf(world, world.machine)).length === 0) await work(round, world.machine, { snapshots: 1 });
}

/** Mostly what a user has in the configuration file; now and then other options than the run before had. */
export function cleanWords({ world, chance }: Round): readonly string[] {
  return chance.maybe(0.5) ? someWords(world, chance) : ["--no-encryption", "--concurrency", "2", "--memory", "15Mi"];
}

/** After each round: what was intact is intact, and there are no leftovers. */
export async function checkAll({ world }: Round): Promise<void> {
  await remember(world, world.machine);
  await checkContainer(world);
  await checkNothingLeft(world, [world.machine, world.target]);
}

/**
 * Local snapshots under whose key something else is archived, and that are archived under no other key: no sync can
 * archive them, and none may report that it did.
 */
export async function conflicts(world: World, machine: Machine): Promise<readonly SeenSubvolume[]> {
  const stored = await look(world);
  const archived = identitiesIn(stored);
  return (await snapshotsOf(world, machine)).filter(
    (snapshot) => stored.archives.has(keyOf(snapshot)) && !archived.has(identityOf(snapshot)),
  );
}

/** Restores the newest snapshot that is here and archived, onto what earlier restores brought, and compares. */
export async function restoreNewest(round: Round, what: string): Promise<void> {
  const { world } = round;
  const newest = (await archivedHere(world)).at(-1);
  if (newest === undefined) return;
  const ran = await startRestore(world, keyOf(newest)).ended;
  checkEnd(ran, `restore ${what}`, [0]);
  const sealed = await checkRestored(world);
  if (!sealed.some(({ receivedUuid, stransid }) => `${receivedUuid ?? ""}/${stransid}` === identityOf(newest))) {
    violated("exit 0 of a restore = the snapshot is there", `${keyOf(newest)} is not on the target`);
  }
}

export async function archivedHere(world: World): Promise<readonly SeenSubvolume[]> {
  const stored = await look(world);
  return (await snapshotsOf(world, world.machine)).filter((each) => {
    const metadata = stored.archives.get(keyOf(each))?.metadata;
    return metadata !== undefined && identityIn(metadata) === identityOf(each);
  });
}

/** An empty target. */
export async function clearTarget({ ground, target }: World): Promise<void> {
  const seen = await ground.eyes.subvolumes(target.mountPoint);
  for (const { path } of seen) await btrfs("subvolume", "delete", join(target.mountPoint, path));
  await empty(target.mountPoint);
}
