// Finds whose snapshots were received into a directory: each chain is archived on its own.

import type { Archive, Snapshot } from "../plan/model.ts";
import { chainReceived } from "../plan/received.ts";
import type { LocalSnapshots } from "./ports.ts";

/** Snapshots of one origin. */
export interface Origin {
  /** The name to show to people. */
  readonly name: string;
  readonly local: LocalSnapshots;
}

/** @param archives - of the whole container */
export function originsOfReceived(
  path: string,
  received: readonly Snapshot[],
  archives: readonly Archive[],
): readonly Origin[] {
  return chainReceived(received, archives).map(({ source: uuid, name, snapshots, findings }) => ({
    name: `${path} (${name})`,
    local: {
      source: { uuid, id: 0, path: name, generation: null },
      snapshots,
      origin: null,
      doubts: findings,
      areCopies: true,
    },
  }));
}
