// Carries a sync plan out: one receipt for each snapshot sent, one failure for each that could not be. After a failure the
// others are planned again, without it; only when nothing more can succeed does the run stop.

import { BackupError, toBackupError } from "../errors.ts";
import type { ChainSize, Difference, Estimate, Key, UploadStep } from "../plan/model.ts";
import { planSync, type SyncPlan, type SyncRequest } from "../plan/sync.ts";
import type { Command } from "../stream/process.ts";
import type { LocalSnapshots, Sender, SendStream } from "./ports.ts";
import { confirmAncestors, examine, takeInventory, type ArchiveView } from "./inventory.ts";
import {
  runStep,
  type EstimatedStep,
  type Receipt,
  type StepProgress,
  type SyncEdges,
  type SyncOptions,
} from "./sync-snapshot.ts";
import { endsTheRun } from "./ends-the-run.ts";
import type { Inventory } from "../plan/inventory.ts";

export interface Failure {
  readonly step: UploadStep;
  readonly error: BackupError;
}

export interface SyncOutcome {
  readonly receipts: readonly Receipt[];
  readonly failures: readonly Failure[];
  /** Steps that were not tried any more. */
  readonly untried: readonly UploadStep[];
  /** The error that stopped the run before its end; null when every step was tried or failed because of another. */
  readonly stoppedBy: BackupError | null;
}

/** Receives progress for a person who watches. */
export interface SyncWatcher {
  onStart(step: EstimatedStep): void;
  onProgress(progress: StepProgress): void;
  onReceipt(receipt: Receipt): void;
  onFailure(failure: Failure): void;
}

/** The plan, with every archive examined that it rests on. */
export async function prepareSync(
  local: LocalSnapshots,
  view: ArchiveView,
  request: SyncRequest,
  signal: AbortSignal,
): Promise<{ readonly inventory: Inventory; readonly plan: SyncPlan }> {
  let inventory = await takeInventory(local, view, signal);
  for (let isConfirmed = view.relies === true; ;) {
    const plan = planSync(inventory, request);
    if (plan.examine !== null) inventory = await examine(inventory, plan.examine, view, signal);
    else if (isConfirmed)
      return { inventory, plan: { ...plan, findings: [...(local.doubts ?? []), ...plan.findings] } };
    else {
      inventory = await confirmAncestors(inventory, view, signal);
      isConfirmed = true;
    }
  }
}

/**
 * Sizes of the streams of a plan. Costs about 25 µs for each inode that has to be examined. A stream that cannot be
 * made has no size: it will fail when its turn comes, and the others will not.
 */
export async function estimateSteps(
  steps: readonly UploadStep[],
  source: Sender,
  signal: AbortSignal,
): Promise<EstimatedStep[]> {
  const estimated: EstimatedStep[] = [];
  for (const step of steps) estimated.push({ step, estimate: await tryEstimate(step, source, signal) });
  return estimated;
}

/** The size of a stream; null when it cannot be made. */
export async function tryEstimate(
  difference: Difference,
  source: Pick<Sender, "estimate">,
  signal: AbortSignal,
): Promise<Estimate | null> {
  return await source.estimate(difference, signal).catch((error: unknown) => {
    if (error instanceof BackupError && error.code === "SEND_FAILED") return null;
    throw error;
  });
}

/** The steps of a run, and the facts they were planned from. */
export interface SyncRun {
  readonly steps: readonly EstimatedStep[];
  readonly inventory: Inventory;
  readonly request: SyncRequest;
}

/**
 * Sends one snapshot after the other. Where one fails, the rest is planned again without it. Never throws for what a step
 * does: failures are part of the outcome.
 */
export async function runSync(
  run: SyncRun,
  edges: SyncEdges,
  context: { readonly options: SyncOptions; readonly watcher: SyncWatcher },
  signal: AbortSignal,
): Promise<SyncOutcome> {
  const { options, watcher } = context;
  const receipts: Receipt[] = [];
  const failures: Failure[] = [];
  const streams = sendAhead(edges.source, signal);
  const queue = [...run.steps].reverse();
  const chains = openChainSizes();
  try {
    for (let estimated = queue.pop(); estimated !== undefined; estimated = queue.pop()) {
      const { step } = estimated;
      try {
        watcher.onStart(estimated);
        const next = queue.at(-1)?.step ?? null;
        const send = (through: Command | null): SendStream => streams.take(step, next, through);
        const onProgress = (progress: StepProgress): void => {
          watcher.onProgress(progress);
        };
        const parentChain = chains.before(step);
        const receipt = await runStep(estimated, { edges, options, parentChain, send, onProgress }, signal);
        receipts.push(receipt);
        chains.add(receipt);
        watcher.onReceipt(receipt);
      } catch (thrown) {
        const failure = { step, error: toBackupError(thrown) };
        failures.push(failure);
        watcher.onFailure(failure);
        if (endsTheRun(failure.error))
          return { receipts, failures, untried: queue.reverse().map((each) => each.step), stoppedBy: failure.error };
        const rest = await planAgain({ ...run, steps: queue }, { receipts, failures }, edges.source, signal);
        queue.splice(0, Infinity, ...rest.reverse());
      }
    }
    return { receipts, failures, untried: [], stoppedBy: null };
  } finally {
    streams.drop();
  }
}

type KnownChain = Pick<ChainSize, "length" | "bytes">;

/** The chain of the archive that a step builds on, as it was planned; null for a full one. */
export function plannedChain({ sendParentArchive: parent }: UploadStep): KnownChain | null {
  return parent === undefined ? null : { length: parent.chainLength, bytes: parent.chainBytes };
}

interface ChainSizes {
  /** Returns the chain of the archive that a step builds on; null for a full one. */
  before(step: UploadStep): KnownChain | null;
  add(receipt: Receipt): void;
}

/** Measures the chains of a run: how large an archive becomes is known only when it is stored. */
function openChainSizes(): ChainSizes {
  const sent = new Map<Key, KnownChain>();
  const before = (step: UploadStep): KnownChain | null =>
    (step.sendParentArchive === undefined ? undefined : sent.get(step.sendParentArchive.key)) ?? plannedChain(step);
  return {
    before,
    add: ({ step, stored }) => {
      const { length, bytes } = before(step) ?? { length: 0, bytes: 0 };
      const own = stored?.bytes ?? null;
      sent.set(step.key, { length: length + 1, bytes: bytes === null || own === null ? null : bytes + own });
    },
  };
}

/**
 * Plans the steps that remain, without those that failed. Steps that would have built on those build on archives
 * instead.
 */
async function planAgain(
  { inventory, request, steps }: SyncRun,
  done: Pick<SyncOutcome, "receipts" | "failures">,
  source: Sender,
  signal: AbortSignal,
): Promise<EstimatedStep[]> {
  const sent = new Set(done.receipts.map(({ step }) => step.snapshot.uuid));
  const leftOut = new Set(done.failures.map(({ step }) => step.snapshot.uuid));
  const before = new Map(steps.map((each) => [each.step.key, each]));
  const again: EstimatedStep[] = [];
  for (const step of planSync(inventory, { ...request, sent, leftOut }).steps) {
    const same = before.get(step.key);
    if (same?.step.sendParent?.uuid === step.sendParent?.uuid && same !== undefined) again.push(same);
    else if (same?.estimate == null) again.push({ step, estimate: null });
    else again.push(...(await estimateSteps([step], source, signal)));
  }
  return again;
}

/**
 * The streams of a run. While the last parts of one are under way to the store, the next one is begun: on a large tree
 * `btrfs send` searches for differences for a while before it writes anything. Then it waits with a full pipe.
 */
function sendAhead(source: Sender, signal: AbortSignal): Ahead {
  let ahead: { readonly step: UploadStep; readonly through: Command | null; readonly stream: SendStream } | null = null;
  const drop = (): void => {
    ahead?.stream.destroy();
    ahead = null;
  };
  return {
    take(step, next, through) {
      const begun = ahead?.step === step && ahead.through === through ? ahead.stream : null;
      if (begun === null) drop();
      ahead = null;
      const stream = begun ?? source.send({ ...step, through }, signal);
      stream.once("end", () => {
        if (next === null || signal.aborted) return;
        try {
          ahead = { step: next, through, stream: source.send({ ...next, through }, signal) };
        } catch {
          // Its next user gets the error, when it is tried again.
          return;
        }
        // Should it fail before anybody reads it, its reader will get the error.
        ahead.stream.on("error", () => undefined);
      });
      return stream;
    },
    drop,
  };
}

interface Ahead {
  take(step: UploadStep, next: UploadStep | null, through: Command | null): SendStream;
  drop(): void;
}
