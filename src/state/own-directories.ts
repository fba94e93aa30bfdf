// The directories of this program when root runs it. `sudo -E` brings along the environment of a user, and anybody who
// can change a directory that root writes into can redirect those writes.

import { randomUUID } from "node:crypto";
import { constants, lstatSync, readlinkSync, statSync } from "node:fs";
import { mkdir, open, rename, rm, type FileHandle } from "node:fs/promises";
import { basename, dirname, resolve } from "node:path";
import { errnoOf } from "../errors.ts";

type Variables = Readonly<Record<string, string | undefined>>;

/** The kernel follows as many links in a path. */
const MAX_LINKS = 40;

/** The variables in which systemd names a unit's own directories. */
const ofUnit = ["STATE_DIRECTORY", "CACHE_DIRECTORY"];

/**
 * Returns the environment unchanged; for root, with the system's directories for kept data, whatever home the
 * environment names. A directory that systemd names stays, if nobody but root can change it.
 */
export function withOwnDirectories<Env extends Variables>(env: Env, uid: number): Env {
  if (uid !== 0) return env;
  const named = ofUnit.filter((name) => !isRootsAlone((env[name] ?? "").split(":")[0] ?? ""));
  const dropped = Object.fromEntries(named.map((name) => [name, undefined]));
  return { ...env, ...dropped, XDG_STATE_HOME: "/var/lib", XDG_CACHE_HOME: "/var/cache" };
}

/** True when nobody but root can change where an absolute path leads, as far as it exists. */
export function isRootsAlone(path: string, links = MAX_LINKS): boolean {
  if (!path.startsWith("/") || links === 0) return false;
  let prefix = "";
  for (const name of ["", ...resolve(path).split("/").slice(1)]) {
    prefix = name === "" ? "/" : `${prefix === "/" ? "" : prefix}/${name}`;
    const found = lstatSync(prefix, { throwIfNoEntry: false });
    if (found === undefined) return true;
    if (found.uid !== 0) return false;
    if (found.isSymbolicLink()) {
      if (!isRootsAlone(resolve(dirname(prefix), readlinkSync(prefix)), links - 1)) return false;
    } else {
      const isShared = (found.mode & 0o022) !== 0 && (found.mode & 0o1000) === 0;
      if (!found.isDirectory() || isShared) return false;
    }
  }
  return true;
}

/**
 * Opens a directory to write into. Root follows only root's links, in directories that belong to root: any other link
 * could lead anywhere, and change while it is followed.
 * @param make - the mode of directories to create where they are missing; null = create none
 * @throws Error with errno's name as `code`; ELOOP for a link of another owner
 */
export async function openOwnDirectory(path: string, uid: number, make: number | null = null): Promise<FileHandle> {
  if (uid !== 0) {
    if (make !== null) await ensureDirectory(path, make);
    return await open(path, READ_DIRECTORY);
  }
  let names = resolve(path).split("/");
  let handle = await open("/", READ_DIRECTORY);
  for (let links = 0; names.length > 0;) {
    const [name = "", ...rest] = names;
    names = rest;
    if (name === "" || name === ".") continue;
    const entry = inside(handle, name);
    const before = handle;
    try {
      const found = lstatSync(entry, { throwIfNoEntry: false });
      if (found === undefined && make !== null) await mkdir(entry, make);
      const target = found?.isSymbolicLink() === true ? readlinkSync(entry) : null;
      if (target !== null) {
        const isRoots = found?.uid === 0 && isKeptByRoot(await handle.stat());
        if (!isRoots) throw linkError(path, `${name} is a link of another user, which root does not follow`);
        if (++links > MAX_LINKS) throw linkError(path, "there are too many links");
        names = [...target.split("/"), ...rest];
      }
      if (target === null) handle = await open(entry, READ_DIRECTORY | constants.O_NOFOLLOW);
      else if (target.startsWith("/")) handle = await open("/", READ_DIRECTORY);
    } catch (error) {
      await before.close();
      throw error;
    }
    if (before !== handle) await before.close();
  }
  return handle;
}

const READ_DIRECTORY = constants.O_RDONLY | constants.O_DIRECTORY;

/** The path of an entry in an open directory, whatever the directory's own path means by now. */
function inside(directory: FileHandle, name: string): string {
  return `/proc/self/fd/${directory.fd}/${name}`;
}

/** True when nobody else can replace root's link with another. */
function isKeptByRoot({ uid, mode }: { readonly uid: number; readonly mode: number }): boolean {
  return uid === 0 && ((mode & 0o022) === 0 || (mode & 0o1000) !== 0);
}

function linkError(path: string, reason: string): Error {
  return Object.assign(new Error(`${path} is not opened: ${reason}`), { code: "ELOOP" });
}

export interface Replacing {
  readonly uid: number;
  /** True to create missing directories (0755). */
  readonly makeDirectories?: boolean;
}

/**
 * Replaces a file in one step by one that everybody may read, so that nobody sees an incomplete file. It does not
 * follow a link at the file's own place, and on the way to it only links that {@link openOwnDirectory} follows.
 * @param edit - makes the new text from the old one, which is empty where there is no file
 * @throws Error with errno's name as `code`
 */
export async function replaceFile(
  path: string,
  edit: (text: string) => string,
  { uid, makeDirectories = false }: Replacing,
): Promise<void> {
  const directory = await openOwnDirectory(dirname(path), uid, makeDirectories ? 0o755 : null);
  const temporary = inside(directory, `.${basename(path)}.${randomUUID()}.tmp`);
  try {
    const text = edit(await readRegular(inside(directory, basename(path))));
    await writeNew(temporary, text);
    await rename(temporary, inside(directory, basename(path)));
  } catch (error) {
    await rm(temporary, { force: true });
    throw error;
  } finally {
    await directory.close();
  }
}

async function readRegular(path: string): Promise<string> {
  // Opening a pipe would wait for a writer.
  const { O_RDONLY, O_NOFOLLOW, O_NONBLOCK } = constants;
  const handle = await open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK).catch(() => null);
  if (handle === null) return "";
  try {
    return (await handle.stat()).isFile() ? await handle.readFile("utf8") : "";
  } finally {
    await handle.close();
  }
}

async function writeNew(path: string, text: string): Promise<void> {
  const handle = await open(path, "wx", 0o644);
  try {
    // Independent of the umask: a collector of metrics, for one, is another user.
    await handle.chmod(0o644);
    await handle.writeFile(text);
    await handle.datasync();
  } finally {
    await handle.close();
  }
}

/**
 * Creates a directory and its missing parents. Not by Node's recursive mkdir: where the kernel creates none although
 * the parent exists, as in /proc, it retries forever (seen on 20.20).
 * @returns false when it existed already
 * @throws Error with errno's name as `code`
 */
export async function ensureDirectory(path: string, mode: number): Promise<boolean> {
  try {
    await mkdir(path, { mode });
    return true;
  } catch (error) {
    const code = errnoOf(error);
    if (code === "EEXIST" && statSync(path, { throwIfNoEntry: false })?.isDirectory() === true) return false;
    if (code !== "ENOENT" || lstatSync(dirname(path), { throwIfNoEntry: false }) !== undefined) throw error;
    await ensureDirectory(dirname(path), mode);
    return await ensureDirectory(path, mode);
  }
}
