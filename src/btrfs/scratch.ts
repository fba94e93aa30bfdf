import { lstat, mkdir, mkdtemp, open, rm, statfs } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { BackupError } from "../errors.ts";
import type { Scratch } from "../operations/edges.ts";
import type { Snapshot } from "../plan/model.ts";
import { runToEnd, type Command, type Ending } from "../stream/process.ts";
import { openMounts, type Mounts } from "./mounts.ts";
import { openTarget } from "./target.ts";

export interface ScratchOptions {
  /** Where its image is kept; null: where temporary files are. */
  readonly directory: string | null;
  /** What will be received, at least. */
  readonly bytes: number;
  /** The subvolume whose snapshots will be compared. */
  readonly path: string;
}

/** A file that is nothing but a hole takes no room: only what is received does. */
const IMAGE_BYTES = 2 ** 40;

/** The inode number of the empty directory that stands in a snapshot where another subvolume lay. */
const NESTED_SUBVOLUME_INODE = 2n;

/**
 * An empty btrfs filesystem on a file, mounted in a directory of its own. The file has no name any more once it is
 * mounted, so that what a killed run leaves is gone with the mount.
 * @throws CONFIG when there is no room, or a program is missing; RECEIVE_FAILED when it cannot be mounted
 */
export async function openScratch(options: ScratchOptions, signal: AbortSignal): Promise<Scratch> {
  const parent = options.directory ?? tmpdir();
  await refuseWithoutRoom(parent, options.bytes);
  const directory = await mkdtemp(join(parent, "btrfs-snapshots-to-swift-"));
  const mounts = openMounts(options.path);
  try {
    await mountImage(directory, Math.max(IMAGE_BYTES, 4 * options.bytes), signal);
  } catch (error) {
    await rm(directory, { recursive: true });
    throw error;
  }
  const root = join(directory, "mount");
  const close = async (): Promise<void> => {
    await mounts.close();
    // Not with the run's signal: it is undone also when the run was stopped.
    await runToEnd(command("umount", root), new AbortController().signal);
    await rm(directory, { recursive: true });
  };
  const target = await openTarget(root, signal).catch(async (error: unknown) => {
    await close();
    throw error;
  });
  const compare: Scratch["compare"] = (local, restored, stop) =>
    compareTrees({ local, restored: join(root, restored.path), mounts }, stop);
  return { target, compare, close };
}

async function mountImage(directory: string, bytes: number, signal: AbortSignal): Promise<void> {
  const image = join(directory, "image");
  const root = join(directory, "mount");
  const file = await open(image, "wx", 0o600);
  await file.truncate(bytes);
  await file.close();
  await runToEnd(command("mkfs.btrfs", "--quiet", image), signal);
  await mkdir(root);
  await runToEnd(command("mount", "-t", "btrfs", "-o", "loop", image, root), signal);
  await rm(image);
}

interface Trees {
  readonly local: Snapshot;
  readonly restored: string;
  readonly mounts: Mounts;
}

/** rsync tells what it would have to do to make them equal: content, owners, modes, times, links, ACLs, attributes. */
async function compareTrees({ local, restored, mounts }: Trees, signal: AbortSignal): Promise<string[]> {
  const { paths, enter } = await mounts.reach([local], signal);
  const [here = ""] = paths;
  const options = ["-aHAXn8", "--numeric-ids", "--checksum", "--modify-window=-1", "--delete", "--out-format=%i %n"];
  const [program = "", ...args] = enter.concat("rsync", options, `${here}/`, `${restored}/`);
  const lines = (await runToEnd(command(program, ...args), signal)).split("\n").filter((line) => line !== "");
  const root = enter.length === 0 ? here : null;
  const real = await Promise.all(lines.map(async (line) => ((await isExpected(line, root)) ? [] : [line])));
  return real.flat();
}

/**
 * What a send stream does not carry: the time of the uppermost directory, which receiving changes, and the empty
 * directories where other subvolumes lay.
 */
async function isExpected(line: string, root: string | null): Promise<boolean> {
  const [what = "", ...rest] = line.split(" ");
  const name = rest.join(" ").replace(/\\#([0-7]{3})/g, (_, octal: string) => String.fromCharCode(Number.parseInt(octal, 8)));
  if (name === "./") return /^\.d\.\.t\.*$/.test(what);
  if (!what.startsWith("cd+") || root === null) return false;
  const found = await lstat(join(root, name), { bigint: true }).catch(() => null);
  return found?.ino === NESTED_SUBVOLUME_INODE;
}

async function refuseWithoutRoom(directory: string, bytes: number): Promise<void> {
  const free = await statfs(directory).catch((cause: unknown) => {
    throw new BackupError("CONFIG", `there is no directory ${directory}`, { cause });
  });
  if (free.bavail * free.bsize >= bytes) return;
  throw new BackupError("CONFIG", `${directory} has no room for ${bytes} bytes`, {
    hint: "name a directory that has with --work-dir",
  });
}

function command(program: string, ...args: readonly string[]): Command {
  const failure = ({ how, stderr }: Ending): BackupError =>
    new BackupError("RECEIVE_FAILED", `${program} for the drill ${how}: ${stderr.split("\n").at(-1) ?? ""}`, {
      context: { args, stderr },
    });
  return { program, args, failure };
}
