// Cuts a stream into consecutive streams: the volumes of an archive.

import { Readable } from "node:stream";

/**
 * A stream as consecutive streams of `sliceBytes` each, the last one shorter or as long. Each must be read to its end
 * before the next one is asked for. A source that fails destroys the slice that is being read with its error; a slice
 * that is destroyed destroys the source.
 */
export async function* slices(source: Readable, sliceBytes: number): AsyncGenerator<Readable> {
  const chunks = source.iterator({ destroyOnReturn: false });
  let next = await nextChunk(chunks);

  async function* slice(): AsyncGenerator<Buffer> {
    let room = sliceBytes;
    while (next !== null && room > 0) {
      const head = next.subarray(0, room);
      room -= head.length;
      next = head.length < next.length ? next.subarray(head.length) : null;
      yield head;
      next ??= await nextChunk(chunks);
    }
  }

  try {
    while (next !== null) yield Readable.from(slice(), { objectMode: false });
  } finally {
    source.destroy();
  }
}

/** The next bytes of a stream; null at its end. */
export async function nextChunk(chunks: AsyncIterator<unknown>): Promise<Buffer | null> {
  for (;;) {
    const next = await chunks.next();
    if (next.done === true) return null;
    if (Buffer.isBuffer(next.value) && next.value.length > 0) return next.value;
  }
}
