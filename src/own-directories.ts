// Where this program keeps what is its own, when root runs it: `sudo -E` brings the environment of a user along, and what
// root writes into a directory that somebody else can change, that one can turn into anything.

import { lstatSync, readlinkSync, statSync } from "node:fs";
import { mkdir, open, type FileHandle } from "node:fs/promises";
import { constants } from "node:fs";
import { dirname, resolve } from "node:path";

type Variables = Readonly<Record<string, string | undefined>>;

/** As many links in a path as the kernel follows. */
const MAX_LINKS = 40;

/** The variables that systemd names a unit's own directories by. */
const ofUnit = ["STATE_DIRECTORY", "CACHE_DIRECTORY"];

/**
 * The environment as it is; for root with the system's directories for what is kept, whatever it says of a home. What
 * systemd names stays, where nobody but root can change it.
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
 * A directory to write into. Root follows the links of root only: another one's could lead anywhere, and be turned while
 * it is followed.
 * @throws Error with errno's name as `code`; ELOOP for a link that is somebody else's
 */
export async function openOwnDirectory(path: string, uid: number): Promise<FileHandle> {
  const { O_RDONLY, O_DIRECTORY, O_NOFOLLOW } = constants;
  if (uid !== 0) return await open(path, O_RDONLY | O_DIRECTORY);
  let names = resolve(path).split("/");
  let handle = await open("/", O_RDONLY | O_DIRECTORY);
  for (let links = 0; names.length > 0;) {
    const [name = "", ...rest] = names;
    names = rest;
    if (name === "" || name === ".") continue;
    const entry = `/proc/self/fd/${handle.fd}/${name}`;
    const found = lstatSync(entry, { throwIfNoEntry: false });
    const isRootsLink = found?.isSymbolicLink() === true && found.uid === 0 && links++ < MAX_LINKS;
    const target = isRootsLink ? readlinkSync(entry) : null;
    const before = handle;
    try {
      if (target !== null) names = [...target.split("/"), ...rest];
      if (target === null) handle = await open(entry, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
      else if (target.startsWith("/")) handle = await open("/", O_RDONLY | O_DIRECTORY);
    } catch (error) {
      await before.close();
      throw error;
    }
    if (before !== handle) await before.close();
  }
  return handle;
}

/**
 * Makes a directory, and those above it that are missing. Not by Node's recursive mkdir: where the kernel makes none
 * although there is one above, as in /proc, that tries again for ever (seen on 20.20).
 * @returns false when it was there already
 * @throws Error with errno's name as `code`
 */
export async function ensureDirectory(path: string, mode: number): Promise<boolean> {
  try {
    await mkdir(path, { mode });
    return true;
  } catch (error) {
    const code = error instanceof Error && "code" in error ? error.code : null;
    if (code === "EEXIST" && statSync(path, { throwIfNoEntry: false })?.isDirectory() === true) return false;
    if (code !== "ENOENT" || lstatSync(dirname(path), { throwIfNoEntry: false }) !== undefined) throw error;
    await ensureDirectory(dirname(path), mode);
    return await ensureDirectory(path, mode);
  }
}
