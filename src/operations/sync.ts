// Carries a sync plan out: one receipt for each snapshot sent, one failure for each that could not be. A failure fails
// the snapshots that build on it, not the others; only when nothing more can succeed does the run stop.

import { Writable, type Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { BackupError, toBackupError } from "../errors.ts";
import { formatMetadata } from "../plan/key.ts";
import { largestObject, planLayout, type Layout, type TransferPolicy } from "../plan/layout.ts";
import type { Estimate, Inventory, UploadStep } from "../plan/model.ts";
import { planSync, type SyncPlan } from "../plan/sync.ts";
import { observeBytes } from "../stream/observe.ts";
import { spool } from "../stream/spool.ts";
import type { Container, LocalSnapshots, SnapshotSource, Stored } from "./edges.ts";
import { examine, takeInventory } from "./inventory.ts";

export interface SyncEdges {
  readonly source: SnapshotSource;
  readonly container: Container;
}

export interface SyncOptions {
  readonly policy: TransferPolicy;
  /** Name and version of this program, for the archives' metadata. */
  readonly tool: string;
  /** Produce, check and count every stream, and store nothing. */
  readonly dryRun: boolean;
  /** Where to keep each stream on disk before it is sent; null = nowhere. */
  readonly spoolDirectory: string | null;
  /** Milliseconds of a clock that never steps back. */
  readonly now: () => number;
}

/** A step with what is known of its stream before it is made. */
export interface EstimatedStep {
  readonly step: UploadStep;
  /** Null when it was not asked for. */
  readonly estimate: Estimate | null;
}

export interface Receipt {
  readonly step: UploadStep;
  /** Of the stream; in a dry run nothing of it was stored. */
  readonly bytes: number;
  /** Null in a dry run. */
  readonly stored: Stored | null;
  readonly elapsedMs: number;
}

export interface Failure {
  readonly step: UploadStep;
  readonly error: BackupError;
}

export interface SyncOutcome {
  readonly receipts: readonly Receipt[];
  readonly failures: readonly Failure[];
  /** What stopped the run before its end; null when every step was tried or failed by another. */
  readonly stoppedBy: BackupError | null;
}

/** What a person watching wants to know. */
export interface SyncWatcher {
  onStart(step: EstimatedStep): void;
  /** Bytes of the current stream that are read, and those the store has confirmed. */
  onProgress(bytes: { readonly read: number; readonly stored: number }): void;
  onReceipt(receipt: Receipt): void;
  onFailure(failure: Failure): void;
}

/** The plan, with every archive examined that it rests on. */
export async function prepareSync(
  local: LocalSnapshots,
  container: Container,
  signal: AbortSignal,
): Promise<{ readonly inventory: Inventory; readonly plan: SyncPlan }> {
  let inventory = await takeInventory(local, container, signal);
  for (;;) {
    const plan = planSync(inventory);
    if (plan.unexamined.length === 0) return { inventory, plan };
    inventory = await examine(inventory, plan.unexamined, container, signal);
  }
}

/** Sizes of the streams of a plan. Costs about 25 µs for each inode that has to be looked at. */
export async function estimateSteps(
  steps: readonly UploadStep[],
  source: SnapshotSource,
  signal: AbortSignal,
): Promise<EstimatedStep[]> {
  const estimated: EstimatedStep[] = [];
  for (const step of steps) estimated.push({ step, estimate: await source.estimate(step, signal) });
  return estimated;
}

/** Sends one snapshot after the other. Never throws for what a step does: failures are part of the outcome. */
export async function runSync(
  steps: readonly EstimatedStep[],
  edges: SyncEdges,
  context: { readonly options: SyncOptions; readonly watcher: SyncWatcher },
  signal: AbortSignal,
): Promise<SyncOutcome> {
  const { watcher } = context;
  const receipts: Receipt[] = [];
  const failures: Failure[] = [];
  const failed = new Set<string>();
  for (const estimated of steps) {
    const { step } = estimated;
    try {
      refuseWithoutParent(step, failed);
      watcher.onStart(estimated);
      const receipt = await runStep(estimated, edges, context, signal);
      receipts.push(receipt);
      watcher.onReceipt(receipt);
    } catch (thrown) {
      const error = toBackupError(thrown);
      const failure = { step, error };
      failures.push(failure);
      failed.add(step.snapshot.uuid);
      watcher.onFailure(failure);
      if (endsTheRun(error)) return { receipts, failures, stoppedBy: error };
    }
  }
  return { receipts, failures, stoppedBy: null };
}

/** Failures after which no other snapshot can fare better. */
function endsTheRun(error: BackupError): boolean {
  switch (error.code) {
    case "ABORTED":
    case "ACCESS_DENIED":
    case "CONTAINER_MISSING":
    case "STORE_UNAVAILABLE":
    case "NO_PRIVILEGE":
    case "INTERNAL":
      return true;
    default:
      return false;
  }
}

function refuseWithoutParent({ snapshot, sendParent }: UploadStep, failed: ReadonlySet<string>): void {
  if (sendParent === null || !failed.has(sendParent.uuid)) return;
  throw new BackupError("STEP_FAILED", `${snapshot.path} was not sent: ${sendParent.path}, which it builds on, failed`);
}

async function runStep(
  { step, estimate }: EstimatedStep,
  edges: SyncEdges,
  context: { readonly options: SyncOptions; readonly watcher: SyncWatcher },
  signal: AbortSignal,
): Promise<Receipt> {
  const { options, watcher } = context;
  const layout = chooseLayout(step, estimate, edges.container, options.policy);
  const started = options.now();
  const progress = { read: 0, stored: 0 };
  const stream = edges.source.send(step, signal);
  observeBytes(stream, (bytes) => {
    progress.read += bytes;
    watcher.onProgress(progress);
  });
  if (options.dryRun) {
    await discard(stream, signal);
    return { step, bytes: progress.read, stored: null, elapsedMs: options.now() - started };
  }
  const body = options.spoolDirectory === null ? stream : await spool(stream, options.spoolDirectory);
  const stored = await edges.container.put(
    step.key,
    body,
    {
      ...layout,
      metadata: formatMetadata(step, {
        encoding: "identity",
        sendProto: edges.source.sendProto,
        partBytes: layout.partBytes,
        tool: options.tool,
      }),
      onProgress: (bytes) => {
        progress.stored = bytes;
        watcher.onProgress(progress);
      },
    },
    signal,
  );
  return { step, bytes: progress.read, stored, elapsedMs: options.now() - started };
}

function chooseLayout(
  step: UploadStep,
  estimate: Estimate | null,
  container: Container,
  policy: TransferPolicy,
): Layout {
  const layout = planLayout(estimate, container.limits, policy);
  if (layout !== null) return layout;
  throw new BackupError(
    "STEP_FAILED",
    `${step.snapshot.path} does not fit one object: its stream has ${estimate?.bytes ?? 0} bytes, and with ` +
      `${policy.memoryBytes} bytes of memory ${largestObject(container.limits, policy)} can be stored`,
    { hint: "allow more memory with --memory", context: { key: step.key } },
  );
}

async function discard(stream: Readable, signal: AbortSignal): Promise<void> {
  const sink = new Writable({
    write(_chunk, _encoding, done): void {
      done();
    },
  });
  await pipeline(stream, sink, { signal });
}
