// The facts that a send stream contains about itself: its identity, its protocol, and its expected length.

import type { Readable } from "node:stream";
import { pipeline as finished } from "node:stream/promises";
import { openSendStreamChecker, peekIdentity, type RawIdentity, type StreamSummary } from "../addon/send-stream.ts";
import { BackupError } from "../errors.ts";
import { rethrowDamage } from "./stream-damage.ts";

// The kernel sends an extent compressed when that is no longer than the data it stands for, but does not count what
// ENCODED_WRITE has around it more than WRITE (80 + path against 28 + path): many tiny files grow.
const encodedOverhead = 52;

/** The snapshot of a stream and its send parent; `sendParent` null = full. UUIDs in lower case. */
export interface StreamLineage {
  readonly uuid: string;
  readonly ctransid: number;
  readonly sendParent: { readonly uuid: string; readonly ctransid: number } | null;
}

/** The facts that a `--no-data` stream gives about the stream it stands for. */
export interface StreamEstimate {
  /** Exact, unless the stream is sent with `--compressed-data`. */
  readonly bytes: number;
  /** With `--compressed-data` it is never larger than this. */
  readonly upperBound: number;
  /** Version of the send protocol. */
  readonly proto: number;
  readonly lineage: StreamLineage;
}

/**
 * Reads a `--no-data` stream to its end.
 * @throws SEND_FAILED, and any error that the source is destroyed with
 */
export async function estimateFrom(source: Readable): Promise<StreamEstimate> {
  const checker = openSendStreamChecker();
  await finished(source, async (chunks: AsyncIterable<Buffer>) => {
    for await (const chunk of chunks) rethrowDamage(() => checker.push(chunk));
  });
  rethrowDamage(() => checker.finish());
  const { identity, estimatedBytes: bytes, commands } = checker.summary();
  if (identity === null) throw new BackupError("INTERNAL", "a complete send stream without its first command");
  const upperBound = bytes + encodedOverhead * (commands["UPDATE_EXTENT"]?.count ?? 0);
  return { bytes, upperBound, proto: identity.version, lineage: toLineage(identity) };
}

/** From the first 350 bytes of a send stream; null when these are no send stream (encrypted, compressed, cut). */
export function peekLineage(bytes: Buffer): StreamLineage | null {
  const identity = peekIdentity(bytes);
  return identity === null ? null : toLineage(identity);
}

/** Version of the protocol, from the first bytes of a send stream; null when these are no send stream. */
export function peekProto(bytes: Buffer): number | null {
  return peekIdentity(bytes)?.version ?? null;
}

/** The lineage of the stream that a summary describes. */
export function lineageOf({ identity }: StreamSummary): StreamLineage | null {
  return identity === null ? null : toLineage(identity);
}

function toLineage(identity: RawIdentity): StreamLineage {
  const { uuid, ctransid, cloneUuid, cloneCtransid } = identity;
  const sendParent = cloneUuid === null || cloneCtransid === null ? null : { uuid: cloneUuid, ctransid: cloneCtransid };
  return { uuid, ctransid, sendParent };
}
