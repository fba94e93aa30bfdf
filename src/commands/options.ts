// Options that several commands share, each defined once.

import { Option } from "clipanion";

/** The option of commands that hold a lock. */
export function waitLockOption(): string | undefined {
  return Option.String("--wait-lock", {
    description: "Wait so long for another run on the same subvolume and container (default: not at all).",
  });
}

/** The option of commands whose PATH may hold snapshots that were taken elsewhere. */
export function receivedOption(): boolean {
  return Option.Boolean("--received", false, {
    description: "PATH is a directory, or a whole disk, with snapshots that were received there.",
  });
}

/** The option of commands for which a subvolume without snapshots is a failure. */
export function allowEmptyOption(): boolean {
  return Option.Boolean("--allow-empty", false, {
    description: "A subvolume without read-only snapshots is no failure.",
  });
}
