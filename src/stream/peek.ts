// Reads the beginning of a stream without losing it.

import { Readable } from "node:stream";

/**
 * Reads the beginning of a stream: this many bytes, unless the stream is shorter. Also returns the complete stream to
 * read from then on. Destroying that destroys the source.
 * @throws any error of the source before its beginning is there
 */
export async function takeHead(
  source: Readable,
  bytes: number,
): Promise<{ readonly head: Buffer; readonly complete: Readable }> {
  const chunks = source.iterator({ destroyOnReturn: false }) as AsyncIterableIterator<Buffer>;
  const begun: Buffer[] = [];
  for (let length = 0; length < bytes; length += begun.at(-1)?.length ?? 0) {
    const next = await chunks.next();
    if (next.done === true) break;
    begun.push(next.value);
  }
  async function* all(): AsyncGenerator<Buffer> {
    yield* begun.splice(0);
    yield* chunks;
  }
  const head = Buffer.concat(begun).subarray(0, bytes);
  const complete = Readable.from(all(), { objectMode: false });
  // A generator that waits for an idle source does not notice that it is destroyed.
  complete.once("close", () => source.destroy());
  return { head, complete };
}
