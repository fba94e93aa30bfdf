// Sends one snapshot: makes its stream and stores it, in another way if the first one turns out to be impossible.

import { Writable, type Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { BackupError } from "../errors.ts";
import { planLayout, TOO_LONG_FOR_ONE, type Layout, type Load, type TransferPolicy } from "../plan/layout.ts";
import { mostVolumes } from "../plan/manifest.ts";
import type { ChainSize, Encoding, Estimate, UploadStep } from "../plan/model.ts";
import { openCheckpoints } from "../state/checkpoints.ts";
import { observe } from "../stream/tap.ts";
import type { Command } from "../stream/process.ts";
import type { Sender, SendStream } from "./ports.ts";
import { chooseEncoder, plannedEncoder, type Encoder, type PreparedEncoding } from "./encode.ts";
import { assertParentArchived, dropWithoutParent } from "./parent-archive.ts";
import { storeArchive } from "./write-archive.ts";
import type { Container, OpenParts, Stored, UploadProgress } from "./store-ports.ts";

/** The edges between which steps are carried out. */
export interface SyncEdges {
  readonly source: Sender;
  readonly container: Container;
}

export interface SyncOptions {
  readonly policy: TransferPolicy;
  /** Name and version of this program, for the archives' metadata. */
  readonly tool: string;
  /** Produce, check and count every stream, and store nothing. */
  readonly dryRun: boolean;
  readonly encoding: PreparedEncoding;
  /** Where to keep each object on disk before it is sent; null = nowhere. */
  readonly spoolDirectory: string | null;
  /** Where to note which encrypted volumes are stored; null = nowhere, and they are sent again. */
  readonly checkpointDirectory: string | null;
  /** Resume what earlier runs have left. */
  readonly resume: boolean;
  /** Milliseconds of a clock that never steps back. */
  readonly now: () => number;
}

/** A step, with the facts that are known of its stream before it is made. */
export interface EstimatedStep {
  readonly step: UploadStep;
  /** Null when it was not asked for, or is not known. */
  readonly estimate: Estimate | null;
}

/** How far a step is, in bytes. */
export interface StepProgress extends UploadProgress {
  /** Bytes of the stream that were read. */
  readonly read: number;
  /** Encoded bytes made of them; the same number where nothing is encoded. */
  readonly encoded: number;
}

/**
 * How much of the stream has left. Compressed bytes do not measure it, so this takes the share of the encoded bytes
 * that has left, and applies it to the bytes read.
 */
export function bytesSent({ read, encoded, stored, inFlight }: StepProgress): number {
  const sent = stored + inFlight;
  return encoded === 0 ? Math.min(sent, read) : Math.min(read, Math.round((read * sent) / encoded));
}

export interface Receipt {
  readonly step: UploadStep;
  /** Size of the stream; in a dry run nothing of it was stored. */
  readonly bytes: number;
  /** Null in a dry run. */
  readonly stored: StoredArchive | null;
  readonly elapsedMs: number;
}

export interface StoredArchive extends Stored {
  readonly encoding: Encoding;
}

/** How to carry out a step. A failed attempt may change how the next one does it. */
interface AttemptPlan {
  readonly estimate: Estimate | null;
  /** See {@link import("./write-archive.ts").Storing.trusted}. */
  readonly trusted: number;
}

/** The inputs of a step. */
export interface StepContext {
  readonly edges: SyncEdges;
  readonly options: SyncOptions;
  /** The chain of the archive that the step builds on; null for a full one. */
  readonly parentChain: Pick<ChainSize, "length" | "bytes"> | null;
  /** Makes the stream of the step, or what a program makes of it; called once for every attempt. */
  readonly send: (through: Command | null) => SendStream;
  readonly onProgress: (progress: StepProgress) => void;
}

/** Sends one snapshot. @throws any error that keeps it from being stored */
export async function runStep(
  { step, estimate }: EstimatedStep,
  context: StepContext,
  signal: AbortSignal,
): Promise<Receipt> {
  const started = context.options.now();
  const { container } = context.edges;
  if (!context.options.dryRun) await assertParentArchived(step, container, signal);
  let plan: AttemptPlan = { estimate, trusted: context.options.resume ? Infinity : 0 };
  for (;;) {
    try {
      const sent = await tryStep(step, plan, context, signal);
      if (sent.stored !== null) await dropWithoutParent(step, sent.stored, container, signal);
      return { step, ...sent, elapsedMs: context.options.now() - started };
    } catch (error) {
      plan = planNextAttempt(plan, error);
    }
  }
}

/**
 * Plans the next attempt: leftovers of an earlier run, and an estimate that was too small, are no reason to fail.
 * @throws any other error
 */
function planNextAttempt(plan: AttemptPlan, error: unknown): AttemptPlan {
  const code = error instanceof BackupError ? error.code : null;
  if (code === "RESUME_REFUSED" && plan.trusted > 0) return { ...plan, trusted: trustedAfter(plan, error) };
  if (code === "STREAM_TOO_LONG" && plan.estimate !== TOO_LONG_FOR_ONE) return { ...plan, estimate: TOO_LONG_FOR_ONE };
  throw error;
}

/** The volumes before the refused one are right; there are fewer each time, so that this ends. */
function trustedAfter({ trusted }: AttemptPlan, error: unknown): number {
  const volume = error instanceof BackupError ? error.context["volume"] : undefined;
  return typeof volume === "number" && volume <= trusted ? volume - 1 : 0;
}

async function tryStep(
  step: UploadStep,
  { estimate, trusted }: AttemptPlan,
  { edges, options, parentChain, send, onProgress }: StepContext,
  signal: AbortSignal,
): Promise<Pick<Receipt, "bytes" | "stored">> {
  const { container, source } = edges;
  const direct = options.dryRun ? null : planDirect(step, estimate, { container, options });
  const openParts = canResume(options, trusted) ? await container.findOpenParts(step.key, signal) : null;
  let progress: StepProgress = { read: 0, encoded: 0, stored: 0, resumed: 0, inFlight: 0 };
  const stream = send(direct === null ? null : options.encoding.encryptor);
  observe(stream, ({ length }) => {
    progress = { ...progress, read: progress.read + length };
    onProgress(progress);
  });
  if (options.dryRun) {
    await discard(stream, signal);
    return { bytes: progress.read, stored: null };
  }
  const { encoder, plain } = direct ?? (await chooseEncoder(stream, options.encoding, signal));
  const storing = {
    step,
    encoder,
    layout: chooseLayout(step, { estimate, cost: encoder.cost }, { container, openParts, policy: options.policy }),
    openParts,
    checkpoints: await openCheckpoints(options.checkpointDirectory, `${container.name}\n${step.key}`),
    spoolDirectory: options.spoolDirectory,
    facts: { sendProto: source.sendProto, tool: options.tool, parentChain },
    trusted,
    onEncoded: (bytes: number) => void (progress = { ...progress, encoded: progress.encoded + bytes }),
    onProgress: (upload: UploadProgress) => {
      progress = { ...progress, ...upload };
      onProgress(progress);
    },
  };
  const stored = await storeArchive(plain ?? stream, storing, container, signal);
  return { bytes: stream.sentBytes?.() ?? progress.read, stored: { ...stored, encoding: encoder.cost.encoding } };
}

/**
 * Where a stream is only encrypted, and goes into one object, it does not pass through this process: `btrfs send`
 * writes and age reads. Null for other streams.
 */
function planDirect(
  step: UploadStep,
  estimate: Estimate | null,
  { container, options }: { readonly container: Container; readonly options: SyncOptions },
): { readonly encoder: Encoder; readonly plain: null } | null {
  const encoder = plannedEncoder(options.encoding);
  if (encoder === null || options.encoding.encryptor === null || step.replaces !== undefined) return null;
  const context = { container, openParts: null, policy: options.policy };
  const { volumeBytes } = chooseLayout(step, { estimate, cost: encoder.cost }, context);
  return volumeBytes === null ? { encoder: { ...encoder, programs: [] }, plain: null } : null;
}

/** Encrypted bytes differ each time, so they can never be resumed. */
function canResume({ dryRun, encoding }: SyncOptions, trusted: number): boolean {
  return !dryRun && encoding.encryptor === null && trusted > 0;
}

interface LayoutContext {
  readonly container: Container;
  readonly openParts: OpenParts | null;
  readonly policy: TransferPolicy;
}

function chooseLayout(
  { snapshot, key }: UploadStep,
  load: Load,
  { container, openParts, policy }: LayoutContext,
): Layout {
  const { limits } = container;
  const layout = planLayout(load, limits, policy, {
    mostVolumes: mostVolumes(key),
    bytesPerSecond: container.uploadRate(),
    openPartBytes: openParts?.partBytes ?? null,
  });
  if (layout !== null) return layout;
  throw new BackupError(
    "CONFIG",
    `${snapshot.path} cannot be sent: parts of ${limits.minPartBytes} bytes, the smallest that the store takes, do not fit ` +
      `${policy.memoryBytes} bytes of memory`,
    { hint: "allow more with --memory", context: { key } },
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
