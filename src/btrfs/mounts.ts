// Finds a mount through which subvolumes can be reached, or makes a private one where none shows them.

import { constants, open } from "node:fs/promises";
import { subvolumeInfo } from "../addon/subvolumes.ts";
import { BackupError } from "../errors.ts";
import { mountIdOf, ownView, pathThrough, readMountsOf, readMounts, type Mount, type View } from "./mount-table.ts";
import { openPrivateMount, type PrivateMount } from "./private-mount.ts";

/** A subvolume, by the facts that are known without a path. */
export interface Place {
  readonly id: number;
  /** Relative to the top of its filesystem. */
  readonly path: string;
}

/** Where places were found: all through one mount, as `btrfs send -p` demands. */
export interface Reach {
  /** In the order of the places. */
  readonly paths: readonly string[];
  /** The words to put in front of a program and its arguments so that these paths are valid for it; mostly none. */
  readonly enter: readonly string[];
  /** The prefix that makes these paths valid for this process; mostly empty. */
  readonly root: string;
}

export interface Mounts {
  /** @throws SEND_FAILED when no mount leads there and none can be made, CONFIG when a program for it is missing */
  reach(places: readonly Place[], signal: AbortSignal): Promise<Reach>;
  /** Undoes the private mount, if there is one. Safe to call twice. */
  close(): Promise<void>;
}

/** Every subvolume's root directory has this inode number. */
const SUBVOLUME_INODE = 256n;

/** The mounts of the filesystem that `path` lies on. Read again for each question, because mounts come and go. */
export function openMounts(path: string): Mounts {
  let privately: Promise<PrivateMount> | null = null;
  return {
    reach: async (places, signal) => {
      const mounts = await readMountsOf(path);
      const reach = await findReach(mounts, places, ownView);
      if (reach !== null) return reach;
      // Made once, then shared: every subvolume of the filesystem is in it.
      const { view } = await (privately ??= openPrivateMount(mounts, signal));
      const device = mounts[0]?.device;
      const inside = (await readMounts(view)).filter((mount) => mount.device === device);
      const privateReach = await findReach(inside, places, view);
      if (privateReach !== null) return privateReach;
      throw new BackupError("SEND_FAILED", `${places.map((place) => place.path).join(" or ")} is gone`);
    },
    close: async () => {
      const opened = await privately?.catch(() => null);
      await opened?.close();
    },
  };
}

async function findReach(mounts: readonly Mount[], places: readonly Place[], view: View): Promise<Reach | null> {
  for (const mount of mounts) {
    const paths = await pathsThrough(mount, places, view);
    if (paths !== null) return { paths, enter: view.enter, root: view.root };
  }
  return null;
}

/** The paths of all places through one mount, each of them checked; null when it does not show them all. */
async function pathsThrough(mount: Mount, places: readonly Place[], view: View): Promise<string[] | null> {
  const paths: string[] = [];
  for (const place of places) {
    const path = pathThrough(mount, place.path);
    if (path === null || !(await leadsTo(view.root + path, mount, place))) return null;
    paths.push(path);
  }
  return paths;
}

/** Another mount may hide the path, or another directory may have the same name. */
async function leadsTo(path: string, mount: Mount, place: Place): Promise<boolean> {
  const { O_RDONLY, O_DIRECTORY, O_NOFOLLOW } = constants;
  const handle = await open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW).catch(() => null);
  if (handle === null) return false;
  try {
    if ((await handle.stat({ bigint: true })).ino !== SUBVOLUME_INODE) return false;
    if ((await mountIdOf(handle)) !== mount.id) return false;
    return (await subvolumeInfo(`/proc/self/fd/${handle.fd}`)).id === place.id;
  } catch {
    return false;
  } finally {
    await handle.close();
  }
}
