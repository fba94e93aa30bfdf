// The directory that snapshots are restored into: the real implementation of the target port.

import { lstat, stat, statfs } from "node:fs/promises";
import { join, resolve } from "node:path";
import { abortedError, BackupError } from "../errors.ts";
import type { RestoreTarget } from "../operations/ports.ts";
import { OWN_PREFIX, type Identity, type TargetSubvolume, type Snapshot, type Uuid } from "../plan/model.ts";
import { through, type Pieces } from "../stream/pieces.ts";
import { runToEnd, writeTo } from "../stream/process.ts";
import { openInode, setReadOnly, setReceived, syncFilesystem } from "../addon/subvolumes.ts";
import {
  enterDirectories,
  enterDirectory,
  makeDirectories,
  openDirectory,
  withDescriptor,
  type Directory,
} from "./directories.ts";
import { openFidelity, type Parent } from "./fidelity.ts";
import { readSurroundings } from "./surroundings.ts";
import { renameStream } from "./stream-header.ts";
import { locate } from "./mount-table.ts";
import { openMounts, type Mounts } from "./mounts.ts";
import { receiveCommand, snapshotCommand } from "./commands.ts";
import { assertDecompresses } from "./progs.ts";
import {
  clearStage,
  isStaged,
  openStage,
  putInPlace,
  assertAbsent,
  removeReceived,
  removeReceivedIn,
  STAGED_NAME,
} from "./stage.ts";
import { listPresent, readChange, translated, type Listed } from "./subvolumes.ts";
import { watchWrites, type WriteWatch } from "./write-watch.ts";

/** Where a target is, when it is not where this process sees it. */
export interface Elsewhere {
  /** The prefix that turns its path into a path of ours. */
  readonly root: string;
  /** The words to put in front of a program that has to see it there. */
  readonly enter: readonly string[];
}

export interface TargetOptions {
  /** Absent: here. */
  readonly view?: Elsewhere;
  /** See {@link receiveCommand}. */
  readonly forceDecompress?: boolean;
}

const here: Elsewhere = { root: "", enter: [] };

/**
 * The directory that snapshots are restored under. It is held open, so that its filesystem is busy until it is closed.
 * @throws NOT_BTRFS, NO_PRIVILEGE, USAGE when there is no such directory, CONFIG when btrfs-progs is too old
 */
export async function openTarget(
  directory: string,
  signal: AbortSignal,
  { view: { root, enter } = here, forceDecompress = false }: TargetOptions = {},
): Promise<RestoreTarget> {
  const target = resolve(directory);
  if (signal.aborted) throw abortedError(signal);
  if (forceDecompress) await assertDecompresses(signal);
  await translated(target, () => syncFilesystem(root + target));
  if (!(await lstat(`${root}${target}/.`).catch(() => null)))
    throw new BackupError("USAGE", `${target} is not a directory`);
  const top = await openDirectory(root + target);
  const mounts = openMounts(top.at());
  const mounted = (await locate(top.at()).catch(() => null))?.mounted ?? "";
  return {
    list: async (relevant) => {
      await translated(target, () => syncFilesystem(top.at()));
      const listed = await listPresent(top.at());
      return await Promise.all(listed.map((each) => toPresent(each, relevant, { top, mounted })));
    },
    whereIs: async ({ path }) => (await translated(target, () => readSurroundings(top.at()))).seenAt(path),
    room: () => statfs(top.at()).then(({ bavail, bsize }) => bavail * bsize),
    assertFree: (path) => assertFree(top, path),
    receive: (stream, path, expected, stop) => {
      const received = withParent(top, path, (parent, name) =>
        receive(stream, { parent, name, expected, enter, forceDecompress }, stop),
      );
      return received.finally(() => stream.destroy());
    },
    adopt: (snapshot, stop) => adopt(snapshot, top, mounts, stop),
    removeReceived: (name, uuids) => withParent(top, name, (parent, last) => removeReceivedIn(parent, last, uuids)),
    makeWritable: (snapshot, path, stop) =>
      withParent(top, path, async (parent, name) => {
        await assertAbsent(parent, name);
        await runToEnd(snapshotCommand(await mounts.reach([snapshot], stop), parent.at(name)), stop);
        await translated(parent.path, () => syncFilesystem(parent.at()));
      }),
    close: async () => {
      await Promise.all([top.close(), mounts.close()]);
    },
  };
}

/** Directories on the way that are missing are made. */
async function withParent<T>(
  top: Directory,
  path: string,
  use: (parent: Directory, name: string) => Promise<T>,
): Promise<T> {
  const names = splitPath(path);
  const parent = await makeDirectories(top, names.slice(0, -1));
  return await use(parent, names.at(-1) ?? "").finally(() => parent.close());
}

async function assertFree(top: Directory, path: string): Promise<void> {
  const names = splitPath(path);
  const parent = await enterDirectories(top, names.slice(0, -1));
  await (parent === null ? null : assertAbsent(parent, names.at(-1) ?? "").finally(() => parent.close()));
}

/** Whether something was changed is looked up only where it matters: that may take a while. */
async function toPresent(
  { snapshot, readOnly }: Listed,
  relevant: ReadonlySet<Uuid>,
  { top, mounted }: { readonly top: Directory; readonly mounted: string },
): Promise<TargetSubvolume> {
  const { received, path } = snapshot;
  const changed = received !== null && relevant.has(received.uuid) ? await readChange(top.at(), snapshot) : null;
  const within = mounted === "" || path === mounted || path.startsWith(`${mounted}/`);
  return { ...snapshot, sealed: readOnly && !isStaged(path), changed, within };
}

/** By a snapshot of it, under a name that is ours alone, that is marked as received from it. */
async function adopt(
  snapshot: Snapshot,
  top: Directory,
  mounts: Mounts,
  signal: AbortSignal,
): Promise<() => Promise<void>> {
  const { uuid, ctransid } = snapshot;
  const name = `${OWN_PREFIX}base-${uuid}`;
  const release = (): Promise<void> => removeReceived(top, name, uuid);
  await release();
  try {
    await runToEnd(snapshotCommand(await mounts.reach([snapshot], signal), top.at(name)), signal);
    const made = await enterDirectory(top, name);
    try {
      if (made === null) throw new BackupError("RECEIVE_FAILED", `${top.path}/${name} was removed in the meantime`);
      await translated(made.path, () => setReceived(made.at(), uuid, ctransid));
      await translated(made.path, () => setReadOnly(made.at(), true));
    } finally {
      await made?.close();
    }
    return release;
  } catch (error) {
    await release().catch(() => undefined);
    throw error;
  }
}

interface Receiving {
  readonly parent: Directory;
  readonly name: string;
  readonly expected: Identity;
  readonly enter: readonly string[];
  readonly forceDecompress: boolean;
}

async function receive(stream: Pieces, receiving: Receiving, signal: AbortSignal): Promise<Snapshot> {
  await assertAbsent(receiving.parent, receiving.name);
  const watch = await watchWrites(receiving.parent);
  try {
    return await receiveWatched(stream, receiving, watch, signal);
  } finally {
    await watch.close();
  }
}

async function receiveWatched(
  stream: Pieces,
  { parent, name, expected, enter, forceDecompress }: Receiving,
  watch: WriteWatch,
  signal: AbortSignal,
): Promise<Snapshot> {
  const stage = await openStage(parent, expected);
  const place = join(parent.path, name);
  const fidelity = openFidelity((uuid) => openParent(parent, uuid));
  try {
    const renamed = through(stream, (pieces) => fidelity.edit(renameStream(pieces, expected, STAGED_NAME)));
    const command = receiveCommand({ directory: stage.at(), name: place, enter, forceDecompress });
    await writeTo(command, renamed, signal);
    const reception = { expected, repair: fidelity.repair, assertWritten: () => watch.assertWritten(place) };
    return await putInPlace(stage, parent, name, reception);
  } catch (error) {
    // The first failure is the one to report; the next attempt will remove what cannot be removed now.
    await clearStage(parent, expected.uuid).catch(() => undefined);
    throw error;
  } finally {
    await Promise.all([stage.close(), fidelity.close()]);
  }
}

/**
 * Opens the send parent that `btrfs receive` uses for a stream that names this UUID: the first subvolume that was
 * received under it, else the one that has it. Null when it cannot be opened.
 */
async function openParent(filesystem: Directory, uuid: string): Promise<Parent | null> {
  const all = (await listPresent(filesystem.at())).map(({ snapshot }) => snapshot).sort((a, b) => a.id - b.id);
  const found = all.find(({ received }) => received?.uuid === uuid) ?? all.find((snapshot) => snapshot.uuid === uuid);
  if (found === undefined) return null;
  const openOne = (inode?: number): Promise<number | null> =>
    openInode(filesystem.at(), found.id, inode).catch(() => null);
  const directory = await withDescriptor(await openOne(), (path) => openDirectory(path));
  if (directory === null) return null;
  const modeOf = async (inode: number): Promise<number> =>
    (await withDescriptor(await openOne(inode), async (path) => (await stat(path)).mode)) ?? 0;
  return { directory, modeOf };
}

/** @throws USAGE when the path could lead out of the target or would name nothing */
function splitPath(path: string): string[] {
  const names = path.split("/");
  const usable = names.every((name) => name !== "" && name !== "." && name !== ".." && !name.includes("\0"));
  if (usable) return names;
  throw new BackupError("USAGE", `${JSON.stringify(path)} is no path below a directory`);
}
