// The scratch filesystem of a drill, and the comparison of a restored tree with the original.

import { lstat, statfs } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pid } from "node:process";
import { BackupError, describeDirectoryError } from "../errors.ts";
import type { Scratch } from "../operations/ports.ts";
import type { Snapshot, TreeDifference } from "../plan/model.ts";
import { openWorkFile } from "../stream/unnamed-file.ts";
import { describeExit, type Exit } from "../stream/exit.ts";
import { runToEnd, type Command } from "../stream/process.ts";
import { openMounts, type Mounts } from "./mounts.ts";
import { openNamespace, type Namespace } from "./private-mount.ts";
import { openTarget } from "./target.ts";

export interface ScratchOptions {
  /** Where its image is kept; null: where temporary files are. */
  readonly directory: string | null;
  /** The least number of bytes that will be received. */
  readonly bytes: number;
  /** The subvolume whose snapshots will be compared. */
  readonly path: string;
}

/** A sparse file takes no space; only received data does. */
const IMAGE_BYTES = 2 ** 40;

/** The inode number of the empty directory that stands in a snapshot where another subvolume lay. */
const NESTED_SUBVOLUME_INODE = 2n;

/**
 * An empty btrfs filesystem in a file without a name, mounted where only this process and its children see it. All of
 * it is gone when it is closed or this process ends, however it ends.
 * @throws CONFIG when there is no room, or a program is missing; RECEIVE_FAILED when it cannot be mounted
 */
export async function openScratch(options: ScratchOptions, signal: AbortSignal): Promise<Scratch> {
  const parent = options.directory ?? tmpdir();
  await assertRoom(parent, options.bytes);
  const namespace = await openNamespace({ failure: command("unshare").failure, endsPrograms: true }, signal);
  const mounts = openMounts(options.path);
  const closers = [() => mounts.close(), () => namespace.close()];
  const close = async (): Promise<void> => {
    for (const undo of closers.splice(0)) await undo();
  };
  try {
    await mountImage(namespace, { parent, bytes: Math.max(IMAGE_BYTES, 4 * options.bytes) }, signal);
    const target = await openTarget(namespace.directory, signal, { view: namespace.view });
    closers.unshift(() => target.close());
    const compare: Scratch["compare"] = (local, restored, stop) =>
      compareTrees({ local, restored, mounts, namespace }, stop);
    return { target, compare, close };
  } catch (error) {
    await close();
    throw error;
  }
}

interface Image {
  /** The directory that its file is in. */
  readonly parent: string;
  readonly bytes: number;
}

async function mountImage({ mount }: Namespace, { parent, bytes }: Image, signal: AbortSignal): Promise<void> {
  const file = await openWorkFile(parent);
  try {
    await file.truncate(bytes);
    const image = `/proc/${pid}/fd/${file.fd}`;
    await runToEnd(command("mkfs.btrfs", "--quiet", image), signal);
    // The loop device goes with the mount.
    await mount("btrfs", "loop", image);
  } finally {
    await file.close();
  }
}

interface Trees {
  readonly local: Snapshot;
  readonly restored: Snapshot;
  readonly mounts: Mounts;
  readonly namespace: Namespace;
}

/** Asks rsync for the changes that would make them equal: content, owners, modes, times, links, ACLs, attributes. */
async function compareTrees(
  { local, restored, mounts, namespace }: Trees,
  signal: AbortSignal,
): Promise<TreeDifference[]> {
  const { paths, root } = await mounts.reach([local], signal);
  // Valid also within the namespace, where another mount hides the outer path.
  const here = `${root === "" ? `/proc/${pid}/root` : root}${paths[0] ?? ""}`;
  const there = join(namespace.directory, restored.path);
  const options = ["-aHAXn8", "--numeric-ids", "--checksum", "--modify-window=-1", "--delete", "--out-format=%i %n"];
  const [program = "", ...args] = namespace.view.enter.concat("rsync", options, `${here}/`, `${there}/`);
  const lines = (await runToEnd(command(program, ...args), signal)).split("\n").filter((line) => line !== "");
  const found = await Promise.all(lines.map((line) => readDifference(line, here, namespace.view.root + there)));
  return found.flatMap((difference) => difference ?? []);
}

/**
 * Null for what a send stream does not carry: the time of the uppermost directory, which receiving changes, and the empty
 * directories where other subvolumes lay.
 */
async function readDifference(line: string, here: string, there: string): Promise<TreeDifference | null> {
  const [changes = "", ...rest] = line.split(" ");
  const name = rest
    .join(" ")
    .replace(/\\#([0-7]{3})/g, (_, octal: string) => String.fromCharCode(Number.parseInt(octal, 8)));
  if (name === "./" && /^\.d\.\.t\.*$/.test(changes)) return null;
  const local = await lstat(join(here, name), { bigint: true }).catch(() => null);
  if (changes.startsWith("cd+") && local?.ino === NESTED_SUBVOLUME_INODE) return null;
  const restored = await lstat(join(there, name), { bigint: true }).catch(() => null);
  const modes = local === null || restored === null ? null : ([Number(local.mode), Number(restored.mode)] as const);
  return { changes, name, modes };
}

async function assertRoom(directory: string, bytes: number): Promise<void> {
  const free = await statfs(directory).catch((cause: unknown) => {
    throw new BackupError("CONFIG", `cannot use the work directory ${directory}: ${describeDirectoryError(cause)}`, {
      cause,
    });
  });
  if (free.bavail * free.bsize >= bytes) return;
  throw new BackupError("CONFIG", `${directory} has no room for ${bytes} bytes`, {
    hint: "use --work-dir DIR with a directory that has room",
  });
}

function command(program: string, ...args: readonly string[]): Command {
  const failure = (exit: Exit): BackupError => {
    const lastLine = exit.stderr.split("\n").at(-1) ?? "";
    return new BackupError("RECEIVE_FAILED", `${program} for the drill ${describeExit(exit)}: ${lastLine}`, {
      context: { args, stderr: exit.stderr },
    });
  };
  return { program, args, failure };
}
