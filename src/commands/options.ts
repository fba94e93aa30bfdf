// Options that several commands share, each defined once.

import { Option } from "clipanion";

/** The option of commands that hold a lock. */
export function waitLockOption(): string | undefined {
  return Option.String("--wait-lock", {
    description: "Wait this long for another run on the same subvolume and container (default: fail at once).",
  });
}

/** The option of commands whose PATH may hold snapshots that were taken elsewhere. */
export function receivedOption(): boolean {
  return Option.Boolean("--received", false, {
    description: "PATH is a directory, or a disk, of snapshots that were received there.",
  });
}

/** The option of commands for which a subvolume without snapshots is a failure. */
export function allowEmptyOption(): boolean {
  return Option.Boolean("--allow-empty", false, {
    description: "Do not fail if a subvolume has no read-only snapshots.",
  });
}
