// Watches whether all that is written to a filesystem reaches its disks. The kernel writes data out later, so neither
// `btrfs receive` nor `btrfs filesystem sync` learns of a disk that does not keep it: both exit with 0 (seen on
// Linux 6.18). Two sources know better, and each knows what the other does not:
//
//   syncfs                    fails when data that was written in plain did not get there
//   counters of each device   rise also for compressed extents, which `btrfs receive` writes as they are (encoded
//                             writes): Linux 6.12 to 7.0, before 3cd181cc46d3, loses their errors everywhere else
//
// The counters rise for everything on the filesystem, whoever wrote or read it.

import { constants, open } from "node:fs/promises";
import { readDeviceErrors, syncOpened, type RawDeviceErrors } from "../addon/subvolumes.ts";
import { BackupError, errnoOf } from "../errors.ts";
import type { Directory } from "./directories.ts";
import { translated } from "./subvolumes.ts";

export interface WriteWatch {
  /**
   * Puts everything on disk.
   * @param what - the subject of the error, for people
   * @throws RECEIVE_FAILED when something did not get there since the watch was opened
   */
  assertWritten(what: string): Promise<void>;
  close(): Promise<void>;
}

/**
 * Watches the filesystem of a directory. It needs no privilege; where a sandbox forbids it nevertheless, that is an
 * error, because without it nobody would know what is lost.
 * @throws NO_PRIVILEGE
 */
export async function watchWrites(directory: Directory): Promise<WriteWatch> {
  const handle = await open(directory.at(), constants.O_RDONLY | constants.O_DIRECTORY);
  const sync = (): Promise<void> => syncOpened(directory.path, handle.fd);
  const count = (): Promise<readonly RawDeviceErrors[]> =>
    translated(directory.path, () => readDeviceErrors(directory.at()));
  try {
    // An older error that nobody has asked for is reported to the first who asks.
    await sync().catch(() => undefined);
    const before = await count();
    return {
      assertWritten: async (what) => {
        await sync().catch((cause: unknown) => {
          throw notOnDisk(what, `the filesystem reports ${errnoOf(cause) ?? String(cause)}`, cause);
        });
        const errors = describeDeviceErrors(before, await count());
        if (errors !== null) throw notOnDisk(what, errors);
      },
      close: () => handle.close(),
    };
  } catch (error) {
    await handle.close();
    throw error;
  }
}

const counters = ["write", "read", "flush", "corruption", "generation"] as const;

/**
 * Describes what the counters of devices show to have happened between two looks; null when they are the same. Counters
 * that fell, or devices that left, hide what happened, so they count too.
 */
export function describeDeviceErrors(
  before: readonly RawDeviceErrors[],
  after: readonly RawDeviceErrors[],
): string | null {
  const old = new Map(before.map((device) => [device.id, device]));
  const left = before.filter(({ id }) => after.every((device) => device.id !== id));
  const found = after.flatMap((device) => {
    const changes = counters.map((name) => ({ name, by: device[name] - (old.get(device.id)?.[name] ?? 0) }));
    if (changes.some(({ by }) => by < 0)) return [`the error counters of ${nameOf(device)} were reset`];
    const risen = changes
      .filter(({ by }) => by > 0)
      .map(({ name, by }) => `${by} ${name} ${by === 1 ? "error" : "errors"}`);
    return risen.length === 0 ? [] : [`${nameOf(device)} had ${risen.join(", ")}`];
  });
  const all = [...found, ...left.map((device) => `${nameOf(device)} was removed from the filesystem`)];
  return all.length === 0 ? null : all.join("; ");
}

/** The kernel knows no path for a device that is missing. */
function nameOf({ id, path }: RawDeviceErrors): string {
  return path === "" ? `device ${id}` : path;
}

function notOnDisk(what: string, reason: string, cause?: unknown): BackupError {
  const hint =
    errnoOf(cause) === "ENOSPC"
      ? "make room where the filesystem takes its space from, and run it again"
      : "dmesg and `btrfs device stats` show the disk: replace it, or restore to another one; if something else met these errors, such as a scrub, run it again afterwards";
  return new BackupError("RECEIVE_FAILED", `${what} is not safely on disk: ${reason}`, { hint, cause });
}
