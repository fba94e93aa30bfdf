// A machine: a btrfs filesystem with one subvolume and its snapshots, and a /run, /var/lib, /var/cache, home and temporary
// directory of its own. Several stand on one real machine and do not see each other.

import { spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { cp, mkdir, mkdtemp, open, readdir, readFile, readlink, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import type { Ran } from "../support/cli.ts";
import { btrfs, openLoopback, run, type Loopback } from "../support/loopback.ts";

const DISK_BYTES = 768 * 2 ** 20;

/** A run of the program that has not ended yet. */
export interface Running {
  readonly pid: number;
  /** Never rejects. */
  readonly ended: Promise<Ran>;
  isOver(): boolean;
  kill(signal: NodeJS.Signals): void;
  /** Processes that it started, and those that they started, with their names. */
  children(): Promise<readonly { readonly pid: number; readonly name: string }[]>;
}

export interface StartOptions {
  /** So far is the program's clock off. */
  readonly clockMs?: number;
  readonly env?: Readonly<Record<string, string>>;
}

export interface Machine {
  readonly name: string;
  /** The top level of its filesystem. */
  readonly mountPoint: string;
  readonly image: string;
  /** The subvolume that snapshots are taken of. */
  readonly vol: string;
  /** Where snapshots of it are, relative to the top. */
  readonly snaps: string;
  /** A directory for --work-dir. */
  readonly work: string;
  /** Holds run, lib, cache, home, tmp and work. */
  readonly root: string;
  start(main: string, args: readonly string[], options?: StartOptions): Running;
  /** Files that the program left where nothing may stay. */
  leftFiles(): Promise<readonly string[]>;
  close(): Promise<void>;
}

/** A machine with an empty filesystem, or a clone of another one: the same UUIDs, on a disk of its own. */
export async function openMachine(
  name: string,
  cloneOf: Machine | null = null,
  diskBytes = DISK_BYTES,
): Promise<Machine> {
  const root = await mkdtemp(join(tmpdir(), `campaign-${name}-`));
  for (const directory of ["run", "lib", "cache", "home", "tmp", "work"]) await mkdir(join(root, directory));
  const disk = cloneOf === null ? await openLoopback({ sizeBytes: diskBytes }) : await openClone(cloneOf);
  const [vol, snaps] = [join(disk.mountPoint, "vol"), "snaps"];
  if (cloneOf === null) {
    await btrfs("subvolume", "create", vol);
    await mkdir(join(disk.mountPoint, snaps));
  }
  return {
    name,
    root,
    vol,
    snaps,
    mountPoint: disk.mountPoint,
    image: disk.image,
    work: join(root, "work"),
    start: (main, args, options = {}) => startProgram(root, [main, ...args], options),
    leftFiles: async () =>
      (await Promise.all(["tmp", "work"].map((directory) => filesIn(join(root, directory))))).flat(),
    async close() {
      await disk.close();
      await rm(root, { recursive: true, force: true });
    },
  };
}

/** Linux 6.7 and newer mount two filesystems with the same UUID at once, where each is on one device. */
async function openClone(original: Machine): Promise<Pick<Loopback, "mountPoint" | "image" | "close">> {
  const directory = await mkdtemp(join(tmpdir(), "campaign-clone-"));
  const [image, mountPoint] = [join(directory, "image"), join(directory, "mount")];
  await mkdir(mountPoint);
  await run("fsfreeze", "--freeze", original.mountPoint);
  try {
    await run("cp", "--sparse=always", original.image, image);
  } finally {
    await run("fsfreeze", "--unfreeze", original.mountPoint);
  }
  const device = (await run("losetup", "--find", "--show", image)).trim();
  await run("mount", "-t", "btrfs", device, mountPoint);
  return {
    image,
    mountPoint,
    async close() {
      await unmount(mountPoint);
      await run("losetup", "--detach", device);
      await rm(directory, { recursive: true });
    },
  };
}

async function unmount(mountPoint: string): Promise<void> {
  for (let attempt = 1; ; attempt += 1) {
    try {
      await run("umount", "--recursive", mountPoint);
      return;
    } catch (error) {
      if (attempt === 100) throw error;
      await sleep(100);
    }
  }
}

const CLOCK = fileURLToPath(new URL("clock.js", import.meta.url));

/** Mounts the machine's own directories over those of the host, in a namespace that ends with the program. */
const ENTER =
  'for each in run:/run lib:/var/lib cache:/var/cache; do mount --no-mtab --bind "$0/${each%%:*}" "${each#*:}" || exit 99; done; exec "$@"';

function startProgram(root: string, args: readonly string[], { clockMs = 0, env = {} }: StartOptions): Running {
  const clock: readonly string[] = clockMs === 0 ? [] : ["--import", CLOCK];
  const command = [
    "unshare",
    "--uts",
    "--mount",
    "--propagation",
    "slave",
    "sh",
    "-c",
    ENTER,
    root,
    process.execPath,
    ...clock,
    ...args,
  ];
  const child = spawn("setpriv", ["--pdeathsig", "KILL", "--", ...command], {
    cwd: join(root, "home"),
    // A group of its own: Ctrl-C is for the campaign, which then ends in order.
    detached: true,
    stdio: ["ignore", "pipe", "pipe"],
    env: {
      PATH: "/usr/sbin:/usr/bin:/sbin:/bin",
      HOME: join(root, "home"),
      TMPDIR: join(root, "tmp"),
      ...(clockMs === 0 ? {} : { CAMPAIGN_CLOCK_MS: `${clockMs}` }),
      ...env,
    },
  });
  const pid = child.pid ?? 0;
  let over = false;
  const ended = outcomeOf(child).finally(() => (over = true));
  return {
    pid,
    ended,
    isOver: () => over || child.exitCode !== null || child.signalCode !== null,
    kill: (signal) => void child.kill(signal),
    children: () => childrenOf(pid),
  };
}

async function outcomeOf(child: ChildProcess): Promise<Ran> {
  let [stdout, stderr] = ["", ""];
  child.stdout?.setEncoding("utf8").on("data", (text: string) => (stdout += text));
  child.stderr?.setEncoding("utf8").on("data", (text: string) => (stderr += text));
  const exited = once(child, "exit") as Promise<[number | null, string | null]>;
  const closed = once(child, "close");
  const family = await ownNamespace(child);
  const [status, signal] = await exited;
  // The programs that it started may hold its output open for a moment longer.
  await Promise.race([closed, sleep(3000)]);
  const left = family === null ? "" : await stillThere(family.name);
  await family?.release();
  return { code: status ?? signal ?? "", stdout, stderr: left === "" ? stderr : `${stderr}\n${LEFT_BEHIND}${left}` };
}

/** In the stderr of a run whose processes outlived it. */
export const LEFT_BEHIND = "[campaign] outlived by ";

interface Namespace {
  /** As the kernel names it: `uts:[4026532277]`. */
  readonly name: string;
  release(): Promise<void>;
}

/**
 * Each run is in a namespace of its own, of a kind that nobody changes; everything that it starts is in it too, even
 * orphans. It is held open: the kernel gives the number of a namespace that ended to the next one, which may be that of
 * another run.
 */
async function ownNamespace(child: ChildProcess): Promise<Namespace | null> {
  const [ours, file] = [await readlink("/proc/self/ns/uts"), `/proc/${child.pid ?? 0}/ns/uts`];
  while (child.exitCode === null && child.signalCode === null) {
    const held = await open(file).catch(() => null);
    if (held === null) return null;
    const name = await readlink(`/proc/self/fd/${held.fd}`);
    if (name !== ours) return { name, release: () => held.close() };
    await held.close();
    await sleep(3);
  }
  return null;
}

/** Waits for what the program started to end; what does not is named. */
async function stillThere(family: string): Promise<string> {
  // Those that are about to end do so in a moment, but on a busy machine in many.
  for (let attempt = 0; attempt < 600; attempt += 1) {
    if ((await membersOf(family)).length === 0) return "";
    await sleep(50);
  }
  return (await membersOf(family)).join(", ");
}

async function membersOf(family: string): Promise<readonly string[]> {
  const pids = (await readdir("/proc")).filter((name) => /^\d+$/.test(name));
  const found = await Promise.all(
    pids.map(async (pid) =>
      (await readlink(`/proc/${pid}/ns/uts`).catch(() => "")) === family
        ? [`${await nameOf(Number(pid))} (${pid})`]
        : [],
    ),
  );
  return found.flat();
}

async function nameOf(pid: number): Promise<string> {
  return (await readFile(`/proc/${pid}/comm`, "utf8").catch(() => "")).trim();
}

/** Processes that a process started, and those that they started. */
async function childrenOf(pid: number): Promise<readonly { pid: number; name: string }[]> {
  const threads = await readdir(`/proc/${pid}/task`).catch(() => []);
  const lists = await Promise.all(
    threads.map((thread) => readFile(`/proc/${pid}/task/${thread}/children`, "utf8").catch(() => "")),
  );
  const children = lists
    .join(" ")
    .split(" ")
    .filter((each) => each !== "")
    .map(Number);
  const named = await Promise.all(
    children.map(async (child) => [{ pid: child, name: await nameOf(child) }, ...(await childrenOf(child))]),
  );
  return named.flat();
}

async function filesIn(directory: string): Promise<readonly string[]> {
  const names = await readdir(directory, { recursive: true }).catch(() => []);
  return names.map((name) => join(directory, name));
}

/** Empties a directory, but leaves it. */
export async function empty(directory: string): Promise<void> {
  for (const name of await readdir(directory)) await rm(join(directory, name), { recursive: true, force: true });
}

/** Copies a file with its extended attributes. */
export async function copyWithAttributes(from: string, to: string): Promise<void> {
  await run("cp", "--archive", from, to).catch(async () => cp(from, to));
}
