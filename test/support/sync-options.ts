// What a sync is told beside its plan, for tests that start it without a command line.

import { NOT_ENCODED } from "../../src/operations/encode.ts";
import type { SyncOptions } from "../../src/operations/sync-snapshot.ts";
import type { SyncWatcher } from "../../src/operations/sync.ts";

/** Plain archives, each in one object, by four connections; with these changes. */
export function syncOptions(changes: Partial<SyncOptions> = {}): SyncOptions {
  return {
    policy: { memoryBytes: 512 * 2 ** 20, concurrency: 4, volumeBytes: null },
    tool: "test/1",
    dryRun: false,
    encoding: NOT_ENCODED,
    spoolDirectory: null,
    checkpointDirectory: null,
    resume: true,
    now: () => performance.now(),
    ...changes,
  };
}

/** Looks at nothing, of a restore neither. */
export const quiet = {
  onStart: () => undefined,
  onProgress: () => undefined,
  onReceipt: () => undefined,
  onFailure: () => undefined,
} as const satisfies SyncWatcher;
