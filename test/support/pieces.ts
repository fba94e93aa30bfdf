// Pieces as tests read them.

/** All bytes; copied, because the memory of a piece is used again when the next one comes. */
export async function readAll(pieces: AsyncIterable<Buffer>): Promise<Buffer> {
  const read: Buffer[] = [];
  for await (const piece of pieces) read.push(Buffer.from(piece));
  return Buffer.concat(read);
}
