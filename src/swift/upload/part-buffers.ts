// Cuts a body into parts. Their buffers are allocated once and reused, so that a long body needs no more memory than a
// short one.

import type { Readable } from "node:stream";
import type { DirectReadable } from "../../operations/ports.ts";

export interface Part {
  /** From 1. */
  readonly number: number;
  readonly data: Buffer;
  readonly isLast: boolean;
  /** Releases its memory. Its data may not be used from then on. */
  release(): void;
}

/** Memory for the parts of one upload at a time. */
export interface PartBuffer {
  readonly partBytes: number;
  readonly count: number;
  /** A buffer that is not in use. @throws when there is none */
  take(): Buffer;
  release(buffer: Buffer): void;
  releaseAll(): void;
}

/** The system gives the memory only as it is written to. */
export function openPartMemory(partBytes: number, count: number): PartBuffer {
  const buffers = Array.from({ length: count }, (): Buffer => Buffer.allocUnsafeSlow(partBytes));
  let free = new Set(buffers);
  return {
    partBytes,
    count,
    take() {
      const [buffer] = free;
      if (buffer === undefined) throw new RangeError("more parts at once than were planned");
      free.delete(buffer);
      return buffer;
    },
    release: (buffer) => void free.add(buffer),
    releaseAll: () => (free = new Set(buffers)),
  };
}

/** Keeps the memory of an upload for the next one. */
export interface BufferPool {
  /** For parts of so many bytes, so many at a time. */
  acquire(partBytes: number, count: number): PartBuffer;
  release(memory: PartBuffer): void;
}

export function openBufferPool(): BufferPool {
  let idle: PartBuffer | null = null;
  return {
    acquire(partBytes, count) {
      const kept = idle;
      // Not both at once: together they could be more than was allowed.
      idle = null;
      return kept?.partBytes === partBytes && kept.count >= count ? kept : openPartMemory(partBytes, count);
    },
    release(memory) {
      memory.releaseAll();
      idle = memory;
    },
  };
}

/** This much is read at once, so that progress is visible. */
const READ_BYTES = 1024 * 1024;

/** This much of the next part is read before a part is closed. */
const AHEAD_BYTES = 64 * 1024;

/**
 * Cuts a body into parts, all but the last of the memory's size; the last one is empty only when the body is. A caller
 * that holds all the memory's parts but one returns one before it asks for the next.
 */
export async function* partsOf(body: Readable, memory: PartBuffer): AsyncGenerator<Part, undefined> {
  const readInto = isDirect(body) ? body.readInto : copyingFrom(body);
  const { partBytes } = memory;
  // A part is closed only when a byte after it has come: it could be the last.
  const ahead = Buffer.allocUnsafe(Math.min(AHEAD_BYTES, partBytes));
  let aheadBytes = 0;
  let isLast = false;
  try {
    for (let number = 1; !isLast; number += 1) {
      const buffer = memory.take();
      const begun = ahead.copy(buffer, 0, 0, aheadBytes);
      const [filled, more] = await all([fillInPieces(buffer.subarray(begun), readInto), readInto(ahead)]);
      aheadBytes = more;
      isLast = more === 0;
      yield { number, data: buffer.subarray(0, begun + filled), isLast, release: () => memory.release(buffer) };
    }
  } finally {
    if (!isLast) body.destroy();
  }
  return undefined;
}

function isDirect(body: Readable): body is DirectReadable {
  return "readInto" in body;
}

/** Reads in pieces, so that progress is seen; all of them are asked for at once, so that the next one never waits. */
async function fillInPieces(memory: Buffer, readInto: DirectReadable["readInto"]): Promise<number> {
  const count = Math.ceil(memory.length / READ_BYTES);
  const pieces = Array.from({ length: count }, (_, at) => memory.subarray(at * READ_BYTES, (at + 1) * READ_BYTES));
  return (await all(pieces.map((piece) => readInto(piece)))).reduce((sum, bytes) => sum + bytes, 0);
}

/** As Promise.all, but when one has failed it waits for the others too: they write into memory. */
async function all<const Promises extends readonly Promise<number>[]>(
  promises: Promises,
): Promise<{ [At in keyof Promises]: number }> {
  await Promise.allSettled(promises);
  return Promise.all(promises);
}

/** The same for a stream that cannot be read into memory. */
function copyingFrom(body: Readable): DirectReadable["readInto"] {
  const pieces = body[Symbol.asyncIterator]() as AsyncIterator<Buffer, undefined>;
  let rest: Buffer = Buffer.alloc(0);
  async function fill(memory: Buffer): Promise<number> {
    let filled = 0;
    while (filled < memory.length) {
      if (rest.length === 0) {
        const next = await pieces.next();
        if (next.done === true) break;
        rest = next.value;
      }
      const copied = rest.copy(memory, filled);
      filled += copied;
      rest = rest.subarray(copied);
    }
    return filled;
  }
  let last: Promise<unknown> = Promise.resolve();
  return (memory) => {
    const reading = last.then(() => fill(memory));
    last = reading;
    return reading;
  };
}
