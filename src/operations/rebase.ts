// Sends a snapshot again, as the difference to a better parent, in place of its archive.

import type { Archive } from "../plan/model.ts";
import type { Inventory } from "../plan/inventory.ts";
import { examine, takeInventory, type ArchiveView } from "./inventory.ts";
import type { LocalSnapshots } from "./ports.ts";
import {
  runStep,
  type EstimatedStep,
  type Receipt,
  type StepProgress,
  type SyncEdges,
  type SyncOptions,
} from "./sync-snapshot.ts";

/** The snapshots of a subvolume beside all archives of the container. */
export async function takeWholeInventory(
  local: LocalSnapshots,
  view: ArchiveView,
  signal: AbortSignal,
): Promise<Inventory> {
  return await examine(await takeInventory(local, view, signal), "container", view, signal);
}

/** All archives of an inventory. */
export function allArchives({ archives, others }: Inventory): readonly Archive[] {
  return [...others, ...archives];
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
  const { sendParentArchive: parent } = step;
  const parentChain = parent === undefined ? null : { length: parent.chainLength, bytes: parent.chainBytes };
  const send = (through: Parameters<typeof edges.source.send>[0]["through"]) =>
    edges.source.send({ ...step, through: through ?? null }, signal);
  return await runStep(estimated, { edges, options, parentChain, send, onProgress }, signal);
}
