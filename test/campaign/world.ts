// Where rounds happen: a store, a machine with snapshots, a second filesystem to restore to, and all that is known of them.
// A world begins empty, lives for a few rounds, each of which finds what the earlier ones left, and is thrown away.

import { readFile, rm } from "node:fs/promises";
import { dirname, join } from "node:path";
import { openFaultProxy, type FaultProxy } from "../support/fault-proxy.ts";
import type { Ran } from "../support/cli.ts";
import { run } from "../support/loopback.ts";
import { openSwift, SYSTEM_PYTHON, type Swift } from "../support/swift.ts";
import type { Chance } from "./chance.ts";
import { openEyes, type Eyes, type SeenSubvolume } from "./eyes.ts";
import { openMachine, type Machine, type Running, type StartOptions } from "./machine.ts";
import { bundleProgram, type Program } from "../support/program.ts";

/** Everything that lives as long as the campaign, because starting it takes seconds. */
export interface Ground {
  readonly swift: Swift;
  /** The way to the store that the program takes. */
  readonly proxy: FaultProxy;
  readonly eyes: Eyes;
  readonly program: Program;
  /** The file with an age identity, and its recipient. */
  readonly age: { readonly identity: string; readonly recipient: string };
  readonly say: (text: string) => void;
  close(): Promise<void>;
}

export interface World {
  readonly ground: Ground;
  readonly name: string;
  readonly container: string;
  readonly machine: Machine;
  /** Where archives are restored to. */
  target: Machine;
  /** By identity: the hash of the tree that a snapshot was when it was taken. */
  readonly truth: Map<string, string>;
  /** By key: archives that were seen intact in the container. */
  readonly intact: Map<string, IntactArchive>;
  /** Restored snapshots that were compared. */
  readonly compared: Set<string>;
  /** Names of stored objects that the campaign itself has damaged, until they are repaired. */
  readonly damaged: Set<string>;
  /** The output of the program in each run of the round, to find out what happened. */
  readonly story: string[];
  /** Counts the snapshots taken, for their names. */
  taken: number;
}

export interface IntactArchive {
  readonly key: string;
  readonly identity: string;
  /** `null`: full. */
  readonly sendParent: string | null;
  readonly etag: string;
  /** How often it was stored: another time means that it was replaced. */
  readonly file: string;
}

export async function openGround(directory: string, say: (text: string) => void): Promise<Ground> {
  const closers: (() => Promise<unknown>)[] = [];
  const close = async (): Promise<void> => {
    for (const closer of closers.splice(0).reverse())
      await closer().catch((error: unknown) => say(`closing: ${String(error)}`));
  };
  try {
    const identity = join(directory, "identity.age");
    await run("age-keygen", "-o", identity);
    const recipient = /public key: (\S+)/.exec(await readFile(identity, "utf8"))?.[1] ?? "";
    const program = await bundleProgram();
    closers.push(() => program.close());
    const eyes = openEyes();
    closers.push(() => eyes.close());
    const swift = await openSwift({ storageDir: directory });
    closers.push(() => swift.close());
    const proxy = await openFaultProxy(swift.endpoint);
    closers.push(async () => {
      proxy.clear();
      await proxy.close();
    });
    return { swift, proxy, eyes, program, age: { identity, recipient }, say, close };
  } catch (error) {
    await close();
    throw error;
  }
}

export async function openWorld(ground: Ground, name: string, chance: Chance): Promise<World> {
  const container = `campaign-${name}`;
  await ground.swift.createContainer(container);
  const machine = await openMachine("here");
  const target = await openMachine("there");
  const zoo = chance.maybe(0.3);
  await ground.eyes.make(machine.vol, { seed: chance.int(1, 1e9), files: 20, bytes: 200_000, zoo });
  return {
    ground,
    name,
    container,
    machine,
    target,
    truth: new Map(),
    intact: new Map(),
    compared: new Set(),
    damaged: new Set(),
    story: [],
    taken: 0,
  };
}

/** Takes what the world has stored along: the store goes on, and is to stay small. */
export async function closeWorld({ ground, container, machine, target }: World): Promise<void> {
  await machine.close();
  await target.close();
  for (const { name, file } of await ground.eyes.stored(ground.swift.dir)) {
    if (name.startsWith(`/AUTH_test/${container}`)) await rm(dirname(file), { recursive: true });
  }
}

// --- the program

/** Options of one run that are not about what it does. */
export interface RunOptions extends StartOptions {
  readonly words?: readonly string[];
  /** Not through the proxy. */
  readonly direct?: boolean;
}

/** Words that each run of the program has. */
function contact({ ground, container }: World, direct: boolean): readonly string[] {
  const endpoint = direct ? ground.swift.endpoint : ground.proxy.endpoint;
  return ["--container-name", container, "--endpoint", endpoint];
}

export function startSync(
  world: World,
  words: readonly string[],
  options: RunOptions & { readonly machine?: Machine } = {},
): Running {
  const machine = options.machine ?? world.machine;
  return start(world, machine, ["sync", machine.vol, "--retry-for", "20s", ...words], options);
}

export function startRestore(
  world: World,
  what: string,
  words: readonly string[] = [],
  options: RunOptions = {},
): Running {
  const { target, ground } = world;
  const args = ["restore", what, "--target", target.mountPoint, "--identity", ground.age.identity, ...words];
  return start(world, target, args, options);
}

export function startVerify(world: World, words: readonly string[] = [], options: RunOptions = {}): Running {
  return start(world, world.machine, ["verify", "--identity", world.ground.age.identity, ...words], options);
}

function start(world: World, machine: Machine, args: readonly string[], options: RunOptions): Running {
  const { swift, program } = world.ground;
  const all = [...args, ...contact(world, options.direct === true), "--no-progress"];
  const running = machine.start(program.main, all, { ...options, env: { ...swift.environment, ...options.env } });
  const started = performance.now();
  void running.ended.then((ran) => world.story.push(describeRun(machine, all, ran, performance.now() - started)));
  return running;
}

function describeRun(machine: Machine, args: readonly string[], ran: Ran, ms: number): string {
  const lines = [
    `$ [${machine.name}] ${args.join(" ")}  → ${ran.code} after ${(ms / 1000).toFixed(1)} s`,
    ran.stdout.trim(),
    ran.stderr.trim(),
  ];
  return lines.filter((line) => line !== "").join("\n");
}

// --- what is there

/** As in a send stream and in metadata: the one name of a snapshot's content. */
export function identityOf({ uuid, receivedUuid, ctransid }: SeenSubvolume): string {
  return `${receivedUuid ?? uuid}/${ctransid}`;
}

/** Read-only snapshots of the machine's subvolume, in the order of their creation. */
export async function snapshotsOf(world: World, machine: Machine): Promise<readonly SeenSubvolume[]> {
  const seen = await world.ground.eyes.subvolumes(machine.mountPoint);
  const vol = seen.find(({ path }) => path === "vol");
  return seen
    .filter(({ readOnly, parentUuid }) => readOnly && parentUuid !== null && parentUuid === vol?.uuid)
    .toSorted((a, b) => a.otransid - b.otransid || a.id - b.id);
}

/** The key of a snapshot's archive. */
export function keyOf({ parentUuid, path }: SeenSubvolume): string {
  return [parentUuid, ...path.split("/")].join("\\x2f");
}

/** Remembers what each snapshot is, before anything can happen to it. */
export async function remember(world: World, machine: Machine): Promise<void> {
  for (const snapshot of await snapshotsOf(world, machine)) {
    const identity = identityOf(snapshot);
    if (world.truth.has(identity)) continue;
    world.truth.set(identity, await world.ground.eyes.digest(join(machine.mountPoint, snapshot.path)));
  }
}

/** Applies the updates that a container missed while its server was away. A daemon of Swift does that later. */
export async function catchUp({ swift }: Pick<Ground, "swift">): Promise<void> {
  await run(SYSTEM_PYTHON, "-c", UPDATER, swift.dir);
}

const UPDATER = `\
import glob, sys
directory = sys.argv[1]
if glob.glob(directory + "/srv/d1/async_pending*/*/*"):
    from swift.common.utils import set_swift_dir
    set_swift_dir(directory + "/etc")
    from swift.obj.updater import ObjectUpdater
    conf = {"devices": directory + "/srv", "mount_check": "false", "swift_dir": directory + "/etc", "concurrency": "1",
            "recon_cache_path": directory + "/cache", "slowdown": "0", "log_level": "ERROR"}
    ObjectUpdater(conf).run_once()
`;
