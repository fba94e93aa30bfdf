// Pipes that are read natively, on a thread of their own.

import { loadOnce } from "./load.ts";
import type { StreamSummary } from "./send-stream.ts";

/** File descriptors; both close on exec. */
export interface Pipe {
  readonly readEnd: number;
  readonly writeEnd: number;
}

/** Reads a pipe on a thread of its own, into memory that it is given. */
export interface PipeReader {
  /**
   * The number of bytes of the memory that were filled; 0 when the pipe has ended, with or without an error. It fills
   * the memory completely, unless the pipe ends before. Without `untilFull`, it also stops when no data has come for a
   * moment. Until it resolves, nobody may touch the memory. A caller that asks several times gets the answers in that
   * order, and the bytes that come in between are not held up.
   */
  fill(memory: Buffer, untilFull: boolean): Promise<number>;
  /**
   * Resolves at the pipe's end, with a summary of the stream where it is checked; rejects with the damage or another
   * failure.
   */
  readonly done: Promise<StreamSummary>;
  /** Bytes so far. */
  received(): number;
  /** True while somebody waits for {@link fill}. */
  isAsked(): boolean;
  /** Ends it early. */
  cancel(): void;
}

interface NativeReader {
  fill(memory: Buffer, untilFull: boolean): void;
  cancel(): void;
}

/** Called with the number of bytes filled; the last time with the outcome. */
type OnFilled = (
  ...filled: readonly [bytes: number] | readonly [failure: Error | null, summary: StreamSummary]
) => void;

interface PipeAddon {
  openPipe(size: number): Pipe;
  enlargePipe(end: number, size: number): void;
  countUnread(end: number): number;
  readonly PipeReader: new (readEnd: number, checked: boolean, onFilled: OnFilled) => NativeReader;
}

const addon = (): PipeAddon => loadOnce() as PipeAddon;

/** As large as `size`, or as the kernel allows. @throws CONFIG; Error when there are too many open files */
export function openPipe(size: number): Pipe {
  return addon().openPipe(size);
}

/** Makes a pipe as large as `size`, or as the kernel allows; what is no pipe stays as it is. @throws CONFIG */
export function enlargePipe(end: number, size: number): void {
  addon().enlargePipe(end, size);
}

/** Bytes in a pipe that nobody has read. @throws Error when it is no pipe */
export function countUnread(end: number): number {
  return addon().countUnread(end);
}

/**
 * Starts to read a pipe, whose end it takes over and closes.
 * @param isChecked - whether it has to be a send stream; damaged bytes, and those after them, are never passed on
 * @throws CONFIG
 */
export function openPipeReader(readEnd: number, isChecked: boolean): PipeReader {
  // These references also keep the memory from being collected.
  const asked: { readonly memory: Buffer; readonly answer: (bytes: number) => void }[] = [];
  let received = 0;
  let isOver = false;
  let settle: (failure: Error | null, summary: StreamSummary) => void;
  const done = new Promise<StreamSummary>((resolve, reject) => {
    settle = (failure, summary) => (failure === null ? resolve(summary) : reject(failure));
  });
  done.catch(() => undefined);
  const reader = new (addon().PipeReader)(readEnd, isChecked, (...filled) => {
    if (filled.length === 1) {
      const [bytes] = filled;
      received += bytes;
      asked.shift()?.answer(bytes);
    } else {
      isOver = true;
      settle(...filled);
      for (const { answer } of asked.splice(0)) answer(0);
    }
  });
  return {
    fill: (memory, untilFull) =>
      new Promise((resolve) => {
        if (isOver || memory.length === 0) return resolve(0);
        asked.push({ memory, answer: resolve });
        reader.fill(memory, untilFull);
      }),
    done,
    received: () => received,
    isAsked: () => asked.length > 0,
    cancel: () => reader.cancel(),
  };
}
