import { lstat, mkdir, readdir, rename, rmdir, statfs } from "node:fs/promises";
import { basename, dirname, join, resolve } from "node:path";
import { pipeline, type Readable } from "node:stream";
import { abortedError, BackupError } from "../errors.ts";
import type { RestoreTarget } from "../operations/edges.ts";
import { OWN_PREFIX, parseUuid, sameIdentity, type Identity, type Present, type Snapshot } from "../plan/model.ts";
import { runToEnd, writeTo } from "../stream/process.ts";
import { deleteSubvolume, isSubvolume, syncFilesystem } from "./binding.ts";
import { renamedStage } from "./head.ts";
import { openMounts } from "./mounts.ts";
import { receiveCommand, snapshotCommand } from "./send-receive.ts";
import { listPresent, readSnapshot, translated } from "./subvolumes.ts";

/**
 * The directory that snapshots are restored under.
 * @throws NOT_BTRFS, NO_PRIVILEGE, USAGE when there is no such directory
 */
export async function openTarget(directory: string, signal: AbortSignal): Promise<RestoreTarget> {
  const target = resolve(directory);
  if (signal.aborted) throw abortedError(signal);
  await translated(target, () => syncFilesystem(target));
  if (!(await lstat(`${target}/.`).catch(() => null))) throw new BackupError("USAGE", `${target} is not a directory`);
  const mounts = openMounts(target);
  return {
    list: async () => {
      await translated(target, () => syncFilesystem(target));
      return (await listPresent(target)).map(toPresent);
    },
    room: async () => {
      const { bavail, bsize } = await statfs(target);
      return bavail * bsize;
    },
    refuseTaken: async (path) => refuseExisting(join(target, ...splitPath(path))),
    receive: (stream, path, expected, stop) => receive(stream, { target, path, expected }, stop),
    removeDirectory: (name) => removeDirectory(join(target, ...splitPath(name))),
    makeWritable: async (snapshot, path, stop) => {
      const names = splitPath(path);
      const place = join(await makeDirectories(target, names.slice(0, -1)), names.at(-1) ?? "");
      await refuseExisting(place);
      const { paths, enter } = await mounts.reach([snapshot], stop);
      await runToEnd(snapshotCommand({ paths, enter }, place), stop);
      await translated(place, () => syncFilesystem(place));
    },
    close: () => mounts.close(),
  };
}

function toPresent({ snapshot, readOnly }: { readonly snapshot: Snapshot; readonly readOnly: boolean }): Present {
  return { ...snapshot, whole: readOnly && !isStaged(basename(snapshot.path)) };
}

/** With the snapshots in it, which must be all there is. Nothing happens when it does not exist. */
async function removeDirectory(directory: string): Promise<void> {
  const names = await readdir(directory).catch(() => null);
  if (names === null) return;
  for (const name of names) {
    const place = join(directory, name);
    await translated(place, () => deleteSubvolume(place));
  }
  await rmdir(directory);
  await translated(dirname(directory), () => syncFilesystem(dirname(directory)));
}

/**
 * A subvolume is received under a name that is ours alone. When it is sealed, checked and on disk it gets its own name,
 * in the same directory, because a read-only subvolume cannot be moved to another. So the name tells what is whole,
 * even after a loss of power: `btrfs receive` seals before the data is written out. And nothing that has another name
 * is ever deleted, for a half of ours looks just like somebody's writable subvolume.
 */
function isStaged(name: string): boolean {
  return name.startsWith(OWN_PREFIX) && parseUuid(name.slice(OWN_PREFIX.length)) !== null;
}

interface Wanted {
  readonly target: string;
  /** Below the target. */
  readonly path: string;
  readonly expected: Identity;
}

async function receive(stream: Readable, { target, path, expected }: Wanted, signal: AbortSignal): Promise<Snapshot> {
  // Whatever becomes of it before it is read, it is told when it is read.
  stream.on("error", () => undefined);
  try {
    const names = splitPath(path);
    const directory = await makeDirectories(target, names.slice(0, -1));
    const place = join(directory, names.at(-1) ?? "");
    await refuseExisting(place);
    const staged = join(directory, OWN_PREFIX + expected.uuid);
    await removeStaged(staged);
    try {
      await receiveAs(staged, stream, expected, signal);
      return await putInPlace(staged, place);
    } catch (error) {
      // The first failure is the one to tell; what cannot be removed now, the next attempt will remove.
      await removeStaged(staged).catch(() => undefined);
      throw error;
    }
  } finally {
    stream.destroy();
  }
}

async function receiveAs(staged: string, stream: Readable, expected: Identity, signal: AbortSignal): Promise<void> {
  const renamed = pipeline(stream, renamedStage(expected, basename(staged)), () => undefined);
  await writeTo(receiveCommand(dirname(staged)), renamed, signal);
  const snapshot = (await isSubvolume(staged)) ? await readSnapshot(staged) : null;
  if (snapshot?.received && sameIdentity(snapshot.received, expected)) return;
  throw new BackupError("RECEIVE_FAILED", `btrfs receive made something else of the stream of ${expected.uuid}`);
}

/** Data first, then the name, then the name on disk too. */
async function putInPlace(staged: string, place: string): Promise<Snapshot> {
  await translated(staged, () => syncFilesystem(staged));
  // rename(2) would replace an empty directory.
  await refuseExisting(place);
  await rename(staged, place);
  await translated(place, () => syncFilesystem(place));
  const snapshot = await readSnapshot(place);
  if (snapshot === null) throw new BackupError("RECEIVE_FAILED", `${place} was made writable meanwhile`);
  return snapshot;
}

/** @throws USAGE when the path could lead out of the target or would name nothing */
function splitPath(path: string): string[] {
  const names = path.split("/");
  const usable = names.every((name) => name !== "" && name !== "." && name !== ".." && !name.includes("\0"));
  if (usable) return names;
  throw new BackupError("USAGE", `${JSON.stringify(path)} is no path below a directory`);
}

/** Like mkdir -p, but following no symbolic link, which could lead out of the target. */
async function makeDirectories(target: string, names: readonly string[]): Promise<string> {
  let directory = target;
  for (const name of names) {
    directory = join(directory, name);
    await mkdir(directory).catch((error: unknown) => refuseUnlessExists(directory, error));
    if ((await lstat(directory)).isDirectory()) continue;
    throw new BackupError("RECEIVE_FAILED", `${directory} is in the way: it is not a directory`);
  }
  return directory;
}

function refuseUnlessExists(directory: string, cause: unknown): void {
  const code = cause instanceof Error && "code" in cause ? cause.code : null;
  if (code === "EEXIST") return;
  const refused = code === "EPERM" || code === "EACCES" ? "NO_PRIVILEGE" : "RECEIVE_FAILED";
  const reason = code === "EROFS" ? "it is mounted or set read-only" : String(cause);
  throw new BackupError(refused, `cannot make the directory ${directory}: ${reason}`, {
    hint: "restore to a directory that can be written to",
    cause,
  });
}

async function refuseExisting(place: string): Promise<void> {
  const exists = await lstat(place).then(
    () => true,
    () => false,
  );
  if (!exists) return;
  throw new BackupError("RECEIVE_FAILED", `${place} exists already and is not the snapshot to restore`, {
    hint: "move it away, or restore under another directory",
  });
}

/** Whatever state an earlier attempt left it in: under that name nobody else makes anything. */
async function removeStaged(staged: string): Promise<void> {
  if (await isSubvolume(staged).catch(() => false)) await translated(staged, () => deleteSubvolume(staged));
}
