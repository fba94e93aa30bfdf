// Bytes that are pulled, piece by piece, from memory that is used again: a long stream allocates and copies nothing.

import { once } from "node:events";
import type { Writable } from "node:stream";
import { abortedError, toError } from "../errors.ts";

/** Bytes in pieces, to be read once. A piece is valid until the next one is asked for. A stream of Node is one too. */
export interface Pieces extends AsyncIterable<Buffer> {
  /** Ends it: whoever waits for a piece gets an error. */
  destroy(): void;
}

/** The pieces that a function makes, until they are destroyed or the signal aborts. */
export function openPieces(generate: (stop: AbortSignal) => AsyncGenerator<Buffer>, signal: AbortSignal): Pieces {
  const destroyed = new AbortController();
  const pieces = generate(AbortSignal.any([signal, destroyed.signal]));
  const iterator: AsyncIterator<Buffer> = {
    async next() {
      const result = await pieces.next();
      // The end of what was destroyed is not the end of the bytes.
      if (destroyed.signal.aborted) throw closedEarly();
      return result;
    },
    return: (value) => pieces.return(value),
  };
  const destroy = (): void => {
    destroyed.abort();
    // Whoever reads it may never ask again: it gives its memory back now.
    pieces.return(undefined).catch(() => undefined);
  };
  return { [Symbol.asyncIterator]: () => iterator, destroy };
}

/** The pieces that a stage makes of others. Whoever destroys them destroys those. */
export function through(source: Pieces, stage: (source: Pieces) => AsyncGenerator<Buffer>): Pieces {
  const pieces = stage(source);
  return { [Symbol.asyncIterator]: () => pieces, destroy: () => source.destroy() };
}

/**
 * Writes pieces, each before the next one is asked for, and destroys them when that fails. It neither ends nor destroys
 * the writable.
 * @throws the error of the writable, or of the pieces; ABORTED
 */
export async function writePieces(pieces: Pieces, sink: Writable, signal: AbortSignal): Promise<void> {
  // What was written last may fail after we have given up; that must not end this process.
  if (sink.listenerCount("error") === 0) sink.on("error", () => undefined);
  const done = new AbortController();
  const { signal: until } = done;
  const first: { failure: Error | null } = { failure: null };
  // Ends the write that is waited for.
  let giveUp: (error: Error) => void = () => undefined;
  const fail = (error: Error): void => {
    first.failure ??= error;
    giveUp(first.failure);
    pieces.destroy();
  };
  once(sink, "close", { signal: until }).then(
    () => fail(sink.errored ?? closedEarly()),
    (error: unknown) => (until.aborted ? undefined : fail(toError(error))),
  );
  signal.addEventListener("abort", () => fail(abortedError(signal)), { signal: until });
  if (signal.aborted) fail(abortedError(signal));
  try {
    for await (const piece of pieces) {
      if (first.failure !== null) break;
      await new Promise<void>((resolve, reject) => {
        giveUp = reject;
        sink.write(piece, (error) => (error == null ? resolve() : reject(sink.errored ?? closedEarly())));
      });
    }
    if (first.failure !== null) throw first.failure;
  } catch (error) {
    pieces.destroy();
    throw first.failure ?? error;
  } finally {
    done.abort();
  }
}

function closedEarly(): Error {
  return Object.assign(new Error("it was closed before its end"), { code: "ERR_STREAM_PREMATURE_CLOSE" });
}
