// Reads an object: over cut connections, and never to its end before the bytes read are known to be those that were
// stored. Blocks of it are fetched side by side, and where blocks are parts, their MD5s are computed side by side too.

import { setMaxListeners } from "node:events";
import { BackupError } from "../errors.ts";
import { openPieces, type Pieces } from "../stream/pieces.ts";
import { withhold } from "../stream/withhold.ts";
import { fetchBlock, readRange, type Block } from "./block.ts";
import { contentCheck } from "./etag.ts";
import { isDynamicLarge } from "./objects.ts";
import type { Store } from "./context.ts";
import type { ObjectToRead } from "../operations/store-ports.ts";
import { BLOCK_BYTES } from "./read-memory.ts";

/** `btrfs receive` seals a subvolume on the last command of the stream, which must not reach it before the check. */
const WITHHELD_BYTES = 64 * 1024;

/** Smaller blocks cost more in requests than hashing them side by side saves. */
const LEAST_BLOCK_BYTES = 4 * 1024 * 1024;

/** See {@link import("../operations/ports.ts").Container.get}. */
export function readObject(store: Store, object: ObjectToRead, partBytes: number | null, signal: AbortSignal): Pieces {
  return openPieces((stop) => readBlocksOf(store, object, partBytes, stop), signal);
}

/** See {@link import("../operations/ports.ts").Container.peek}. */
export async function peekObject(
  store: Store,
  { key, start, length }: { readonly key: string; readonly start: number; readonly length: number },
  signal: AbortSignal,
): Promise<Buffer> {
  const memory = Buffer.alloc(length);
  const range = { key, etag: null, start, end: start + length };
  return memory.subarray(0, await readRange(store, range, { memory }, signal));
}

function readBlocksOf(
  store: Store,
  object: ObjectToRead,
  partBytes: number | null,
  signal: AbortSignal,
): AsyncGenerator<Buffer> {
  const { key, etag, bytes } = object;
  const content = contentCheck(object, partBytes);
  const isDynamic = (): Promise<boolean> => isDynamicLarge(store, object, signal);
  const read = { key, etag, bytes, partBytes };
  const parts = content?.partBytes ?? null;
  if (content === null || parts === null || !isBlock(parts, bytes))
    return verified(
      readBlocks(store, { ...read, blockBytes: BLOCK_BYTES, md5s: null }, signal),
      { ...object, isDynamic },
      content,
    );
  const md5s = new Map<number, Promise<Buffer>>();
  const inOrder = (): Promise<Buffer>[] => [...md5s].toSorted(([a], [b]) => a - b).map(([, md5]) => md5);
  const blocks = readBlocks(store, { ...read, blockBytes: parts, md5s }, signal);
  const check = { update: () => undefined, mismatch: async () => content.mismatch(await Promise.all(inOrder())) };
  return verified(blocks, { ...object, isDynamic }, check);
}

/** Whether parts can be blocks: they fit into one, and are not so small that there are too many of them. */
function isBlock(partBytes: number, bytes: number): boolean {
  return bytes > 0 && partBytes <= BLOCK_BYTES && (partBytes >= LEAST_BLOCK_BYTES || partBytes >= bytes);
}

interface ObjectToVerify extends ObjectToRead {
  /** Asked where the content does not fit the ETag: see {@link isDynamicLarge}. */
  readonly isDynamic?: () => Promise<boolean>;
}

/** Passes the object's bytes on, the last ones only when size and content are those of the object. @throws ARCHIVE_DAMAGED */
export function verified(
  pieces: AsyncIterable<Buffer>,
  object: ObjectToVerify,
  content: Content | null,
): AsyncGenerator<Buffer> {
  let bytes = 0;
  return withhold(pieces, WITHHELD_BYTES, {
    update(piece) {
      content?.update(piece);
      bytes += piece.length;
    },
    async finish() {
      if (bytes !== object.bytes) throw damaged(object.key, `${String(object.bytes)} bytes`, `${String(bytes)} bytes`);
      const found = (await content?.mismatch()) ?? null;
      if (found !== null && !(object.digests == null && (await object.isDynamic?.()) === true))
        throw damaged(object.key, object.etag, found);
    },
  });
}

/** A {@link contentCheck}, or one whose result comes later. */
interface Content {
  update(piece: Buffer): void;
  mismatch(): Promise<string | null> | string | null;
}

interface BlocksToRead {
  readonly key: string;
  readonly etag: string;
  readonly bytes: number;
  /** Where the parts of the object end; null when unknown. */
  readonly partBytes: number | null;
  /** At most {@link BLOCK_BYTES}. */
  readonly blockBytes: number;
  /** Gets the MD5 of each block, by its beginning; null: nobody needs them. */
  readonly md5s: Map<number, Promise<Buffer>> | null;
}

/** The blocks of an object, in order. It limits both the connections and the memory. */
async function* readBlocks(store: Store, object: BlocksToRead, signal: AbortSignal): AsyncGenerator<Buffer> {
  const { key, etag, bytes, partBytes, blockBytes, md5s } = object;
  const left = new AbortController();
  const stop = AbortSignal.any([signal, left.signal]);
  setMaxListeners(0, stop);
  const ahead: Block[] = [];
  let start = 0;
  let inFlight = 0;
  const fetchAhead = (): void => {
    while (start < bytes && ahead.length < store.connections) {
      const range = { key, etag, start, end: Math.min(bytes, start + blockBytes), partBytes };
      start = range.end;
      inFlight += 1;
      const onFetched = (block: Buffer): Promise<unknown> | null => {
        inFlight -= 1;
        if (md5s === null) return null;
        const md5 = store.partHasher.md5(block);
        md5s.set(range.start, md5);
        // The last ones wait for no more.
        if (inFlight === 0 && start === bytes) store.partHasher.flush();
        return md5;
      };
      ahead.push(fetchBlock(store, range, onFetched, stop));
    }
  };
  try {
    fetchAhead();
    for (let [block] = ahead; block !== undefined; [block] = ahead) {
      for (let piece = await block.next(0), passed = 0; piece.length > 0; piece = await block.next(passed)) {
        yield piece;
        passed += piece.length;
      }
      ahead.shift();
      block.release();
      fetchAhead();
    }
  } finally {
    left.abort();
    for (const block of ahead) block.release();
    if (ahead.length > 0) store.partHasher.flush();
  }
}

function damaged(key: string, expected: string, found: string): BackupError {
  return new BackupError("ARCHIVE_DAMAGED", `'${key}' is damaged in the store: expected ${expected}, found ${found}`, {
    context: { key, expected, found },
  });
}
