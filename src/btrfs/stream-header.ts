// The head of a send stream: whose stream it is, and the name that `btrfs receive` takes from it.

import { Transform } from "node:stream";
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
 * A stage that passes the expected send stream on, with another name in its first command: `btrfs receive` gives that
 * name to the subvolume. Nothing else in a stream depends on it.
 * @throws (as the stage's error) RECEIVE_FAILED
 */
export function renamedStage(expected: Identity, name: string): Transform {
  return headStage((head, identity) => {
    assertSame("RECEIVE_FAILED", "of", expected, identity.uuid, identity.ctransid);
    return withName(head, identity.path.length, name);
  });
}

/** The stream header (17 bytes) and the longest first command: a name of 255, two UUIDs, two transaction ids. */
const HEAD_BYTES = 350;

/** Collects enough bytes to know whose stream this is, edits them, and passes on the rest as it comes. */
function headStage(edit: (head: Buffer, identity: RawIdentity) => Buffer): Transform {
  let head: Buffer | null = Buffer.alloc(0);
  return new Transform({
    transform: (chunk: Buffer, _encoding, done) => {
      if (head === null) return done(null, chunk);
      head = Buffer.concat([head, chunk]);
      const identity = peekIdentity(head);
      if (identity === null) return done(head.length < HEAD_BYTES ? null : foreign("RECEIVE_FAILED"));
      try {
        const edited = edit(head, identity);
        head = null;
        done(null, edited);
      } catch (error) {
        done(error instanceof Error ? error : foreign("RECEIVE_FAILED"));
      }
    },
    flush: (done) => done(head === null ? null : foreign("RECEIVE_FAILED")),
  });
}

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
