// The send-stream checker as a stage of a pipeline. `btrfs send` can exit 0 with a corrupt stream (stopped and
// continued, it repeats bytes), and btrfs receive believes much of what it reads: so everything that is stored or
// restored passes through here.

import { closeSync } from "node:fs";
import {
  moveSendStream,
  openSendStreamChecker,
  type SendStreamChecker,
  type StreamSummary,
} from "../addon/send-stream.ts";
import { openPipe, openPipeReader } from "../addon/pipe.ts";
import { toError } from "../errors.ts";
import { drained, outputOf, PIPE_BYTES, type DirectReadable, type Head } from "./child-output.ts";
import type { ByteFeed } from "./pipeline.ts";
import { through, type Pieces } from "./pieces.ts";
import { start, type Command, type ProcessLifetime } from "./process.ts";
import { lineageOf, type StreamLineage } from "./stream-facts.ts";
import { settlesWithin } from "./waiting.ts";
import { withhold } from "./withhold.ts";
import { damageOf, rethrowDamage, throwDamage, toDamage, type DamageSubject } from "./stream-damage.ts";

export interface CheckOptions extends DamageSubject {
  /**
   * Called once, before anything after the first command is passed on; the error that it throws becomes the stream's
   * error.
   */
  readonly onLineage?: ((lineage: StreamLineage) => void) | undefined;
  /** Called once, when the entire stream is known to be good, right before it ends. */
  readonly onSummary?: ((summary: StreamSummary) => void) | undefined;
  /** Reads the stream in place of a new checker. */
  readonly checker?: SendStreamChecker | undefined;
}

/** How long a command may take to end by itself after its output turned out to be damaged. */
const GRACE_MS = 2_000;

/**
 * The bytes of `source`, unchanged. They end only when the source has ended well and all of it was a complete, undamaged
 * send stream. Otherwise they fail with the error of the source, or with `code`. Destroying them destroys the source. The
 * last byte is withheld until then: a reader that acts on the END command never sees it in a stream that is not good.
 */
export function checkedStream(source: Pieces, options: CheckOptions = {}): Pieces {
  const { onLineage, onSummary, checker = openChecker(source) } = options;
  let isKnown = onLineage === undefined;
  const reportLineage = (): void => {
    const lineage = isKnown ? null : lineageOf(checker.summary());
    if (lineage === null) return;
    isKnown = true;
    onLineage?.(lineage);
  };
  const check = {
    update(piece: Buffer): void {
      const damage = damageOf(() => checker.push(piece), options);
      if (damage !== null) throw damage;
      reportLineage();
    },
    finish(): void {
      const damage = damageOf(() => finish(checker), options);
      if (damage !== null) throw damage;
      onSummary?.(checker.summary());
    },
  };
  return through(source, (pieces) => withhold(pieces, 1, check));
}

/** @throws CONFIG where the addon does not load; then nobody will read the source */
function openChecker(source: Pieces): SendStreamChecker {
  try {
    return openSendStreamChecker();
  } catch (error) {
    source.destroy();
    throw error;
  }
}

/**
 * The output of a command, checked by the thread that reads it. It ends only when the command has ended well and all of
 * it was a complete, undamaged send stream.
 * @param open - makes the command
 * @param head - checks how the stream begins
 * @throws (as the stream's error) any error that `open` and `head` throw, the error that `Command.failure` makes,
 * SEND_FAILED; ABORTED
 */
export function sentStream(open: () => Promise<Command>, head: Head, signal: AbortSignal): DirectReadable {
  const pipe = openPipe(PIPE_BYTES);
  const reader = openPipeReader(pipe.readEnd, true);
  let life: ProcessLifetime | null = null;
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
  readonly life: ProcessLifetime;
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
async function sumUp(life: ProcessLifetime, moved: Promise<StreamSummary>): Promise<StreamSummary> {
  const damage = await moved.then(() => null, toError);
  if (damage !== null && !(await settlesWithin(life.success, GRACE_MS))) {
    await life.stop();
    throw damage;
  }
  await life.success.catch((failure: unknown) => {
    throw damage !== null && isUnread(life) ? damage : failure;
  });
  if (damage !== null) throw damage;
  const summary = await moved;
  rethrowDamage(() => assertHasData(summary));
  return summary;
}

/** @throws Error unless it is a complete send stream, with the data of files */
export function finish(checker: SendStreamChecker): void {
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

/** True for a command that nobody read to its end. */
function isUnread(life: ProcessLifetime): boolean {
  const exit = life.exit();
  return exit !== null && (exit.signal === "SIGPIPE" || /SIGPIPE|Broken pipe/.test(exit.stderr));
}
