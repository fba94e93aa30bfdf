// The packages of the programs that are run, for the hint about a missing one.

import { BackupError } from "../errors.ts";

/** Debian's package of each program that we run. */
const packages: Readonly<Record<string, string>> = {
  age: "age",
  btrfs: "btrfs-progs",
  logger: "bsdutils",
  "mkfs.btrfs": "btrfs-progs",
  mount: "mount",
  nsenter: "util-linux",
  rsync: "rsync",
  umount: "mount",
  unshare: "util-linux",
  zstd: "zstd",
};

export function notStarted(program: string, cause: NodeJS.ErrnoException): BackupError {
  if (cause.code !== "ENOENT") {
    return new BackupError("CONFIG", `the program ${program} cannot be started: ${cause.message}`, { cause });
  }
  const hint = `install the package ${packages[program] ?? program}`;
  return new BackupError("CONFIG", `the program ${program} is not installed`, { hint, cause });
}
