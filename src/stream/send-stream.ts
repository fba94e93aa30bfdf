// The send-stream checker as a stage of a pipeline. `btrfs send` can exit 0 with a corrupt stream (stopped and
// continued, it repeats bytes), and btrfs receive believes much of what it reads: so nothing is stored or restored that
// has not been through here.

import { closeSync } from "node:fs";
import { pipeline, Transform, type Readable } from "node:stream";
import { pipeline as finished } from "node:stream/promises";
import {
  moveSendStream,
  openSendStreamChecker,
  peekIdentity,
  type RawIdentity,
  type SendStreamChecker,
  type StreamSummary,
} from "../addon/send-stream.ts";
import { openPipe, openPipeReader } from "../addon/pipe.ts";
import { BackupError, toError } from "../errors.ts";
import { drained, outputOf, PIPE_BYTES, type DirectReadable, type Head } from "./child-output.ts";
import type { ByteFeed } from "./pipeline.ts";
import { settlesWithin, start, type Command, type Lifetime } from "./process.ts";

/** How long a command is given to end by itself when what it has written is damaged. */
const GRACE_MS = 2_000;

// The kernel sends an extent compressed when that is no longer than the data it stands for, but does not count what
// ENCODED_WRITE has around it more than WRITE (80 + path against 28 + path): many tiny files grow.
const encodedOverhead = 52;

/** The error code for a damaged stream: one that `btrfs send` just made, or one that an archive holds. */
export type DamageCode = "SEND_FAILED" | "ARCHIVE_DAMAGED";

export interface CheckOptions {
  /** By default SEND_FAILED. */
  readonly code?: DamageCode | undefined;
  /** The subject of the error; by default "the send stream". */
  readonly subject?: string | undefined;
  /** Called once, before anything is passed on that comes after the first command: what it throws is the stream's error. */
  readonly onLineage?: ((lineage: StreamLineage) => void) | undefined;
  /** Called once, when the entire stream has been found good, right before it ends. */
  readonly onSummary?: ((summary: StreamSummary) => void) | undefined;
}

/** The snapshot of a stream and its send parent; `sendParent` null = full. UUIDs in lower case. */
export interface StreamLineage {
  readonly uuid: string;
  readonly ctransid: number;
  readonly sendParent: { readonly uuid: string; readonly ctransid: number } | null;
}

/** The facts that a `--no-data` stream gives about the stream it stands for. */
export interface StreamEstimate {
  /** Exact, unless the stream is sent with `--compressed-data`. */
  readonly bytes: number;
  /** With `--compressed-data` it is never larger than this. */
  readonly upperBound: number;
  /** Version of the send protocol. */
  readonly proto: number;
  readonly lineage: StreamLineage;
}

// Few large pieces instead of many small ones; the pieces themselves are passed on unchanged.
const highWaterMark = 1 << 18;

/**
 * The bytes of `source`, unchanged. It ends only when the source has ended well and all of it was a complete, undamaged
 * send stream. Otherwise it is destroyed with the error of the source, or with `code`. Destroying it destroys the
 * source. The last piece is withheld until then: a reader that acts on the END command never sees it in a stream that
 * is not good.
 */
export function checkedStream(source: Readable, options: CheckOptions = {}): Readable {
  const checker = openSendStreamChecker();
  const { onLineage, onSummary } = options;
  let withheld: Buffer | null = null;
  let isKnown = onLineage === undefined;
  const reportLineage = (): Error | null => {
    const lineage = isKnown ? null : lineageOf(checker.summary());
    if (lineage === null) return null;
    isKnown = true;
    try {
      onLineage?.(lineage);
      return null;
    } catch (error) {
      return toError(error);
    }
  };
  const checked = new Transform({
    highWaterMark,
    transform(chunk: Buffer, _encoding, done) {
      const damage = damageOf(() => checker.push(chunk), options) ?? reportLineage();
      if (damage === null && chunk.length > 0) {
        if (withheld !== null) this.push(withheld);
        withheld = chunk;
      }
      done(damage);
    },
    flush(done) {
      const damage = damageOf(() => finish(checker), options);
      if (damage === null) {
        onSummary?.(checker.summary());
        this.push(withheld);
      }
      done(damage);
    },
  });
  // The outcome reaches whoever reads `checked`; a source that fails destroys it, and the other way round.
  return pipeline(source, checked, () => undefined);
}

/**
 * The output of a command, checked by the thread that reads it. It ends only when the command has ended well and all of
 * it was a complete, undamaged send stream.
 * @param open - makes the command
 * @param head - looks at how the stream begins
 * @throws (as the stream's error) any error that `open` and `head` throw, the error that `Command.failure` makes,
 * SEND_FAILED; ABORTED
 */
export function sentStream(open: () => Promise<Command>, head: Head, signal: AbortSignal): DirectReadable {
  const pipe = openPipe(PIPE_BYTES);
  const reader = openPipeReader(pipe.readEnd, true);
  let life: Lifetime | null = null;
  let isStopped = false;
  const sending = async (): Promise<void> => {
    const started = await startInto(pipe.writeEnd, open, () => isStopped);
    life = started.life;
    await sumUp(life, drained(reader, started).catch(throwDamage));
  };
  const stop = async (): Promise<void> => {
    isStopped = true;
    await life?.stop();
  };
  return outputOf({ reader, success: sending(), stop, head, withholds: true }, signal);
}

/** Starts what `open` makes, with one end of a pipe for its output, and closes that. @throws when it is stopped before */
async function startInto(writeEnd: number, open: () => Promise<Command>, isStopped: () => boolean): Promise<Started> {
  try {
    const command = await open();
    if (isStopped()) throw new Error("it was stopped before it began");
    return { command, life: start(command, ["ignore", writeEnd, "pipe"]).life };
  } finally {
    closeSync(writeEnd);
  }
}

/**
 * Feeds programs with the output of a command, checked on a thread of its own: none of it passes through here. The
 * feeding has succeeded when the command has ended well, its end was reported, and `accept` has not thrown.
 * @param open - makes the command
 * @throws (as the feeding's failure) any error that `open` and `accept` throw, the error that `Command.failure` makes,
 * SEND_FAILED
 */
export function checkedFeed(open: () => Promise<Command>, accept: (summary: StreamSummary) => void): ByteFeed {
  return (writeEnd) => {
    let stop = (): Promise<void> => Promise.resolve();
    let isStopped = false;
    const feeding = async (): Promise<void> => {
      const pipe = openPipe(PIPE_BYTES);
      const { moved, cancel } = startMoving(pipe.readEnd, writeEnd);
      stop = async () => cancel();
      const { life } = await startInto(pipe.writeEnd, open, () => isStopped);
      stop = async () => {
        cancel();
        await life.stop();
      };
      accept(await sumUp(life, moved));
    };
    return { done: feeding(), stop: () => ((isStopped = true), stop()) };
  };
}

interface Started {
  readonly command: Command;
  readonly life: Lifetime;
}

interface Moving {
  readonly moved: Promise<StreamSummary>;
  cancel(): void;
}

function startMoving(readEnd: number, writeEnd: number): Moving {
  let cancel = (): void => undefined;
  const moved = new Promise<StreamSummary>((resolve, reject) => {
    cancel = moveSendStream(readEnd, writeEnd, (failure, summary) => {
      if (failure === null) resolve(summary);
      else reject(toDamage(failure));
    });
  });
  moved.catch(() => undefined);
  return { moved, cancel };
}

/** A command that fails is the cause of damage in its stream, unless it fails because nobody reads that. */
async function sumUp(life: Lifetime, moved: Promise<StreamSummary>): Promise<StreamSummary> {
  const damage = await moved.then(() => null, toError);
  if (damage !== null && !(await settlesWithin(life.success, GRACE_MS))) {
    await life.stop();
    throw damage;
  }
  await life.success.catch((failure: unknown) => {
    throw damage !== null && isUnread(failure) ? damage : failure;
  });
  if (damage !== null) throw damage;
  const summary = await moved;
  rethrowDamage(() => assertHasData(summary));
  return summary;
}

/** @throws Error unless it is a complete send stream, with the data of files */
function finish(checker: SendStreamChecker): void {
  checker.finish();
  assertHasData(checker.summary());
}

/**
 * `btrfs send --no-data` has lengths where data should be: `btrfs receive` makes files full of zeros of it, without an
 * error.
 */
function assertHasData({ commands }: StreamSummary): void {
  if ((commands["UPDATE_EXTENT"]?.count ?? 0) === 0) return;
  throw new Error(
    "it is a stream without the data of files (btrfs send --no-data), which only serves to estimate sizes",
  );
}

function isUnread(failure: unknown): boolean {
  return failure instanceof BackupError && /SIGPIPE|Broken pipe/.test(Object.values(failure.context).join(" "));
}

/**
 * Reads a `--no-data` stream to its end.
 * @throws SEND_FAILED, and any error that the source is destroyed with
 */
export async function estimateFrom(source: Readable): Promise<StreamEstimate> {
  const checker = openSendStreamChecker();
  await finished(source, async (chunks: AsyncIterable<Buffer>) => {
    for await (const chunk of chunks) rethrowDamage(() => checker.push(chunk));
  });
  rethrowDamage(() => checker.finish());
  const { identity, estimatedBytes: bytes, commands } = checker.summary();
  if (identity === null) throw new BackupError("INTERNAL", "a whole send stream without its first command");
  const upperBound = bytes + encodedOverhead * (commands["UPDATE_EXTENT"]?.count ?? 0);
  return { bytes, upperBound, proto: identity.version, lineage: toLineage(identity) };
}

/** From the first 350 bytes of a send stream; null when these are no send stream (encrypted, compressed, cut). */
export function peekLineage(bytes: Buffer): StreamLineage | null {
  const identity = peekIdentity(bytes);
  return identity === null ? null : toLineage(identity);
}

/** Version of the protocol, from the first bytes of a send stream; null when these are no send stream. */
export function peekProto(bytes: Buffer): number | null {
  return peekIdentity(bytes)?.version ?? null;
}

/** The lineage of the stream that a summary describes. */
export function lineageOf({ identity }: StreamSummary): StreamLineage | null {
  return identity === null ? null : toLineage(identity);
}

function toLineage(identity: RawIdentity): StreamLineage {
  const { uuid, ctransid, cloneUuid, cloneCtransid } = identity;
  const sendParent = cloneUuid === null || cloneCtransid === null ? null : { uuid: cloneUuid, ctransid: cloneCtransid };
  return { uuid, ctransid, sendParent };
}

function rethrowDamage(check: () => void): void {
  const damage = damageOf(check);
  if (damage !== null) throw damage;
}

function damageOf(check: () => void, options: CheckOptions = {}): BackupError | null {
  try {
    check();
    return null;
  } catch (cause) {
    return toDamage(cause, options);
  }
}

function toDamage(
  cause: unknown,
  { code = "SEND_FAILED", subject = "the send stream" }: CheckOptions = {},
): BackupError {
  return new BackupError(code, `${subject} is damaged: ${toError(cause).message}`, { cause });
}

/** @throws as damage any failure that is not a program's */
function throwDamage(failure: unknown): never {
  throw failure instanceof BackupError ? failure : toDamage(failure);
}
