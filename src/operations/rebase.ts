// Sends a snapshot again, as the difference to a better parent, in place of its archive.

import type { Inventory } from "../plan/inventory.ts";
import { examine, takeInventory, type ArchiveView } from "./inventory.ts";
import type { LocalSnapshots } from "./ports.ts";
import {
  runStep,
  type EstimatedStep,
  type Receipt,
  type StepContext,
  type StepProgress,
  type SyncEdges,
  type SyncOptions,
} from "./sync-snapshot.ts";
import { plannedChain } from "./sync.ts";

/** The snapshots of a subvolume beside all archives of the container. */
export async function takeWholeInventory(
  local: LocalSnapshots,
  view: ArchiveView,
  signal: AbortSignal,
): Promise<Inventory> {
  return await examine(await takeInventory(local, view, signal), "container", view, signal);
}

export interface RebaseContext {
  readonly options: SyncOptions;
  readonly onProgress: (progress: StepProgress) => void;
}

/** Carries out the step of a rebase. @throws as {@link runStep} */
export async function runRebase(
  estimated: EstimatedStep,
  edges: SyncEdges,
  { options, onProgress }: RebaseContext,
  signal: AbortSignal,
): Promise<Receipt> {
  const { step } = estimated;
  const parentChain = plannedChain(step);
  const send: StepContext["send"] = (through) => edges.source.send({ ...step, through }, signal);
  return await runStep(estimated, { edges, options, parentChain, send, onProgress }, signal);
}
