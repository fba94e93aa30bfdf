// The head of a send stream: whose stream it is, and the name that `btrfs receive` takes from it.

import { BackupError, type FailureCode } from "../errors.ts";
import type { Identity, Lineage } from "../plan/model.ts";
import type { Head } from "../stream/child-output.ts";
import { peekIdentity, type RawIdentity } from "../addon/send-stream.ts";
import { ATTRIBUTE_HEADER_BYTES, COMMAND_HEADER_BYTES, sealed, STREAM_HEADER_BYTES } from "./send-commands.ts";

/** Makes sure that a send stream is the expected one, by its beginning. @throws SEND_FAILED */
export function sentHead(expected: Lineage): Head {
  return {
    bytes: HEAD_BYTES,
    check(head) {
      const identity = peekIdentity(head);
      if (identity === null) throw foreign("SEND_FAILED");
      assertSameStream(expected, identity);
    },
  };
}

/** @throws SEND_FAILED for another send stream than the expected one */
export function assertSameStream(expected: Lineage, identity: RawIdentity): void {
  assertSame("SEND_FAILED", "of", expected.snapshot, identity.uuid, identity.ctransid);
  assertSame("SEND_FAILED", "on top of", expected.sendParent, identity.cloneUuid, identity.cloneCtransid);
}

/**
 * Passes the expected send stream on, with another name in its first command: `btrfs receive` gives that name to the
 * subvolume. Nothing else in a stream depends on it.
 * @throws RECEIVE_FAILED
 */
export async function* renameStream(
  pieces: AsyncIterable<Buffer>,
  expected: Identity,
  name: string,
): AsyncGenerator<Buffer> {
  let head: Buffer | null = Buffer.alloc(0);
  for await (const piece of pieces) {
    if (head === null) {
      yield piece;
      continue;
    }
    // Enough bytes to know whose stream this is.
    head = Buffer.concat([head, piece]);
    const identity = peekIdentity(head);
    if (identity === null && head.length >= HEAD_BYTES) throw foreign("RECEIVE_FAILED");
    if (identity === null) continue;
    assertSame("RECEIVE_FAILED", "of", expected, identity.uuid, identity.ctransid);
    yield withName(head, identity.path.length, name);
    head = null;
  }
  if (head !== null) throw foreign("RECEIVE_FAILED");
}

/** The stream header (17 bytes) and the longest first command: a name of 255, two UUIDs, two transaction ids. */
const HEAD_BYTES = 350;

function foreign(code: FailureCode): BackupError {
  return new BackupError(code, "this is no send stream: it does not begin like one");
}

function assertSame(
  code: FailureCode,
  relation: "of" | "on top of",
  expected: Identity | null,
  ...[uuid, ctransid]: [string | null, number | null]
): void {
  if (uuid === (expected?.uuid ?? null) && (expected === null || ctransid === expected.ctransid)) return;
  const found = uuid === null ? "nothing" : `${uuid} at transaction ${ctransid}`;
  const wanted = expected === null ? "nothing" : `${expected.uuid} at transaction ${expected.ctransid}`;
  throw new BackupError(code, `the send stream is ${relation} ${found}, expected was ${wanted}`);
}

/** The same bytes with another PATH, the first attribute, in the first command. */
function withName(head: Buffer, oldLength: number, name: string): Buffer {
  const path = STREAM_HEADER_BYTES + COMMAND_HEADER_BYTES;
  const oldEnd = path + ATTRIBUTE_HEADER_BYTES + oldLength;
  const commandEnd = path + head.readUInt32LE(STREAM_HEADER_BYTES);
  const value = Buffer.from(name);
  const command = Buffer.concat([
    head.subarray(STREAM_HEADER_BYTES, path + ATTRIBUTE_HEADER_BYTES),
    value,
    head.subarray(oldEnd, commandEnd),
  ]);
  command.writeUInt16LE(value.length, COMMAND_HEADER_BYTES + 2);
  return Buffer.concat([head.subarray(0, STREAM_HEADER_BYTES), sealed(command), head.subarray(commandEnd)]);
}
