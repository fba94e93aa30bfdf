// The output of programs, through kernel pipes that a thread of the addon reads: as a stream, or straight into the
// memory of its reader.

import { closeSync } from "node:fs";
import { Readable } from "node:stream";
import { setTimeout as sleep } from "node:timers/promises";
import { openPipe, openPipeReader, type PipeReader } from "../addon/pipe.ts";
import type { StreamSummary } from "../addon/send-stream.ts";
import { abortedError, toError } from "../errors.ts";
import { faultOf } from "./exit.ts";
import { through, type Pieces } from "./pieces.ts";
import { LINGER_MS, start, type Command, type Lifetime } from "./process.ts";
import { onAbort, settlesWithin } from "./waiting.ts";
import { Withheld } from "./withhold.ts";

/** The largest pipe that the kernel grants to every user. */
export const PIPE_BYTES = 1024 * 1024;

/** The size of the pieces that a stream passes on. */
const PIECE_BYTES = 256 * 1024;

/** The amount that is read from a program before anybody asks for it; then the program has to wait. */
const READ_AHEAD_BYTES = 1024 * 1024;

/**
 * How long a failure waits at most until the earlier pieces have come and are taken, and how often it checks. On a busy
 * machine the end of a program can be known long before its last bytes have come out of the pipe.
 */
const LAST_PIECES_MS = 2_000;
const LOOK_MS = 5;

/**
 * A stream that can also be read into memory of the reader: nothing is allocated or copied then, which is most of what
 * reading costs. Read it in one way or in the other.
 */
export interface DirectReadable extends Readable {
  /** Shows every piece that is read into memory. What is read as a stream shows itself by "data", as with every stream. */
  onFilled(show: (piece: Buffer) => void): void;
  /**
   * The number of bytes filled, once nothing writes into the memory any more: all of it, unless the stream has ended. A
   * caller that asks for more before that gets its answer in turn, and the bytes that come in between are not held up.
   * @throws the error that the stream is destroyed with
   */
  readInto(memory: Buffer): Promise<number>;
}

/** Reads a stream directly, in pieces in the same memory. */
export function readDirectly(stream: DirectReadable): Pieces {
  return through(stream, async function* () {
    const memory = Buffer.allocUnsafeSlow(2 * PIECE_BYTES);
    try {
      for (let filled = memory.length; filled === memory.length;) {
        filled = await stream.readInto(memory);
        if (filled > 0) yield memory.subarray(0, filled);
      }
    } finally {
      stream.destroy();
    }
  });
}

/** The source of an output, and the conditions of its end. */
export interface ChildOutputSource {
  readonly reader: PipeReader;
  /** Resolves when everything has succeeded and no more data comes; rejects with the failure. */
  readonly success: Promise<unknown>;
  /** Stops the work. Resolves when it has ended. */
  stop(): Promise<void>;
  /** The required beginning of the output, checked before any of it is passed on. */
  readonly head?: Head | undefined;
  /** Whether the last piece is passed on only after everything has succeeded. */
  readonly withholds?: boolean;
}

/** The first bytes of an output. */
export interface Head {
  /** How many are checked, unless there are fewer. */
  readonly bytes: number;
  /** @throws an error about a wrong beginning */
  check(head: Buffer): void;
}

/**
 * The standard output of a program. It ends only after exit status 0; otherwise it is destroyed with the command's
 * failure. Destroying it ends the program, and it closes once that is gone.
 * @throws (as the stream's error) what `command.failure` makes; CONFIG when the program is missing; ABORTED
 */
export function readFrom(command: Command, signal: AbortSignal): DirectReadable {
  const pipe = openPipe(PIPE_BYTES);
  const { life } = start(command, ["ignore", pipe.writeEnd, "pipe"]);
  closeSync(pipe.writeEnd);
  const reader = openPipeReader(pipe.readEnd, false);
  const success = life.success.then(() => drained(reader, { command, life }));
  return outputOf({ reader, success, stop: () => life.stop(), head: headOf(command) }, signal);
}

/** A stream that ends only after its origin has succeeded; otherwise it is destroyed with the failure. */
export function outputOf(origin: ChildOutputSource, signal: AbortSignal): DirectReadable {
  const output = new Output(origin);
  origin.success.catch((error: unknown) => output.fail(toError(error)));
  onAbort(signal, origin.success, () => output.destroy(abortedError(signal)));
  return output;
}

class Output extends Readable implements DirectReadable {
  readonly #origin: ChildOutputSource;
  /** Not checked yet. */
  #head: Head | undefined;
  readonly #observers: ((piece: Buffer) => void)[] = [];
  #way: "directly" | "as a stream" | null = null;
  #memory: Buffer | null = null;
  readonly #withheld: Withheld;
  #isEnded = false;
  /** The piece that is being read for the stream. */
  #piece: Promise<void> = Promise.resolve();

  constructor(origin: ChildOutputSource) {
    super({ highWaterMark: READ_AHEAD_BYTES });
    this.#origin = origin;
    this.#head = origin.head;
    this.#withheld = new Withheld(origin.withholds === true ? 1 : 0);
    // It may fail before anybody reads it, and its later reader gets the error; until then, the error must not end this
    // process.
    this.on("error", () => undefined);
  }

  onFilled(show: (piece: Buffer) => void): void {
    this.#observers.push(show);
  }

  readonly readInto = async (memory: Buffer): Promise<number> => {
    try {
      this.#choose("directly");
      const filled = await this.#take(memory, true);
      if (filled > 0) for (const show of this.#observers) show(memory.subarray(0, filled));
      if (filled < memory.length) this.#end();
      return filled;
    } catch (error) {
      this.destroy(toError(error));
      throw this.errored ?? error;
    }
  };

  /** Passes on all earlier bytes before the error: the beginning of a stream that is cut off is informative, too. */
  async fail(error: Error): Promise<void> {
    await settlesWithin(this.#piece, LAST_PIECES_MS);
    for (let waited = 0; this.readableLength > 0 && waited < LAST_PIECES_MS; waited += LOOK_MS) await sleep(LOOK_MS);
    this.destroy(error);
  }

  override _read(): void {
    this.#piece = this.#pushPiece();
    this.#piece.catch((error: unknown) => this.fail(toError(error)));
  }

  override _destroy(error: Error | null, done: (error?: Error | null) => void): void {
    this.#origin.reader.cancel();
    const isOver = this.#isEnded || this.readableEnded;
    const gone = error === null && isOver ? Promise.resolve() : this.#origin.stop();
    void gone.then(() => done(error));
  }

  /** If it were read in both ways, each reader would miss the data of the other. */
  #choose(way: "directly" | "as a stream"): void {
    if (this.#way === way) return;
    if (this.#way !== null) throw new TypeError(`an output was read ${this.#way} and then ${way}`);
    this.#way = way;
  }

  /** The next bytes; fewer than requested, or none, when everything has succeeded. */
  async #take(memory: Buffer, untilFull: boolean): Promise<number> {
    const { reader, success } = this.#origin;
    const head = this.#head;
    this.#head = undefined;
    const headBytes = head?.bytes ?? 0;
    // Both are requested at once, because another call may follow.
    const begun = reader.fill(memory.subarray(0, headBytes), true);
    const followed = reader.fill(memory.subarray(headBytes), untilFull);
    if (head !== undefined) await this.#check(head, memory.subarray(0, await begun), followed);
    const filled = (await begun) + (await followed);
    if (filled === 0 || (untilFull && filled < memory.length)) await success;
    if (this.destroyed && !this.#isEnded) throw this.errored ?? new Error("the stream was closed before its end");
    return filled;
  }

  /** Nothing writes into the memory any more when it throws. */
  async #check(head: Head, found: Buffer, followed: Promise<number>): Promise<void> {
    // The error that kept it from being longer explains more.
    if (found.length < head.bytes) await this.#origin.success;
    try {
      head.check(found);
    } catch (error) {
      this.destroy(toError(error));
      await followed;
      throw error;
    }
  }

  async #pushPiece(): Promise<void> {
    this.#choose("as a stream");
    const memory = (this.#memory ??= Buffer.allocUnsafeSlow(PIECE_BYTES));
    // The head comes as a piece of its own.
    const head = this.#head;
    const filled = await (head === undefined
      ? this.#take(memory, false)
      : this.#take(memory.subarray(0, head.bytes), true));
    const isLarge = filled > memory.length / 2;
    // Little data is copied, and the memory is kept for the next piece.
    const piece = isLarge ? memory.subarray(0, filled) : Buffer.from(memory.subarray(0, filled));
    if (isLarge) this.#memory = null;
    const ready = filled === 0 ? this.#withheld.release() : this.#withheld.push(piece);
    for (const each of ready) this.push(each);
    if (filled === 0) this.push(null);
    else if (ready.length === 0) await this.#pushPiece();
  }

  /** Ends a stream that was not read as one. */
  #end(): void {
    if (this.#isEnded) return;
    this.#isEnded = true;
    this.push(null);
    this.read();
  }
}

/** The beginning that a command promises for its output. */
export function headOf(command: Command): Head | undefined {
  const { begins } = command;
  if (begins === undefined) return undefined;
  const expected = Buffer.from(begins, "latin1");
  return {
    bytes: expected.length,
    check(head) {
      if (!head.equals(expected)) throw command.failure(faultOf(command, "began its output otherwise"));
    },
  };
}

/**
 * Resolves at the end of the reading. Rejects when an exited program has left its output open in another process, and
 * nothing comes any more.
 * @throws the error of reading, or the one that `command.failure` makes
 */
export function drained(
  reader: PipeReader,
  { command, life }: { readonly command: Command; readonly life: Lifetime },
): Promise<StreamSummary> {
  // Silence counts only while there is a request: an idle reader receives nothing.
  const asked = (): number => (reader.isAsked() ? reader.received() : NaN);
  async function watch(): Promise<StreamSummary> {
    for (let before = asked(); !(await settlesWithin(reader.done, LINGER_MS)); before = asked()) {
      if (reader.received() === before) throw command.failure(faultOf(command, "left its output open"));
    }
    return reader.done;
  }
  return Promise.race([reader.done, life.success.then(watch, () => reader.done)]);
}
