// The parser of send streams: which snapshot a stream is of, and whether it arrived as it was sent.

import { loadOnce } from "./load.ts";

/** The content of the first command of a send stream. */
export interface RawIdentity {
  /** Version of the send protocol: 1 or 2. */
  readonly version: number;
  readonly kind: "full" | "incremental";
  /** Name of the snapshot, without directories. */
  readonly path: Buffer;
  /** Lower-case; never all zeros. */
  readonly uuid: string;
  readonly ctransid: number;
  /** UUID of the send parent; null when full. */
  readonly cloneUuid: string | null;
  readonly cloneCtransid: number | null;
}

export interface StreamSummary {
  /** Null as long as the first command is not read. */
  readonly identity: RawIdentity | null;
  /** Read so far. */
  readonly bytes: number;
  /** Size of the stream with file data that a `--no-data` stream stands for; of any other, the same as `bytes`. */
  readonly estimatedBytes: number;
  /** By name, such as "WRITE"; `bytes` with headers. */
  readonly commands: Readonly<Record<string, { readonly count: number; readonly bytes: number }>>;
}

/** Reads a send stream and checks all of it that can be checked. */
export interface SendStreamChecker {
  /** The next bytes, as many as there are. @throws Error with a sentence and the `offset`; from then on always */
  push(bytes: Buffer): void;
  /** @throws Error unless the last bytes were the END command */
  finish(): void;
  summary(): StreamSummary;
}

interface SendStreamAddon {
  peekIdentity(bytes: Buffer): RawIdentity | null;
  moveSendStream(from: number, to: number, onEnd: (failure: Error | null, summary: StreamSummary) => void): () => void;
  readonly SendStreamChecker: new () => SendStreamChecker;
}

const addon = (): SendStreamAddon => loadOnce() as SendStreamAddon;

/** @throws CONFIG */
export function openSendStreamChecker(): SendStreamChecker {
  return new (addon().SendStreamChecker)();
}

/**
 * The identity of the stream that begins like this; null when it is no send stream or too short. 350 bytes are always
 * enough. Its first command is checked, the rest is not read. @throws CONFIG
 */
export function peekIdentity(bytes: Buffer): RawIdentity | null {
  return addon().peekIdentity(bytes);
}

/**
 * Moves a send stream from one pipe into another, on a thread of its own, checks it on the way, and closes both ends.
 * Damaged bytes may come out before the damage is known: the result counts only when the move is over.
 * @param onEnd - called once, when it is over: with an error about the damage or the failure, or with null
 * @returns a function that cancels it
 */
export function moveSendStream(
  from: number,
  to: number,
  onEnd: (failure: Error | null, summary: StreamSummary) => void,
): () => void {
  return addon().moveSendStream(from, to, onEnd);
}
