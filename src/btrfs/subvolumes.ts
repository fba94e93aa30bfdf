// Subvolumes as the program knows them, from the records of the addon.

import { stat } from "node:fs/promises";
import { dirname, join, relative, resolve } from "node:path";
import { BackupError } from "../errors.ts";
import { byCreation, parseUuid, type Snapshot, type Subvolume } from "../plan/model.ts";
import { adviseWithoutUuid, suggestForDirectory } from "../plan/surroundings.ts";
import {
  findChange,
  isBtrfsError,
  isSubvolume,
  listSubvolumes,
  subvolumeInfo,
  subvolumePath,
  type BtrfsError,
  type ListOptions,
  type RawSubvolume,
} from "../addon/subvolumes.ts";
import { locate } from "./mount-table.ts";
import { readSurroundings } from "./surroundings.ts";

/** The subvolume whose root a path is. @throws NOT_SUBVOLUME, NOT_BTRFS, NO_PRIVILEGE, USAGE when there is nothing */
export async function readSubvolume(path: string): Promise<Subvolume> {
  return await translated(path, async () => {
    const info = await subvolumeInfo(path);
    const uuid = parseUuid(info.uuid ?? "");
    // A top level made before btrfs-progs 4.16 has none.
    if (uuid === null)
      throw new BackupError("NOT_SUBVOLUME", `the subvolume at ${path} has no UUID`, { hint: adviseWithoutUuid(path) });
    return { uuid, id: info.id, path: await subvolumePath(path), generation: info.generation };
  });
}

/**
 * The read-only snapshot from which the subvolume at a path was made; null when there is none. The path is the
 * subvolume's root.
 * @returns with it how it was changed after it was received, as {@link readChange} reports it
 */
export async function readOrigin(
  path: string,
): Promise<{ readonly snapshot: Snapshot; readonly changed: string | null } | null> {
  const { parentUuid } = await translated(path, () => subvolumeInfo(path));
  const found = parentUuid === null ? undefined : (await listSnapshots(path)).find(({ uuid }) => uuid === parentUuid);
  return found === undefined ? null : { snapshot: found, changed: await readChange(path, found) };
}

/** How a received snapshot was changed after it was received, as in "was changed …"; null when it was not. */
export async function readChange(path: string, { id, received }: Snapshot): Promise<string | null> {
  const change = received === null ? null : await translated(path, () => findChange(path, id));
  if (change === null) return null;
  const time = new Date(Number(change.timeNs / 1_000_000n)).toISOString();
  return `was changed after it was received (inode ${change.inode}, ${time}, transaction ${change.transid})`;
}

/** The read-only subvolume whose root a path is; null when it is writable. @throws as {@link readSubvolume} */
export async function readSnapshot(path: string): Promise<Snapshot | null> {
  return await translated(path, async () => {
    const raw = { ...(await subvolumeInfo(path)), path: await subvolumePath(path), pathIsExact: true };
    return raw.readOnly ? (toSnapshots(raw)[0] ?? null) : null;
  });
}

/**
 * The read-only subvolumes of the filesystem that a path lies on, in creation order, whether anything is mounted that
 * leads to them or not.
 * @throws NOT_BTRFS, NO_PRIVILEGE, USAGE when there is nothing at the path
 */
export async function listSnapshots(path: string, filter: Omit<ListOptions, "readOnly"> = {}): Promise<Snapshot[]> {
  const found = await translated(path, () => listSubvolumes(path, { ...filter, readOnly: true }));
  return found.flatMap(toSnapshots).sort(byCreation);
}

/** A subvolume of any kind. */
export interface Listed {
  readonly snapshot: Snapshot;
  readonly readOnly: boolean;
}

/** As {@link listSnapshots}, and the writable subvolumes too. */
export async function listPresent(path: string): Promise<Listed[]> {
  const found = await translated(path, () => listSubvolumes(path));
  return found.flatMap((raw) => toSnapshots(raw).map((snapshot) => ({ snapshot, readOnly: raw.readOnly })));
}

/** Returns the result of `read`, and translates the errors of btrfs. */
export async function translated<T>(path: string, read: () => Promise<T>): Promise<T> {
  try {
    return await read();
  } catch (error) {
    throw isBtrfsError(error) ? await toRefusal(error, path) : error;
  }
}

function toSnapshots(raw: RawSubvolume): Snapshot[] {
  const uuid = parseUuid(raw.uuid ?? "");
  if (uuid === null) return [];
  const received = parseUuid(raw.receivedUuid ?? "");
  return [
    {
      uuid,
      id: raw.id,
      source: parseUuid(raw.parentUuid ?? ""),
      received: received === null ? null : { uuid: received, ctransid: raw.stransid },
      path: raw.path,
      pathIsExact: raw.pathIsExact,
      ctransid: raw.ctransid,
      otransid: raw.otransid,
      otime: raw.otimeNs,
    },
  ];
}

async function toRefusal(cause: BtrfsError, path: string): Promise<BackupError> {
  const context = { path, errno: cause.code, syscall: cause.syscall };
  if (cause.btrfsCode === "NOT_BTRFS") {
    return new BackupError("NOT_BTRFS", `${path} is not on a btrfs filesystem`, {
      hint: "`findmnt -t btrfs` shows where there is one",
      context,
      cause,
    });
  }
  if (cause.btrfsCode === "NOT_SUBVOLUME") {
    const hint = await suggestSubvolume(path);
    return new BackupError("NOT_SUBVOLUME", `${path} is not the root of a btrfs subvolume`, { hint, context, cause });
  }
  switch (cause.code) {
    case "EROFS":
      return new BackupError(
        "SEND_FAILED",
        `the filesystem of ${path} is read-only after an error, or is mounted for rescue`,
        {
          hint: "`dmesg` shows why; mount it again without rescue options. If that fails, copy the files by hand: what is read from it may be damaged",
          context,
          cause,
        },
      );
    case "ENOENT":
    case "ENOTDIR":
      return new BackupError("USAGE", `${path} does not exist`, { context, cause });
    case "EPERM":
    case "EACCES":
      return new BackupError("NO_PRIVILEGE", `the kernel does not let us read the subvolumes of ${path}`, {
        hint: "it needs root or CAP_SYS_ADMIN; in a container, root alone is not enough",
        context,
        cause,
      });
    default:
      return new BackupError("INTERNAL", cause.message, { context, cause });
  }
}

/** The subvolume whose snapshots lie in a directory, where there are any; else the one that the directory is part of. */
async function suggestSubvolume(path: string): Promise<string> {
  const containing = await findContaining(path);
  if (containing === null) return await describeMounted(path);
  const place = relative(containing, resolve(path));
  const suggestion = await Promise.all([subvolumePath(containing), readSurroundings(containing)]).then(
    ([top, around]) => suggestForDirectory(join(top, place), around),
    () => null,
  );
  return suggestion ?? `the subvolume that contains it is ${containing}`;
}

/** Null if it is not the parent directory: a directory of another place may be mounted there. */
async function findContaining(path: string): Promise<string | null> {
  let candidate = resolve(path);
  const { dev } = await stat(candidate);
  while (candidate !== "/" && !(await isSubvolume(candidate).catch(() => false))) candidate = dirname(candidate);
  // Each subvolume has a device number of its own, which its files share.
  return (await isSubvolume(candidate)) && (await stat(candidate)).dev === dev ? candidate : null;
}

async function describeMounted(path: string): Promise<string> {
  const found = await locate(path);
  if (found === null) return "a directory of some subvolume is mounted there";
  const subvolumes = await listSubvolumes(path).catch(() => []);
  const containing = subvolumes.filter((each) => `${found.path}/`.startsWith(`${each.path}/`));
  const [nearest = ""] = containing.map((each) => each.path).sort((a, b) => b.length - a.length);
  return `it is the directory ${found.path}, mounted there; mount its subvolume and name that: mount -o subvol=/${nearest} ${found.device} /mnt`;
}
