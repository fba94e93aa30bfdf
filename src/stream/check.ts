// The send-stream checker as a stage of a pipeline. `btrfs send` can exit 0 with a corrupt stream (stopped and
// continued, it repeats bytes), and btrfs receive believes much of what it reads: so nothing is stored or restored that
// has not been through here.

import { pipeline, Transform, type Readable } from "node:stream";
import { pipeline as finished } from "node:stream/promises";
import { openSendStreamChecker, peekIdentity, type RawIdentity, type StreamSummary } from "../btrfs/binding.ts";
import { BackupError } from "../errors.ts";

// The kernel sends an extent compressed when that is no longer than the data it stands for, but does not count what
// ENCODED_WRITE has around it more than WRITE (80 + path against 28 + path): many tiny files grow.
const encodedOverhead = 52;

/** What is wrong when the stream is: what `btrfs send` just made, or what an archive holds. */
export type DamageCode = "SEND_FAILED" | "ARCHIVE_DAMAGED";

export interface CheckOptions {
  /** SEND_FAILED unless told otherwise. */
  readonly code?: DamageCode | undefined;
  /** What the error says is damaged; "the send stream" unless told otherwise. */
  readonly subject?: string | undefined;
  /** Called once, when the whole stream has been found good, right before it ends. */
  readonly onSummary?: ((summary: StreamSummary) => void) | undefined;
}

/** Whose stream it is, and on what it builds; `sendParent` null = full. UUIDs in lower case. */
export interface StreamLineage {
  readonly uuid: string;
  readonly ctransid: number;
  readonly sendParent: { readonly uuid: string; readonly ctransid: number } | null;
}

/** What a `--no-data` stream tells of the stream it stands for. */
export interface StreamEstimate {
  /** Exact, unless the stream is sent with `--compressed-data`. */
  readonly bytes: number;
  /** With `--compressed-data` it is never larger than this. */
  readonly upperBound: number;
  /** Of the send protocol. */
  readonly proto: number;
  readonly lineage: StreamLineage;
}

// Few large pieces instead of many small ones; the pieces themselves are passed on as they come.
const highWaterMark = 1 << 18;

/**
 * The bytes of `source`, unchanged. It ends only when the source has ended well and all of it was a whole, undamaged
 * send stream; otherwise it is destroyed with the error of the source, or with `code`. Destroying it destroys the
 * source. The last piece is withheld until then: whoever acts on the END command never sees it in a stream that is not
 * good.
 */
export function checkedStream(source: Readable, options: CheckOptions = {}): Readable {
  const checker = openSendStreamChecker();
  const { onSummary } = options;
  let withheld: Buffer | null = null;
  const checked = new Transform({
    highWaterMark,
    transform(chunk: Buffer, _encoding, done) {
      const damage = damageOf(() => checker.push(chunk), options);
      if (damage === null && chunk.length > 0) {
        if (withheld !== null) this.push(withheld);
        withheld = chunk;
      }
      done(damage);
    },
    flush(done) {
      const damage = damageOf(() => checker.finish(), options);
      if (damage === null) {
        onSummary?.(checker.summary());
        this.push(withheld);
      }
      done(damage);
    },
  });
  // The outcome reaches whoever reads `checked`; a source that fails destroys it, and the other way round.
  return pipeline(source, checked, () => undefined);
}

/**
 * Reads a `--no-data` stream to its end.
 * @throws SEND_FAILED, and whatever the source is destroyed with
 */
export async function estimateFrom(source: Readable): Promise<StreamEstimate> {
  const checker = openSendStreamChecker();
  await finished(source, async (chunks: AsyncIterable<Buffer>) => {
    for await (const chunk of chunks) rethrowDamage(() => checker.push(chunk));
  });
  rethrowDamage(() => checker.finish());
  const { identity, estimatedBytes: bytes, commands } = checker.summary();
  if (identity === null) throw new BackupError("INTERNAL", "a whole send stream without its first command");
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

/** Whose stream a summary is of. */
export function lineageOf({ identity }: StreamSummary): StreamLineage | null {
  return identity === null ? null : toLineage(identity);
}

function toLineage(identity: RawIdentity): StreamLineage {
  const { uuid, ctransid, cloneUuid, cloneCtransid } = identity;
  const sendParent = cloneUuid === null || cloneCtransid === null ? null : { uuid: cloneUuid, ctransid: cloneCtransid };
  return { uuid, ctransid, sendParent };
}

function rethrowDamage(check: () => void): void {
  const damage = damageOf(check);
  if (damage !== null) throw damage;
}

function damageOf(check: () => void, options: CheckOptions = {}): BackupError | null {
  try {
    check();
    return null;
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause);
    const { code = "SEND_FAILED", subject = "the send stream" } = options;
    return new BackupError(code, `${subject} is damaged: ${reason}`, { cause });
  }
}
