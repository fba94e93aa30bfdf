// The version of btrfs-progs.

import { BackupError } from "../errors.ts";
import { readVersionText } from "../stream/program-version.ts";

/** The version of btrfs-progs, such as "6.2". @throws CONFIG when it is not installed, ABORTED */
export async function readProgsVersion(signal: AbortSignal): Promise<string> {
  const [line = ""] = (await readVersionText("btrfs", signal)).split("\n", 1);
  return /v(\S+)/.exec(line)?.[1] ?? line.trim();
}

/**
 * Makes sure that `btrfs receive --force-decompress` can be used. From 5.19 on there is such an option, but until 6.2
 * it corrupted extents that zstd had compressed.
 * @throws CONFIG, ABORTED
 */
export async function assertDecompresses(signal: AbortSignal): Promise<void> {
  const version = await readProgsVersion(signal);
  if (!isOlder(version, [6, 2])) return;
  throw new BackupError("CONFIG", `--force-decompress needs btrfs-progs 6.2 or newer, but here is ${version}`, {
    hint: "install a newer one, or leave that option out",
  });
}

/** False also for a version that is no number. */
export function isOlder(version: string, [major, minor]: readonly [major: number, minor: number]): boolean {
  const [, first, second] = /^(\d+)(?:\.(\d+))?/.exec(version) ?? [];
  if (first === undefined) return false;
  return Number(first) < major || (Number(first) === major && Number(second ?? 0) < minor);
}
