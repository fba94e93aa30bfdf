// A Debian root that runs under its own systemd, in a container of systemd-nspawn: PID 1, journal, timers and sandboxes as
// on a machine. All of it is gone when it is closed, and when this process ends, however it ends.

import { spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, open, symlink } from "node:fs/promises";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { attach, run } from "../support/loopback.ts";
import { findProgram, noBtrfs } from "../support/requirements.ts";

export interface Booted {
  /** A block device that the root has to itself, with nothing on it. */
  readonly device: string;
  /** Runs a script of sh in the root; its standard output. Rejects with all that it wrote when it fails. */
  shell(script: string): Promise<string>;
  close(): Promise<void>;
}

export interface BootOptions {
  readonly root: string;
  readonly diskBytes: number;
  /** All of it is killed after so many milliseconds. */
  readonly limitMs: number;
}

/** It takes two seconds. */
const BOOT_LIMIT_MS = 120_000;

const SCRIPT_LIMIT = "120";

/** Why no root can be booted here, in a few words; false when it can be tried. */
export function noBoot(): string | false {
  const reason = noBtrfs();
  if (reason !== false) return reason;
  return findProgram("systemd-nspawn") === null ? "needs systemd-nspawn (apt-get install systemd-container)" : false;
}

/** A root whose systemd has started all that it starts. @throws when it has not, with its output */
export async function boot({ root, diskBytes, limitMs }: BootOptions): Promise<Booted> {
  // The modules are the machine's; the one of systemd 257 fails where it can load none.
  await symlink("/dev/null", join(root, "etc/systemd/system/systemd-modules-load.service"));
  const directory = await mkdtemp(join(tmpdir(), "booted-"));
  const device = await attachDisk(join(directory, "disk"), diskBytes);
  const keeper = openKeeper(directory, device);
  const container = startContainer({ root, device, group: basename(directory) }, AbortSignal.timeout(limitMs));
  const close = async (): Promise<void> => {
    await container.end();
    await keeper.close();
  };
  try {
    const leader = await container.leader();
    return { device, shell: (script) => runInside(leader, script), close };
  } catch (error) {
    await close();
    throw error;
  }
}

async function attachDisk(image: string, bytes: number): Promise<string> {
  const file = await open(image, "w");
  await file.truncate(bytes);
  await file.close();
  return await attach(image);
}

/**
 * A process that outlives ours: it waits for the end of its stdin, which also our death brings, and undoes what the kernel
 * does not: the loop device, the control groups, the directory.
 */
function openKeeper(directory: string, device: string): { close(): Promise<void> } {
  const script = `
    cat
    # Whoever still has it mounted is just being killed: then it goes with the mount.
    losetup --detach "$2"
    rm -rf -- "$1"
    for second in 1 2 3 4 5 6 7 8 9 10; do
      groups=$(find /sys/fs/cgroup -depth -type d -path "*/\${1##*/}*")
      [ -n "$groups" ] || break
      rmdir $groups || sleep 1
    done 2>/dev/null`;
  const child = spawn("sh", ["-c", script, "sh", directory, device], {
    detached: true,
    stdio: ["pipe", "ignore", "inherit"],
  });
  const gone = once(child, "exit");
  return {
    close: async () => {
      child.stdin.end();
      await gone;
    },
  };
}

interface Container {
  /** The process that is PID 1 within, once it has started everything. */
  leader(): Promise<number>;
  end(): Promise<void>;
}

/**
 * The processes of a container outlive a systemd-nspawn that is killed; those of a namespace do not outlive its first one,
 * and --kill-child ends that. The namespace's own /run/systemd keeps what nspawn notes there from the machine's.
 */
function startContainer(
  { root, device, group }: { root: string; device: string; group: string },
  limit: AbortSignal,
): Container {
  const script = `
    for tree in /sys/fs/cgroup /sys/fs/cgroup/unified /sys/fs/cgroup/systemd; do
      [ ! -e $tree/cgroup.procs ] || { mkdir "$tree/$3" && echo $$ >"$tree/$3/cgroup.procs"; }
    done
    exec setpriv --pdeathsig KILL unshare --mount --pid --fork --kill-child --mount-proc sh -ec '
      mkdir -p /run/systemd && mount -t tmpfs tmpfs /run/systemd
      exec systemd-nspawn --boot --quiet --directory="$1" --bind="$2" --register=no --keep-unit --capability=all --console=pipe
    ' sh "$1" "$2"`;
  const child = spawn("sh", ["-ec", script, "sh", root, device, group], {
    detached: true,
    stdio: ["ignore", "pipe", "pipe"],
    env: { ...process.env, SYSTEMD_NSPAWN_UNIFIED_HIERARCHY: "1" },
    signal: limit,
    killSignal: "SIGKILL",
  });
  child.on("error", () => undefined);
  let output = "";
  for (const stream of [child.stdout, child.stderr])
    stream.setEncoding("utf8").on("data", (text: string) => (output += text));
  const gone = once(child, "close");
  return {
    leader: () => untilRunning(child, () => output),
    end: async () => {
      child.kill("SIGKILL");
      await gone;
    },
  };
}

async function untilRunning(child: ChildProcess, output: () => string): Promise<number> {
  const end = performance.now() + BOOT_LIMIT_MS;
  let state = "";
  while (performance.now() < end && child.exitCode === null && child.signalCode === null) {
    const leader = await findLeader(child.pid ?? 0);
    state =
      leader === null
        ? ""
        : await runInside(leader, "systemctl is-system-running || systemctl list-units --failed").catch(String);
    if (leader !== null && state === "running\n") return leader;
    await sleep(200);
  }
  throw new Error(`systemd did not start everything: ${state}\n${output()}`);
}

/** unshare has one child, systemd-nspawn, and that has the container's first process for a child. */
async function findLeader(pid: number): Promise<number | null> {
  const childOf = (parent: string): Promise<string> => run("pgrep", "--parent", parent).catch(() => "");
  const [nspawn = ""] = (await childOf(String(pid))).split("\n");
  const [leader = ""] = nspawn === "" ? [] : (await childOf(nspawn)).split("\n");
  return leader === "" ? null : Number(leader);
}

async function runInside(leader: number, script: string): Promise<string> {
  const enter = ["--target", String(leader), "--mount", "--pid", "--uts", "--ipc", "--cgroup", "--root", "--wd"];
  const environment = [
    "env",
    "-i",
    "PATH=/opt/installed/bin:/opt/node/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME=/root",
    "LC_ALL=C.UTF-8",
  ];
  return await run("timeout", "--kill-after=5", SCRIPT_LIMIT, "nsenter", ...enter, ...environment, "sh", "-ec", script);
}
