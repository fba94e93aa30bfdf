// A block of an object, on its way into memory.

import type { Readable } from "node:stream";
import { abortedError, BackupError } from "../errors.ts";
import { openBackoff, type Backoff } from "../retry.ts";
import { openRange, type ByteRange } from "./byte-range.ts";
import type { Store } from "./context.ts";
import { DirectBody } from "./direct-get.ts";
import { describeError } from "./error-facts.ts";

/** Bytes of an object in memory, from the moment they are asked for. */
export interface Block {
  /** Its bytes after the first `passed`, as soon as there are some; none when there are no more. @throws its failure */
  next(passed: number): Promise<Buffer>;
  /** Gives its memory back, once nothing uses it any more. */
  release(): void;
}

/** This much is waited for, so that those who read it are not busy with a thousand small pieces. */
const REPORTED_BYTES = 1024 * 1024;

const NOTHING = Buffer.alloc(0);

/**
 * Begins to fetch a block, once there is memory for it.
 * @param onFetched - called when all of it is there; the memory is kept until what it returns has settled, too
 */
export function fetchBlock(
  store: Store,
  range: ByteRange,
  onFetched: (data: Buffer) => Promise<unknown> | null,
  signal: AbortSignal,
): Block {
  let memory: Buffer | null = null;
  let filled = 0;
  let isOver = false;
  let use: Promise<unknown> | null = null;
  let wake = (): void => undefined;
  const onBytes = (bytes: number): void => {
    filled = bytes;
    wake();
  };
  const fetching = async (): Promise<void> => {
    memory = await store.readMemory.acquire(signal);
    onBytes(await readRange(store, range, { memory, onBytes }, signal));
    // Nobody wants it any more after a stop.
    if (signal.aborted) return;
    use = onFetched(memory.subarray(0, filled));
    // Its failure is reported where its result is wanted.
    use?.catch(() => undefined);
  };
  const fetched = fetching().finally(() => {
    isOver = true;
    wake();
  });
  // A failure before the block is wanted is reported when it is wanted.
  fetched.catch(() => undefined);
  return {
    async next(passed) {
      while (filled <= passed && !isOver) await new Promise<void>((resolve) => (wake = resolve));
      if (filled > passed) return memory?.subarray(passed, filled) ?? NOTHING;
      await fetched;
      return NOTHING;
    },
    release() {
      void Promise.allSettled([fetched])
        .then(() => Promise.allSettled([use]))
        .then(() => (memory === null ? undefined : store.readMemory.release(memory)));
    },
  };
}

/**
 * Reads some bytes of an object into memory, and returns their number: fewer where the object is shorter. After a cut it
 * resumes where it was: bodies end early when a storage node dies.
 * @param onBytes - called now and then with the bytes that are there
 * @throws ARCHIVE_MISSING, ARCHIVE_DAMAGED, STORE_UNAVAILABLE, ABORTED
 */
export async function readRange(
  store: Store,
  { key, start, partBytes = null, ...asked }: ByteRange,
  { memory, onBytes = () => undefined }: { readonly memory: Buffer; readonly onBytes?: (filled: number) => void },
  signal: AbortSignal,
): Promise<number> {
  let { etag, end } = asked;
  let offset = start;
  let waitAfter: Backoff | null = null;
  while (offset < end) {
    const before = offset;
    const { body, ...stored } = await openRange(store, { key, etag, start: offset, end, partBytes }, signal);
    etag = stored.etag;
    end = Math.min(end, stored.bytes);
    const report = (filled: number): void => onBytes(before - start + filled);
    const { filled, error } = await fill(memory.subarray(offset - start, end - start), body, report);
    offset += filled;
    if (offset >= end) break;
    if (signal.aborted) throw abortedError(signal);
    if (error !== null)
      store.log?.debug({ key, offset, error: describeError(error) }, "connection was lost while reading; continuing");
    if (offset > before || waitAfter === null) waitAfter = openBackoff({ forMs: store.retryForMs }, signal);
    await waitAfter(stuck(store, key, offset));
  }
  return offset - start;
}

/** Fills memory from a body, as far as it goes. */
async function fill(
  memory: Buffer,
  body: Readable,
  onBytes: (filled: number) => void,
): Promise<{ readonly filled: number; readonly error: unknown }> {
  let filled = 0;
  let reported = 0;
  const report = (bytes: number): void => {
    filled = bytes;
    if (filled - reported >= REPORTED_BYTES) onBytes((reported = filled));
  };
  try {
    if (body instanceof DirectBody) return { filled: await body.readInto(memory, report), error: null };
    for await (const chunk of body) {
      // To the end of the body, so that its connection can be used again; there should be nothing more.
      if (filled === memory.length) break;
      report(filled + toBuffer(chunk).copy(memory, filled));
    }
    return { filled, error: null };
  } catch (error) {
    return { filled, error };
  } finally {
    body.destroy();
  }
}

function toBuffer(chunk: unknown): Buffer {
  if (Buffer.isBuffer(chunk)) return chunk;
  throw new BackupError("INTERNAL", "an answer of the store is not made of bytes");
}

function stuck(store: Store, key: string, offset: number): BackupError {
  return new BackupError("STORE_UNAVAILABLE", `reading '${key}' makes no progress: every connection is lost`, {
    context: { key, offset, container: store.container },
  });
}
