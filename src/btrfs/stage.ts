// The directory where a snapshot is received, its move to its final place, and the removal of unwanted received
// subvolumes. `btrfs receive` works in a chroot of a directory that holds nothing else, so that a symbolic link in a
// hostile stream leads only to what the same stream created.
//
// A read-only subvolume can be renamed but not moved to another directory (EROFS), so it is made writable for the
// moment of the move. It stays the subvolume that was received; a check afterwards shows whether anybody changed it
// then. It moves under a name that is ours alone, and gets its own name when it is sealed again, checked and on disk.
// So the name shows which ones are complete, even after a loss of power: `btrfs receive` seals before the data is
// written out.

import { constants, open, readdir, rename, rmdir } from "node:fs/promises";
import { join } from "node:path";
import { BackupError } from "../errors.ts";
import { OWN_PREFIX, parseUuid, sameIdentity, type Identity, type Snapshot, type Uuid } from "../plan/model.ts";
import {
  deleteSubvolume,
  findChange,
  setReadOnly,
  setReceived,
  subvolumeInfo,
  syncFilesystem,
  type RawInfo,
} from "../addon/subvolumes.ts";
import { enterDirectory, hasEntry, makeDirectory, type Directory } from "./directories.ts";
import { readSnapshot, translated } from "./subvolumes.ts";

/** In its directory, of the subvolume that is being received: short, because `btrfs receive` puts it before every path. */
export const STAGED_NAME = "s";

const FOLDER_PREFIX = `${OWN_PREFIX}in-`;

/** Every subvolume's root directory has this inode number. */
const SUBVOLUME_INODE = 256n;

/** True for the path of a subvolume that is being received or moved, or was when a restore was interrupted. */
export function isStaged(path: string): boolean {
  const [name = "", folder = ""] = path.split("/").reverse();
  return uuidBehind(OWN_PREFIX, name) !== null || uuidBehind(FOLDER_PREFIX, folder) !== null;
}

/** A directory for receiving one snapshot alone. Leftovers of an earlier attempt are removed. @throws RECEIVE_FAILED */
export async function openStage(directory: Directory, { uuid }: Identity): Promise<Directory> {
  await clearStage(directory, uuid);
  await makeDirectory(directory, FOLDER_PREFIX + uuid, 0o700);
  const stage = await enterDirectory(directory, FOLDER_PREFIX + uuid);
  if (stage !== null && (await readdir(stage.at())).length === 0) return stage;
  await stage?.close();
  throw new BackupError("RECEIVE_FAILED", `another program writes into ${join(directory.path, FOLDER_PREFIX + uuid)}`);
}

/** Removes what a restore left of a snapshot that it did not finish. @throws RECEIVE_FAILED when something else is there */
export async function clearStage(directory: Directory, uuid: Uuid): Promise<void> {
  await removeReceived(directory, OWN_PREFIX + uuid, uuid);
  const stage = await enterDirectory(directory, FOLDER_PREFIX + uuid);
  if (stage === null) return;
  try {
    await removeReceived(stage, STAGED_NAME, uuid);
  } finally {
    await stage.close();
  }
  await removeEmptied(directory, FOLDER_PREFIX + uuid);
}

/** A received subvolume. */
export interface Reception {
  readonly expected: Identity;
  /** Called while it is writable. True when it changed something. */
  readonly repair: (received: Directory) => Promise<boolean>;
  /** Puts everything on disk. @throws RECEIVE_FAILED when something does not get there */
  readonly assertWritten: () => Promise<void>;
}

/**
 * Moves the received subvolume from its stage to its place, and puts it on disk.
 * @throws RECEIVE_FAILED when it is not the expected snapshot, is not all on disk, or something is in its place
 */
export async function putInPlace(
  stage: Directory,
  directory: Directory,
  name: string,
  { expected, repair, assertWritten }: Reception,
): Promise<Snapshot> {
  const moving = OWN_PREFIX + expected.uuid;
  if ((await readdir(stage.at())).some((entry) => entry !== STAGED_NAME)) {
    throw new BackupError("RECEIVE_FAILED", `the stream of ${expected.uuid} made something besides its snapshot`, {
      hint: `it is in ${stage.path}`,
    });
  }
  const subvolume = await enterDirectory(stage, STAGED_NAME);
  try {
    const sealed = subvolume === null ? null : await readSealed(subvolume, expected);
    if (sealed === null || subvolume === null) {
      throw new BackupError(
        "RECEIVE_FAILED",
        `btrfs receive did not make the expected snapshot from the stream of ${expected.uuid}`,
      );
    }
    await assertWritten();
    await translated(subvolume.path, () => setReadOnly(subvolume.at(), false));
    if (await repair(subvolume)) await sealAgain(subvolume, expected);
    await rename(stage.at(STAGED_NAME), directory.at(moving));
    await translated(subvolume.path, () => setReadOnly(subvolume.at(), true));
    await assertWritten();
    const moved = await readSealed(subvolume, expected);
    const changed = await translated(subvolume.path, () => findChange(subvolume.at(), sealed.id));
    if (moved?.id !== sealed.id || changed !== null) {
      throw new BackupError("RECEIVE_FAILED", `${join(directory.path, moving)} was changed while it was moved`);
    }
  } finally {
    await subvolume?.close();
  }
  await removeEmptied(directory, FOLDER_PREFIX + expected.uuid);
  // rename(2) would replace an empty directory.
  await assertAbsent(directory, name);
  await rename(directory.at(moving), directory.at(name));
  await translated(directory.path, () => syncFilesystem(directory.at()));
  const snapshot = await readSnapshot(directory.at(name));
  if (snapshot !== null) return snapshot;
  throw new BackupError("RECEIVE_FAILED", `${join(directory.path, name)} was made writable in the meantime`);
}

/**
 * Removes a directory with the snapshots that were received in it under one of these UUIDs, which is their name, and
 * with the leftovers of receiving them. Does nothing when it does not exist.
 * @throws RECEIVE_FAILED when it holds anything else, which stays
 */
export async function removeReceivedIn(parent: Directory, name: string, uuids: ReadonlySet<Uuid>): Promise<void> {
  const directory = await enterDirectory(parent, name);
  if (directory === null) return;
  try {
    for (const entry of await readdir(directory.at())) {
      const staged = uuidBehind(FOLDER_PREFIX, entry) ?? uuidBehind(OWN_PREFIX, entry);
      if (staged !== null && uuids.has(staged)) await clearStage(directory, staged);
      const uuid = parseUuid(entry);
      if (uuid !== null && uuids.has(uuid)) await removeReceived(directory, entry, uuid);
    }
  } finally {
    await directory.close();
  }
  await removeEmptied(parent, name);
  await translated(parent.path, () => syncFilesystem(parent.at()));
}

/** @throws RECEIVE_FAILED when there is something of that name */
export async function assertAbsent(directory: Directory, name: string): Promise<void> {
  if (!(await hasEntry(directory, name))) return;
  throw new BackupError(
    "RECEIVE_FAILED",
    `${join(directory.path, name)} exists already and is not the snapshot to restore`,
    { hint: "move it away, or restore under another directory" },
  );
}

/** Seals it again; a repaired subvolume counts as received, not as changed afterwards. */
async function sealAgain(subvolume: Directory, { uuid, ctransid }: Identity): Promise<void> {
  await translated(subvolume.path, () => syncFilesystem(subvolume.at()));
  await translated(subvolume.path, () => setReceived(subvolume.at(), uuid, ctransid));
}

async function readSealed(subvolume: Directory, expected: Identity): Promise<Snapshot | null> {
  if (!(await isSubvolumeRoot(subvolume))) return null;
  const snapshot = await readSnapshot(subvolume.at());
  return snapshot?.received && sameIdentity(snapshot.received, expected) ? snapshot : null;
}

/**
 * Deletes, by its id, the subvolume of this name, if it was received under this UUID or not finished being received.
 * Nothing happens when there is nothing. @throws RECEIVE_FAILED for anything else, which stays
 */
export async function removeReceived(directory: Directory, name: string, uuid: Uuid): Promise<void> {
  const found = await enterDirectory(directory, name);
  if (found === null) return;
  try {
    const info = (await isSubvolumeRoot(found)) ? await translated(found.path, () => subvolumeInfo(found.at())) : null;
    if (info === null || !isOurs(info, uuid)) {
      throw new BackupError("RECEIVE_FAILED", `${found.path} is in the way: it was not left by a restore`, {
        hint: "move it away",
      });
    }
    await translated(found.path, () => deleteSubvolume(directory.at(), name, info.id));
  } finally {
    await found.close();
  }
}

function isOurs({ receivedUuid, readOnly }: RawInfo, uuid: Uuid): boolean {
  return receivedUuid === uuid || (receivedUuid === null && !readOnly);
}

async function isSubvolumeRoot(directory: Directory): Promise<boolean> {
  const handle = await open(directory.at(), constants.O_RDONLY | constants.O_DIRECTORY);
  try {
    return (await handle.stat({ bigint: true })).ino === SUBVOLUME_INODE;
  } finally {
    await handle.close();
  }
}

async function removeEmptied(parent: Directory, name: string): Promise<void> {
  await rmdir(parent.at(name)).catch((cause: unknown) => {
    const path = join(parent.path, name);
    throw new BackupError("RECEIVE_FAILED", `${path} cannot be removed: it holds something that no restore put there`, {
      hint: "that stays: move it away, and remove the directory",
      cause,
    });
  });
}

function uuidBehind(prefix: string, name: string): Uuid | null {
  return name.startsWith(prefix) ? parseUuid(name.slice(prefix.length)) : null;
}
