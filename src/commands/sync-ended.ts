// How a sync of several subvolumes ends: the outcome of each, and the exit code of the run.

import type { BackupError } from "../errors.ts";
import type { Receipt } from "../operations/sync-snapshot.ts";
import { joinStates, type SourceState } from "./monitoring.ts";

/** How the run of one PATH, or of one origin of its snapshots, ended. */
export interface SubvolumeOutcome {
  readonly code: number;
  /** The failure that stopped it before its end. */
  readonly stoppedBy: BackupError | null;
  readonly receipts?: readonly Receipt[];
  readonly state?: SourceState | null;
}

/**
 * The exit code of a run of several subvolumes. A usage error comes first, because somebody has to correct the command
 * line.
 */
export function sumCodes(codes: readonly number[]): number {
  if (codes.length === 1 || codes.includes(2)) return codes.includes(2) ? 2 : (codes[0] ?? 0);
  return codes.some((code) => code !== 0) ? 3 : 0;
}

/** True for failures after which no other subvolume can succeed either. */
export function stopsAll({ code }: BackupError): boolean {
  return ["ABORTED", "ACCESS_DENIED", "CONTAINER_MISSING", "STORE_UNAVAILABLE", "CONFIG"].includes(code);
}

/** Joins the outcomes of several origins into one. */
export function joinEnded(all: readonly SubvolumeOutcome[]): SubvolumeOutcome {
  const stoppedBy = all.at(-1)?.stoppedBy ?? null;
  return {
    code: stoppedBy?.exitCode ?? sumCodes(all.map(({ code }) => code)),
    stoppedBy,
    receipts: all.flatMap(({ receipts = [] }) => receipts),
    state: joinStates(all.map(({ state = null }) => state)),
  };
}
