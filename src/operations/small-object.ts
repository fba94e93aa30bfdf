// Small objects beside archives: proofs, pins and keep rules.

import { Readable } from "node:stream";
import { BackupError } from "../errors.ts";
import type { Container, PutOptions } from "./store-ports.ts";

export interface SmallObject {
  readonly key: string;
  readonly text: string;
  /** The layout of an upload that has just ended, to reuse its buffers; absent: one buffer of the smallest part size. */
  readonly layout?: Pick<PutOptions, "partBytes" | "concurrency" | "partsInMemory">;
}

/** Stores a text under a key, and replaces the object that may be there. @throws STORE_UNAVAILABLE, QUOTA_EXCEEDED */
export async function storeText(
  { key, text, layout }: SmallObject,
  container: Container,
  signal: AbortSignal,
): Promise<void> {
  const small = { partBytes: container.limits.minPartBytes, concurrency: 1, partsInMemory: 1 };
  const options = { ...(layout ?? small), metadata: {} };
  const put = async (): Promise<unknown> =>
    container.put(key, Readable.from([Buffer.from(text)], { objectMode: false }), options, signal);
  await put().catch(async (error: unknown) => {
    if (!(error instanceof BackupError && error.code === "ALREADY_ARCHIVED")) throw error;
    await container.delete(key, signal);
    await put();
  });
}

/** The text of a small object; null when there is none. @param longest - the most bytes to read */
export async function readText(
  key: string,
  longest: number,
  container: Container,
  signal: AbortSignal,
): Promise<string | null> {
  try {
    return (await container.peek(key, longest, signal)).toString();
  } catch (error) {
    if (error instanceof BackupError && error.code === "ARCHIVE_MISSING") return null;
    throw error;
  }
}
