import type { Readable } from "node:stream";

/**
 * Tells of every byte that somebody else reads from a stream. It starts nothing: the stream stays paused until its
 * reader comes, because a "data" listener resumes only a stream that was never paused.
 */
export function observeBytes(stream: Readable, onBytes: (bytes: number) => void): void {
  stream.pause();
  stream.on("data", (chunk: Buffer) => {
    onBytes(chunk.length);
  });
}
