// Directories that are held open. Work in such a directory stays there, even if its path leads elsewhere by then: a
// symbolic link that somebody puts in its place has no effect.

import { closeSync } from "node:fs";
import { constants, lstat, mkdir, open, type FileHandle } from "node:fs/promises";
import { join } from "node:path";
import { pid } from "node:process";
import { BackupError, errnoOf, type FailureCode } from "../errors.ts";

export interface Directory {
  /** As it was reached, for people. */
  readonly path: string;
  /** An entry, or without a name the directory itself, by the descriptor; for this process and those that it starts. */
  at(name?: string): string;
  /** Safe to call twice. */
  close(): Promise<void>;
}

/** The directory that a path leads to now, through links too. @throws Error with errno's name as `code` */
export async function openDirectory(path: string): Promise<Directory> {
  return hold(await open(path, constants.O_RDONLY | constants.O_DIRECTORY), path);
}

/** The result of `use` with the path of an open file, which is closed afterwards; null where there is none. */
export async function withDescriptor<T>(
  descriptor: number | null,
  use: (path: string) => Promise<T>,
): Promise<T | null> {
  if (descriptor === null) return null;
  return await use(`/proc/${pid}/fd/${descriptor}`).finally(() => closeSync(descriptor));
}

/** One in another; null when there is nothing of that name. @throws RECEIVE_FAILED when it is something else */
export async function enterDirectory(parent: Directory, name: string): Promise<Directory | null> {
  const path = join(parent.path, name);
  try {
    const { O_RDONLY, O_DIRECTORY, O_NOFOLLOW } = constants;
    return hold(await open(parent.at(name), O_RDONLY | O_DIRECTORY | O_NOFOLLOW), path);
  } catch (cause) {
    const code = errnoOf(cause);
    if (code === "ENOENT") return null;
    const isOther = code === "ENOTDIR" || code === "ELOOP";
    const problem = isOther
      ? `${path} is in the way: it is not a directory`
      : `cannot open the directory ${path}: ${String(cause)}`;
    throw new BackupError("RECEIVE_FAILED", problem, { cause });
  }
}

/** One below another, name by name; null when one is missing. @throws RECEIVE_FAILED */
export async function enterDirectories(top: Directory, names: readonly string[]): Promise<Directory | null> {
  return await walk(top, names, () => Promise.resolve());
}

/** The same; those that are missing are made. @throws RECEIVE_FAILED, NO_PRIVILEGE */
export async function makeDirectories(top: Directory, names: readonly string[]): Promise<Directory> {
  const directory = await walk(top, names, makeDirectory);
  if (directory !== null) return directory;
  throw new BackupError("RECEIVE_FAILED", `${join(top.path, ...names)} was removed in the meantime`);
}

/** Does nothing when there is something of that name. */
export async function makeDirectory(parent: Directory, name: string, mode = 0o777): Promise<void> {
  await mkdir(parent.at(name), mode).catch((cause: unknown) => {
    if (errnoOf(cause) !== "EEXIST") throw cannotMake(join(parent.path, name), cause);
  });
}

/** Whether a directory has an entry of that name, even a link that leads nowhere. */
export async function hasEntry(directory: Directory, name: string): Promise<boolean> {
  return await lstat(directory.at(name)).then(
    () => true,
    () => false,
  );
}

async function walk(
  top: Directory,
  names: readonly string[],
  prepare: (parent: Directory, name: string) => Promise<void>,
): Promise<Directory | null> {
  let directory = hold(await open(top.at(), constants.O_RDONLY | constants.O_DIRECTORY), top.path);
  for (const name of names) {
    const parent = directory;
    try {
      await prepare(parent, name);
      const next = await enterDirectory(parent, name);
      if (next === null) return null;
      directory = next;
    } finally {
      await parent.close();
    }
  }
  return directory;
}

function hold(handle: FileHandle, path: string): Directory {
  const own = `/proc/${pid}/fd/${handle.fd}`;
  let closing: Promise<void> | null = null;
  return {
    path,
    at: (name) => (name === undefined ? own : `${own}/${name}`),
    close: () => (closing ??= handle.close()),
  };
}

function cannotMake(path: string, cause: unknown): BackupError {
  const code = errnoOf(cause);
  const refused: FailureCode = code === "EPERM" || code === "EACCES" ? "NO_PRIVILEGE" : "RECEIVE_FAILED";
  const reason = code === "EROFS" ? "it is mounted or set read-only" : String(code ?? cause);
  return new BackupError(refused, `cannot make the directory ${path}: ${reason}`, {
    hint: "restore to a directory that can be written to",
    cause,
  });
}
