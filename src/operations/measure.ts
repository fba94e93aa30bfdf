// Measures how a subvolume changes: the sizes of a few streams between its snapshots, by passes over metadata alone.

import { BackupError } from "../errors.ts";
import type { Snapshot } from "../plan/model.ts";
import { daysOf, type Measured, type Measurement, type MeasurementPlan } from "../plan/profile.ts";
import type { Sender } from "./ports.ts";
import { tryEstimate } from "./sync.ts";

/** Receives progress for a person who watches. */
export interface MeasureWatcher {
  onEstimate(number: number, of: number): void;
}

/**
 * Estimates the streams of a plan, one after the other. One that cannot be made is left out, but for the newest snapshot
 * in full. @throws SEND_FAILED, NO_PRIVILEGE
 */
export async function measureSnapshots(
  { intervalNs, newest, oldest, incrementals }: MeasurementPlan,
  source: Pick<Sender, "estimate">,
  watcher: MeasureWatcher,
  signal: AbortSignal,
): Promise<Measurement> {
  let number = 0;
  const show = (): void => {
    watcher.onEstimate((number += 1), incrementals.length + 2);
  };
  const inFull = (snapshot: Snapshot) => ({ snapshot, sendParent: null });
  const measured: Measured[] = [];
  for (const difference of incrementals) {
    show();
    const estimate = await tryEstimate(difference, source, signal);
    if (estimate !== null) measured.push({ ...estimate, days: daysOf(difference) });
  }
  if (measured.length === 0)
    throw new BackupError("SEND_FAILED", "no incremental stream can be made of the snapshots", {
      hint: "`sync --dry-run` shows why",
    });
  show();
  const full = await source.estimate(inFull(newest), signal);
  show();
  const old = await tryEstimate(inFull(oldest), source, signal);
  const days = daysOf({ snapshot: newest, sendParent: oldest });
  return { intervalNs, newest: full, oldest: old === null ? null : { ...old, days }, incrementals: measured };
}
