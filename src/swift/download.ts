// Reads an object: over cut connections, and never to its end before the bytes read are known to be those that were
// stored.

import { Readable } from "node:stream";
import { abortedError, BackupError, toError } from "../errors.ts";
import { withhold } from "../stream/withhold.ts";
import { openBackoff, type Backoff } from "../retry.ts";
import { contentCheck } from "./etag.ts";
import { isDynamicLarge } from "./objects.ts";
import type { Store } from "./context.ts";
import type { ObjectDetails, ObjectToRead } from "../operations/store-ports.ts";
import { describeError } from "./error-facts.ts";
import { openRange, type ByteRange } from "./byte-range.ts";

/** `btrfs receive` seals a subvolume on the last command of the stream, which must not reach it before the check. */
const WITHHELD_BYTES = 64 * 1024;

/**
 * The size of one request. Large enough that a request more or less is nothing, small enough that several fit in
 * memory. A piece is read to its end whether or not anybody wants its bytes yet, so that a slow reader never makes the
 * store time out a connection.
 */
export const RANGE_BYTES = 8 * 1024 * 1024;

/** See {@link import("../operations/ports.ts").Container.get}. */
export function readObject(
  store: Store,
  object: ObjectToRead,
  partBytes: number | null,
  signal: AbortSignal,
): Readable {
  const isDynamic = (): Promise<boolean> => isDynamicLarge(store, object, signal);
  return toReadable(
    (stop) => verified(readPieces(store, { ...object, partBytes }, stop), { ...object, isDynamic }, partBytes),
    signal,
  );
}

/** See {@link import("../operations/ports.ts").Container.peek}. */
export async function peekObject(
  store: Store,
  { key, start, length }: { readonly key: string; readonly start: number; readonly length: number },
  signal: AbortSignal,
): Promise<Buffer> {
  const chunks: Buffer[] = [];
  for await (const chunk of readRange(store, { key, etag: null, start, end: start + length }, signal))
    chunks.push(chunk);
  return Buffer.concat(chunks);
}

/**
 * The bytes of an object, in order, from pieces that are fetched side by side. It limits both the connections and the
 * pieces in memory.
 */
async function* readPieces(
  store: Store,
  { key, etag, bytes, partBytes }: ObjectDetails & { readonly partBytes: number | null },
  signal: AbortSignal,
): AsyncGenerator<Buffer> {
  const ahead: Readable[] = [];
  try {
    for (let start = 0; ;) {
      for (; start < bytes && ahead.length < store.connections; start += RANGE_BYTES) {
        ahead.push(
          fetchPiece(store, { key, etag, start, end: Math.min(bytes, start + RANGE_BYTES), partBytes }, signal),
        );
      }
      const [first] = ahead;
      if (first === undefined) return;
      yield* first as AsyncIterable<Buffer>;
      ahead.shift();
    }
  } finally {
    for (const piece of ahead) piece.destroy();
  }
}

/** A range that is read at once, into memory, by whoever wants it later. */
function fetchPiece(store: Store, range: ByteRange, signal: AbortSignal): Readable {
  // Chunks, not bytes, are counted here: there are never as many as bytes, so nothing makes it pause.
  const piece = Readable.from(readRange(store, range, signal), { objectMode: true, highWaterMark: RANGE_BYTES });
  // A failure before the piece is wanted is reported when it is wanted.
  piece.on("error", () => undefined);
  piece.read(0);
  return piece;
}

/**
 * Some bytes of an object, in order. After a cut it resumes where it was: bodies end early when a storage node dies.
 * @throws ARCHIVE_MISSING, ARCHIVE_DAMAGED, STORE_UNAVAILABLE, ABORTED
 */
async function* readRange(
  store: Store,
  { key, start, partBytes = null, ...asked }: ByteRange,
  signal: AbortSignal,
): AsyncGenerator<Buffer> {
  let { etag, end } = asked;
  let offset = start;
  let waitAfter: Backoff | null = null;
  while (offset < end) {
    const before = offset;
    const { body, ...stored } = await openRange(store, { key, etag, start: offset, end, partBytes }, signal);
    etag = stored.etag;
    end = Math.min(end, stored.bytes);
    try {
      for await (const chunk of body) {
        const piece = toBuffer(chunk);
        offset += piece.length;
        yield piece;
      }
    } catch (error) {
      if (signal.aborted) throw abortedError(signal);
      store.log?.debug({ key, offset, error: describeError(error) }, "connection was lost while reading; continuing");
    } finally {
      body.destroy();
    }
    if (offset >= end) return;
    if (offset > before || waitAfter === null) waitAfter = openBackoff({ forMs: store.retryForMs }, signal);
    await waitAfter(stuck(store, key, offset));
  }
}

interface ObjectToVerify extends ObjectToRead {
  /** Asked where the content does not fit the ETag: see {@link isDynamicLarge}. */
  readonly isDynamic?: () => Promise<boolean>;
}

/** Passes the object's bytes on, the last ones only when size and content are those of the object. @throws ARCHIVE_DAMAGED */
export function verified(
  chunks: AsyncIterable<Buffer>,
  object: ObjectToVerify,
  partBytes: number | null,
): AsyncGenerator<Buffer> {
  const content = contentCheck(object, partBytes);
  let bytes = 0;
  return withhold(chunks, WITHHELD_BYTES, {
    update(chunk) {
      content?.update(chunk);
      bytes += chunk.length;
    },
    async finish() {
      if (bytes !== object.bytes) throw damaged(object.key, `${String(object.bytes)} bytes`, `${String(bytes)} bytes`);
      const found = content?.mismatch() ?? null;
      if (found !== null && !(object.digests == null && (await object.isDynamic?.()) === true))
        throw damaged(object.key, object.etag, found);
    },
  });
}

/** A stream over a generator, which it stops at once when the stream is destroyed or the signal aborts. */
export function toReadable(generate: (stop: AbortSignal) => AsyncGenerator<Buffer>, signal: AbortSignal): Readable {
  const destroyed = new AbortController();
  const chunks = generate(AbortSignal.any([signal, destroyed.signal]));
  const stream = new Readable({
    highWaterMark: 1024 * 1024,
    read() {
      chunks.next().then(
        ({ done, value }) => this.push(done === true ? null : value),
        (error: unknown) => this.destroy(toError(error)),
      );
    },
    destroy(error, callback) {
      signal.removeEventListener("abort", onAbort);
      destroyed.abort();
      callback(error);
    },
  });
  function onAbort(): void {
    stream.destroy(abortedError(signal));
  }
  // It may be stopped before anybody reads it, and its later reader gets the error; until then, the error must not end
  // this process.
  stream.on("error", () => undefined);
  signal.addEventListener("abort", onAbort, { once: true });
  if (signal.aborted) onAbort();
  return stream;
}

function toBuffer(chunk: unknown): Buffer {
  if (Buffer.isBuffer(chunk)) return chunk;
  throw new BackupError("INTERNAL", "an answer of the store is not made of bytes");
}

function damaged(key: string, expected: string, found: string): BackupError {
  return new BackupError("ARCHIVE_DAMAGED", `'${key}' is damaged in the store: expected ${expected}, found ${found}`, {
    context: { key, expected, found },
  });
}

function stuck(store: Store, key: string, offset: number): BackupError {
  return new BackupError("STORE_UNAVAILABLE", `reading '${key}' makes no progress: every connection is lost`, {
    context: { key, offset, container: store.container },
  });
}
