// A body in parts. Their memory is taken once and used again and again, so that it is as much as was planned however long
// the body is, and another thread can hash one part while the next one fills: MD5 costs more than all else that is done
// with a part, the network included.

import { createHash } from "node:crypto";
import type { Readable } from "node:stream";
import { Worker } from "node:worker_threads";

/** As much is hashed on the spot: 1 MiB of MD5 takes 1.5 ms, starting a thread 15. */
const HASHED_HERE_BYTES = 1024 * 1024;

export interface Part {
  /** From 1. */
  readonly number: number;
  readonly data: Buffer;
  readonly isLast: boolean;
  /** Gives its memory back. Nobody may look at its data from then on. */
  release(): void;
}

/** Which buffer, and how many of its bytes. */
export interface HashRequest {
  readonly buffer: number;
  readonly bytes: number;
}

/** Memory for the parts of one upload at a time. */
export interface PartMemory {
  readonly partBytes: number;
  readonly count: number;
  /** A buffer that nobody uses. @throws when there is none */
  take(): Buffer;
  release(buffer: Buffer): void;
  releaseAll(): void;
  /** Of a part in one of the buffers. Answers come in the order of the questions. */
  md5(part: Buffer): Promise<Buffer>;
  close(): void;
}

/** The system gives the memory only as it is written to. */
export function openPartMemory(partBytes: number, count: number): PartMemory {
  const shared = Array.from({ length: count }, () => new SharedArrayBuffer(partBytes));
  const buffers = shared.map((memory) => Buffer.from(memory));
  let free = new Set(buffers.keys());
  let hasher: Hasher | null = null;
  const indexOf = (part: Buffer): number => buffers.findIndex(({ buffer }) => buffer === part.buffer);
  return {
    partBytes,
    count,
    take() {
      const [index] = free;
      const buffer = index === undefined ? undefined : buffers[index];
      if (index === undefined || buffer === undefined) throw new RangeError("more parts at once than were planned");
      free.delete(index);
      return buffer;
    },
    release: (buffer) => void free.add(indexOf(buffer)),
    releaseAll: () => (free = new Set(buffers.keys())),
    md5(part) {
      if (hasher === null && part.length <= HASHED_HERE_BYTES) return Promise.resolve(createHash("md5").update(part).digest());
      hasher ??= openHasher(shared);
      return hasher.ask({ buffer: indexOf(part), bytes: part.length });
    },
    close: () => hasher?.close(),
  };
}

interface Hasher {
  ask(request: HashRequest): Promise<Buffer>;
  close(): void;
}

function openHasher(shared: readonly SharedArrayBuffer[]): Hasher {
  const thread = new Worker(new URL("md5-thread.js", import.meta.url), { workerData: shared, execArgv: [] });
  const waiting: PromiseWithResolvers[] = [];
  let failure: Error | null = null;
  const fail = (error: Error): void => {
    failure ??= error;
    for (const { reject } of waiting.splice(0)) reject(failure);
  };
  thread.on("message", (md5: Uint8Array) => {
    waiting.shift()?.resolve(Buffer.from(md5));
    if (waiting.length === 0) thread.unref();
  });
  thread.on("error", fail);
  thread.on("exit", () => fail(new Error("the thread that hashes has ended")));
  return {
    ask: (request) =>
      new Promise((resolve, reject) => {
        if (failure !== null) return reject(failure);
        waiting.push({ resolve, reject });
        // It keeps the program alive only while somebody waits for it.
        thread.ref();
        thread.postMessage(request);
      }),
    close: () => void thread.terminate(),
  };
}

interface PromiseWithResolvers {
  resolve(md5: Buffer): void;
  reject(error: Error): void;
}

/** Keeps the memory of an upload for the next one. */
export interface PartMemories {
  /** For parts of so many bytes, so many at a time. */
  borrow(partBytes: number, count: number): PartMemory;
  giveBack(memory: PartMemory): void;
  close(): void;
}

export function openPartMemories(): PartMemories {
  let idle: PartMemory | null = null;
  const drop = (): void => {
    idle?.close();
    idle = null;
  };
  return {
    borrow(partBytes, count) {
      const kept = idle;
      if (kept?.partBytes === partBytes && kept.count >= count) {
        idle = null;
        return kept;
      }
      // Not both at once: together they could be more than was allowed.
      drop();
      return openPartMemory(partBytes, count);
    },
    giveBack(memory) {
      drop();
      memory.releaseAll();
      idle = memory;
    },
    close: drop,
  };
}

/**
 * Cuts a body into parts, all but the last of the memory's size; the last one is empty only when the body is. Whoever has
 * all the memory's parts but one in hand gives one back before asking for the next.
 */
export async function* partsOf(body: Readable, memory: PartMemory): AsyncGenerator<Part, void> {
  let number = 1;
  let buffer = memory.take();
  let filled = 0;
  const cut = (isLast: boolean): Part => {
    const whole = buffer;
    return { number, data: whole.subarray(0, filled), isLast, release: () => memory.release(whole) };
  };
  for await (const chunk of body as AsyncIterable<Buffer>) {
    for (let at = 0; at < chunk.length; ) {
      // A part is closed only when a byte after it has come: it could be the last.
      if (filled === memory.partBytes) {
        yield cut(false);
        buffer = memory.take();
        filled = 0;
        number += 1;
      }
      const copied = chunk.copy(buffer, filled, at);
      filled += copied;
      at += copied;
    }
  }
  yield cut(true);
}
