// Several programs in a row, all at work at the same time, each reading what the one before it writes. Between them the
// data goes through pipes of the kernel, not through this process.

import { closeSync } from "node:fs";
import { Socket } from "node:net";
import type { Writable } from "node:stream";
import { finished } from "node:stream/promises";
import { countUnread, enlargePipe, openPipe, openPipeReader } from "../addon/pipe.ts";
import { drained, headOf, outputOf, PIPE_BYTES, type DirectReadable } from "./child-output.ts";
import { faultOf } from "./exit.ts";
import { writePieces, type Pieces } from "./pieces.ts";
import { start, type Command, type Lifetime } from "./process.ts";
import { settlesWithin } from "./waiting.ts";

/** How often to check whether a program that has ended has left something unread, as long as more may come. */
const LOOK_MS = 50;

/** How long to wait for a failure nearer to the source, which is the cause when one comes. */
const CAUSE_MS = 100;

/** Lets a program that reads our output take more at once: it was started with a pipe that is small. */
export function widenOutput(output: Writable): void {
  if ("fd" in output && typeof output.fd === "number") enlargePipe(output.fd, PIPE_BYTES);
}

/** Fills the pipe that the first program reads. */
export interface Feeding {
  /** Resolves when everything is written and the pipe's end is closed; rejects with the failure. */
  readonly done: Promise<void>;
  /** Stops the work. Resolves when it has ended. */
  stop(): Promise<void>;
}

/** Starts to fill a pipe, whose end it takes over and closes. */
export type ByteFeed = (writeEnd: number) => Feeding;

/** Fills it with a stream. Stopping it destroys the stream. */
export function fedBy(source: Pieces): ByteFeed {
  return (writeEnd) => {
    const inlet = new Socket({ fd: writeEnd, readable: false, writable: true });
    const stopped = new AbortController();
    const feed = async (): Promise<void> => {
      try {
        await writePieces(source, inlet, stopped.signal);
        await finished(inlet.end());
      } finally {
        inlet.destroy();
      }
    };
    return {
      done: feed(),
      stop: () => {
        stopped.abort();
        return Promise.resolve();
      },
    };
  };
}

/**
 * The output of a row of programs. It ends only after the feeding ended well, and every program has read all of its
 * input and exited with status 0. Otherwise it is destroyed with the first failure, counted from the source, and all
 * programs are ended. Destroying it ends them too.
 * @throws (as the stream's error) any error that the feeding rejects with, the error that `Command.failure` makes;
 * CONFIG when a program is missing; ABORTED
 */
export function throughPrograms(commands: readonly Command[], feed: ByteFeed, signal: AbortSignal): DirectReadable {
  const pipes = Array.from({ length: commands.length + 1 }, () => openPipe(PIPE_BYTES));
  const [first, last, command] = [pipes[0], pipes.at(-1), commands.at(-1)];
  if (first === undefined || last === undefined || command === undefined) throw new TypeError("a row of no programs");
  const stages = commands.map((each, index): Stage => {
    const [input, output] = [pipes[index]?.readEnd ?? 0, pipes[index + 1]?.writeEnd ?? 1];
    const started = start(each, [input, output, "pipe"]);
    closeSync(output);
    return { command: each, ...started, input: keepOpen(input) };
  });
  const life = joinLives(stages, feed(first.writeEnd));
  const reader = openPipeReader(last.readEnd, false);
  const success = life.success.then(() => drained(reader, { command, life }));
  return outputOf({ reader, success, stop: () => life.stop(), head: headOf(command) }, signal);
}

interface Stage extends ReturnType<typeof start> {
  readonly command: Command;
  readonly input: PipelineInput;
}

/** Our own handle of the end that a program reads from: only it shows how much the program has left there. */
interface PipelineInput {
  unread(): number;
  close(): void;
}

function keepOpen(readEnd: number): PipelineInput {
  let end: number | null = readEnd;
  return {
    unread: () => (end === null ? 0 : countUnread(end)),
    close() {
      if (end !== null) closeSync(end);
      end = null;
    },
  };
}

function joinLives(stages: readonly Stage[], feeding: Feeding): Lifetime {
  const parts = [feeding.done];
  for (const stage of stages) parts.push(endOf(stage, parts.at(-1) ?? feeding.done));
  const closeAll = (): void => stages.forEach(({ input }) => input.close());
  const success = Promise.all(parts)
    .then(
      () => undefined,
      () => throwCause(parts),
    )
    .finally(closeAll);
  success.catch(() => undefined);
  const stop = async (): Promise<void> => {
    // A process that waits for room in a pipe stops waiting.
    closeAll();
    await Promise.all([feeding.stop(), ...stages.map(({ life }) => life.stop())]);
  };
  return { success, stderr: () => stages.map(({ life }) => life.stderr()).join("\n"), stop };
}

/**
 * Exit status 0 does not prove that a program has read everything: the rest is still in the pipe, or will still come.
 * @param fed - settles when nobody writes into its pipe any more
 */
async function endOf({ command, life, input }: Stage, fed: Promise<void>): Promise<void> {
  await life.success;
  for (let complete = false; !complete;) {
    complete = await settlesWithin(fed, LOOK_MS);
    if (input.unread() > 0) throw command.failure(faultOf(command, "left its input unread", life.stderr()));
  }
}

/** A failure of a later program follows from one of an earlier program. */
async function throwCause(parts: readonly Promise<void>[]): Promise<never> {
  await settlesWithin(Promise.allSettled(parts), CAUSE_MS);
  for (const part of parts) if (await settlesWithin(part, 0)) await part;
  throw new TypeError("nothing has failed");
}
