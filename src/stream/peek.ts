// Reads the beginning of a stream without losing it.

import { through, type Pieces } from "./pieces.ts";

/**
 * Reads the beginning of a stream: this many bytes, unless the stream is shorter. Also returns the complete stream to
 * read from then on. Destroying that destroys the source.
 * @throws any error of the source before its beginning is there
 */
export async function takeHead(
  source: Pieces,
  bytes: number,
): Promise<{ readonly head: Buffer; readonly complete: Pieces }> {
  const pieces = source[Symbol.asyncIterator]();
  const begun: Buffer[] = [];
  for (let length = 0; length < bytes; length += begun.at(-1)?.length ?? 0) {
    // A piece is valid only until the next one is asked for.
    begun.push(...begun.splice(-1).map((piece) => Buffer.from(piece)));
    const next = await pieces.next();
    if (next.done === true) break;
    begun.push(next.value);
  }
  const head = Buffer.concat(begun, Math.min(bytes, sumOf(begun)));
  const complete = through(source, async function* () {
    try {
      yield* begun.splice(0);
      yield* { [Symbol.asyncIterator]: () => pieces };
    } finally {
      // Whoever stops in the beginning stops the source, too.
      await pieces.return?.();
    }
  });
  return { head, complete };
}

function sumOf(pieces: readonly Buffer[]): number {
  return pieces.reduce((sum, { length }) => sum + length, 0);
}
