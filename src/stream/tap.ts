// Counts and hashes the bytes of a stream while another reader reads it.

import { createHash } from "node:crypto";
import type { Readable } from "node:stream";
import type { DirectReadable } from "./child-output.ts";
import { withhold } from "./withhold.ts";

/**
 * Shows every piece that another reader reads from a stream, in either way. It starts nothing: the stream stays paused
 * until its reader comes, because a "data" listener resumes only a stream that was never paused.
 */
export function observe(stream: Readable, onPiece: (piece: Buffer) => void): void {
  stream.pause();
  stream.on("data", onPiece);
  if (isDirect(stream)) stream.onFilled(onPiece);
}

function isDirect(stream: Readable): stream is DirectReadable {
  return "onFilled" in stream;
}

/** Digest of the bytes that have passed through a stream. */
export interface Digest {
  readonly bytes: number;
  /** In hexadecimal. */
  readonly sha256: string;
}

/** Hashes what another reader reads from a stream. Call the returned function once, when the stream has ended. */
export function digestOf(stream: Readable): () => Digest {
  const hash = createHash("sha256");
  let bytes = 0;
  observe(stream, (piece) => {
    bytes += piece.length;
    hash.update(piece);
  });
  return () => ({ bytes, sha256: hash.digest("hex") });
}

/** The pieces of a stream, the last byte only when all of them have this SHA-256. @throws what `damaged` makes */
export function withDigest(
  stream: AsyncIterable<Buffer>,
  sha256: string,
  damaged: () => Error,
): AsyncGenerator<Buffer> {
  const hash = createHash("sha256");
  return withhold(stream, 1, {
    update: (piece) => void hash.update(piece),
    finish: () => {
      if (hash.digest("hex") !== sha256) throw damaged();
    },
  });
}
