// The ground that tests stand on: real filesystems and stores, made in seconds, several side by side.
// Nothing here knows src/. Everything that is opened is closed by who opened it, and only that: no cleaning up by name.

import { execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdir, mkdtemp, open } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { promisify } from "node:util";

const execute = promisify(execFile);

/** A btrfs filesystem of its own, on a sparse image file. */
export interface Loopback {
  /** The loop device, for `mount` and `btrfs` commands that want one. */
  readonly device: string;
  /** Where the filesystem is mounted: its top level, or what `mountOptions` chose. */
  readonly mountPoint: string;
  /** The image file behind the device. */
  readonly image: string;
  /** A directory outside the filesystem that goes when it goes. */
  readonly directory: string;
  /** Mounts the same filesystem once more, with options as `mount -o` takes them; gives the new mount point. */
  mount(options: string, at?: string): Promise<string>;
  /** Unmounts whatever lies on these mount points, detaches the device, removes the image. Safe to call twice. */
  close(): Promise<void>;
}

export interface LoopbackOptions {
  /** 128 MiB is the least that mkfs.btrfs takes without `--mixed`; the image is sparse, so larger costs nothing. */
  readonly sizeBytes: number;
  /** As `mount -o` takes them. */
  readonly mountOptions?: string | undefined;
}

/** Runs a program to its end; its standard output. Rejects with its standard error when it fails. */
export async function run(program: string, ...args: readonly string[]): Promise<string> {
  const { stdout } = await execute(program, args, { maxBuffer: 256 * 1024 * 1024 });
  return stdout;
}

/** Runs `btrfs` with these arguments; its standard output. */
export async function btrfs(...args: readonly string[]): Promise<string> {
  return run("btrfs", ...args);
}

/** Makes and mounts a filesystem. Whoever opens it closes it. */
export async function openLoopback(options: LoopbackOptions): Promise<Loopback> {
  const directory = await mkdtemp(join(tmpdir(), "loopback-"));
  const image = join(directory, "image");
  const file = await open(image, "w");
  await file.truncate(options.sizeBytes);
  await file.close();
  await run("mkfs.btrfs", "--quiet", image);
  const device = await attach(image);
  const keeper = openKeeper(directory, device);
  const mountPoints: string[] = [];
  const mount = async (mountOptions: string, at?: string): Promise<string> => {
    const mountPoint = at ?? join(directory, `mount-${mountPoints.length + 1}`);
    await mkdir(mountPoint, { recursive: true });
    await run("mount", "-t", "btrfs", "-o", mountOptions, device, mountPoint);
    mountPoints.push(mountPoint);
    return mountPoint;
  };
  const release = async (): Promise<void> => {
    while (mountPoints.length > 0) await unmount(mountPoints.pop() ?? "");
    await keeper.close();
  };
  let closing: Promise<void> | null = null;
  const close = (): Promise<void> => (closing ??= release());
  try {
    const mountPoint = await mount(options.mountOptions ?? "defaults");
    return { device, mountPoint, image, directory, mount, close };
  } catch (error) {
    await close();
    throw error;
  }
}

/** A filesystem for as long as `use` runs. */
export async function withLoopback<T>(options: LoopbackOptions, use: (loopback: Loopback) => Promise<T>): Promise<T> {
  const loopback = await openLoopback(options);
  try {
    return await use(loopback);
  } finally {
    await loopback.close();
  }
}

/** A loop device on the image. Where /dev is not kept by the kernel (containers), its node is made when missing. */
export async function attach(image: string): Promise<string> {
  for (let attempt = 1; ; attempt++) {
    try {
      return (await run("losetup", "--find", "--show", image)).trim();
    } catch (error) {
      if (attempt === 5) throw error;
      await makeNode((await run("losetup", "--find")).trim());
    }
  }
}

/**
 * A process that outlives ours: it waits for the end of its stdin, which also our death brings, and takes down what is
 * left then: mounts of the device, the device, the directory.
 */
function openKeeper(directory: string, device: string): { close(): Promise<void> } {
  const script = `
    cat
    # The number may be another image's by now, if somebody has detached this one.
    [ "$(losetup --noheadings --output BACK-FILE "$2")" = "$1/image" ] || exec rm -rf -- "$1"
    findmnt --raw --noheadings --output TARGET --source "$2" | tac | while read -r target; do umount --lazy "$target"; done
    losetup --detach "$2"
    rm -rf -- "$1"`;
  const child = spawn("sh", ["-c", script, "sh", directory, device], {
    detached: true,
    stdio: ["pipe", "ignore", "ignore"],
  });
  const gone = once(child, "exit");
  // It does not hold up the end of a process that has forgotten it.
  child.unref();
  return {
    close: async () => {
      child.ref();
      child.stdin.end();
      await gone;
    },
  };
}

async function makeNode(device: string): Promise<void> {
  const minor = /^\/dev\/loop(\d+)$/.exec(device)?.[1];
  if (minor === undefined) return;
  // Another test may have made it in the meantime; the next attempt to attach will show.
  await run("mknod", device, "b", "7", minor).catch(() => undefined);
}

/** Also what was mounted further below. A process that is just ending may hold it; the test may have undone it. */
async function unmount(mountPoint: string): Promise<void> {
  for (let attempt = 1; ; attempt++) {
    try {
      await run("umount", "--recursive", mountPoint);
      return;
    } catch (error) {
      if (String(error).includes("not mounted")) return;
      if (attempt === 20) throw error;
      await sleep(100);
    }
  }
}
