// Memory for objects that are read, shared by all of them: allocated once, and used again.

import { abortedError } from "../errors.ts";

/** So many bytes of an object are fetched at once, and kept in memory. Also the size of the parts of most objects. */
export const BLOCK_BYTES = 16 * 1024 * 1024;

export interface ReadMemory {
  /** A block, as soon as one is free; who asked first gets it first. @throws ABORTED */
  acquire(signal: AbortSignal): Promise<Buffer>;
  /** Nothing may use the block any more. */
  release(block: Buffer): void;
}

/** @param most - how many blocks there are; the system gives their memory only as it is written to */
export function openReadMemory(most: number): ReadMemory {
  const free: Buffer[] = [];
  const waiting = new Set<(block: Buffer) => void>();
  let allocated = 0;
  return {
    acquire(signal) {
      if (signal.aborted) return Promise.reject(abortedError(signal));
      if (free.length === 0 && allocated < most) {
        allocated += 1;
        free.push(Buffer.allocUnsafeSlow(BLOCK_BYTES));
      }
      const block = free.pop();
      if (block !== undefined) return Promise.resolve(block);
      return new Promise((resolve, reject) => {
        const stop = (): void => {
          waiting.delete(give);
          reject(abortedError(signal));
        };
        const give = (given: Buffer): void => {
          signal.removeEventListener("abort", stop);
          resolve(given);
        };
        waiting.add(give);
        signal.addEventListener("abort", stop, { once: true });
      });
    },
    release(block) {
      const [next] = waiting;
      if (next === undefined) return void free.push(block);
      waiting.delete(next);
      next(block);
    },
  };
}
