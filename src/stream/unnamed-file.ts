// Temporary files without a name: nothing is left of them, however the process ends.

import { randomUUID } from "node:crypto";
import { constants } from "node:fs";
import { open, unlink, type FileHandle } from "node:fs/promises";
import { userInfo } from "node:os";
import { join } from "node:path";
import { BackupError, describeDirectoryError, errnoOf } from "../errors.ts";
import { openOwnDirectory } from "../state/own-directories.ts";

/** Not among Node's constants; the kernel takes it together with O_DIRECTORY, whose value differs among machines. */
const O_TMPFILE = 0o20000000 | constants.O_DIRECTORY;

/** The errors of filesystems without unnamed files, such as NFS. */
const UNKNOWN = new Set(["EOPNOTSUPP", "ENOTSUP", "EISDIR"]);

/**
 * An empty file (0600) that no other process can open by a name. It is gone when it is closed or this process ends,
 * however it ends. Where the filesystem does not support that, it has a name for a moment.
 * @throws Error when the directory cannot be written, or is reached by a link that root does not follow
 */
export async function openNameless(directory: string): Promise<FileHandle> {
  const held = await openOwnDirectory(directory, userInfo().uid);
  try {
    return await openIn(`/proc/self/fd/${held.fd}`);
  } finally {
    await held.close();
  }
}

/** The same in a directory that somebody has named to work in. @throws CONFIG when it cannot be written */
export async function openWorkFile(directory: string): Promise<FileHandle> {
  return await openNameless(directory).catch((cause: unknown) => {
    const message = `cannot write to the work directory ${directory}: ${describeDirectoryError(cause)}`;
    throw new BackupError("CONFIG", message, { cause, hint: "name an existing directory with --work-dir" });
  });
}

async function openIn(directory: string): Promise<FileHandle> {
  try {
    return await open(directory, constants.O_RDWR | O_TMPFILE, 0o600);
  } catch (error) {
    if (!UNKNOWN.has(errnoOf(error) ?? "")) throw error;
  }
  const path = join(directory, `.btrfs-snapshots-to-swift-${randomUUID()}`);
  const file = await open(path, "wx+", 0o600);
  await unlink(path);
  return file;
}
