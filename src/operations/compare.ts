// Compares archives with the snapshots that are still on this machine: stream with stream, or, restored, tree with tree.

import type { Readable } from "node:stream";
import type { Archive, Difference, Snapshot } from "../plan/model.ts";
import { compareSnapshots, NOTHING_STORED, findSnapshot } from "../plan/standing.ts";
import { checkedStream } from "../stream/send-stream.ts";
import type { LocalSnapshots, Sender } from "./ports.ts";
import { openStream, subjectOf } from "./read-archive.ts";
import { inOrder, sinceLast, toDamage, type VerifyContext } from "./verify.ts";
import { takeHead } from "../stream/peek.ts";
import type { Pieces } from "../stream/pieces.ts";
import { nextChunk } from "../stream/split.ts";
import { notCompared, warn, type Damage } from "../plan/damage.ts";
import { peekProto } from "../stream/stream-facts.ts";

/** Where the snapshots are that archives are compared with. */
export interface LocalSide {
  readonly snapshots: readonly Snapshot[];
  /** The source that sends by a version of the protocol. */
  openSource(proto: number): Promise<Sender>;
}

export interface Comparison {
  /** How many archives could be compared: their snapshot and the one it builds on are both here. */
  readonly compared: number;
  readonly findings: readonly Damage[];
}

/** Compares every archive whose snapshot is here with what `btrfs send` makes of it now. */
export async function compareWithLocal(
  archives: readonly Archive[],
  local: LocalSide,
  context: VerifyContext,
  signal: AbortSignal,
): Promise<Comparison> {
  const findings: Damage[] = [];
  let compared = 0;
  for (const archive of archives) {
    const difference = findDifference(archive, local.snapshots);
    if (difference === null) continue;
    compared += 1;
    const finding = await compareStream(archive, { difference, local, context }, signal).catch((error: unknown) =>
      toDamage(error, archive, context.archives),
    );
    if (finding !== null) findings.push(finding);
  }
  return { compared, findings: inOrder(findings) };
}

/**
 * Snapshots whose names another snapshot's archives have: for example on a machine whose disk is a clone of another's.
 */
export function findIncomparable({ source, snapshots }: LocalSnapshots, archives: readonly Archive[]): Damage[] {
  return compareSnapshots({ ...NOTHING_STORED, source, snapshots, archives }).flatMap((standing) => {
    if (standing.is !== "another") return [];
    const message =
      `${standing.snapshot.path} was not compared: the archive of that name holds another snapshot (it was deleted and ` +
      "created again, or renamed, or another machine uses the same source UUID)";
    const remedy =
      "compare on the machine that has the snapshot; give each machine a container of its own, or rename the snapshot: `sync` archives it then";
    return [notCompared(standing.key, message, { remedy })];
  });
}

function findDifference({ lineage }: Archive, snapshots: readonly Snapshot[]): Difference | null {
  if (lineage === null) return null;
  const snapshot = findSnapshot(lineage.snapshot, snapshots);
  const sendParent = lineage.sendParent === null ? null : findSnapshot(lineage.sendParent, snapshots);
  if (snapshot === null || (sendParent === null && lineage.sendParent !== null)) return null;
  return { snapshot, sendParent };
}

async function compareStream(
  archive: Archive,
  {
    difference,
    local,
    context,
  }: { readonly difference: Difference; readonly local: LocalSide; readonly context: VerifyContext },
  signal: AbortSignal,
): Promise<Damage | null> {
  const stream = await openStream(context.reading, archive, sinceLast(context.onBytes), signal);
  const stored = checkedStream(stream, { code: "ARCHIVE_DAMAGED", subject: subjectOf(archive) });
  const offset = await firstDifference(stored, async (head) => {
    const source = await local.openSource(peekProto(head) ?? 1);
    return source.send(difference, signal);
  });
  if (offset === null) return null;
  const message = `the archive of ${archive.path} is intact, but from byte ${offset} on it is not what btrfs send produces now`;
  return warn("NOT_COMPARABLE", archive.key, message, {
    remedy:
      "a balance, new reflinks or another kernel can do that; --drill checks whether it restores to the same tree",
  });
}

const NOTHING = Buffer.alloc(0);

/** The first command of a stream is shorter. */
const HEAD_BYTES = 512;

/**
 * Where two streams part, in bytes; null when they are equal. The first is read to its end in any case, so that damage
 * shows; the second is opened when the first has begun.
 */
async function firstDifference(first: Pieces, openSecond: (head: Buffer) => Promise<Readable>): Promise<number | null> {
  const { head, complete } = await takeHead(first, HEAD_BYTES);
  let second: AsyncIterator<unknown> | null = null;
  let stream: Readable | null = null;
  let rest: Buffer = NOTHING;
  let offset = 0;
  let parted: number | null = null;
  try {
    for await (const chunk of complete) {
      if (parted !== null) continue;
      stream ??= await openSecond(head);
      second ??= stream[Symbol.asyncIterator]();
      for (let at = 0; at < chunk.length && parted === null;) {
        if (rest.length === 0) rest = (await nextChunk(second)) ?? NOTHING;
        const length = Math.min(rest.length, chunk.length - at);
        const equal = commonLength(chunk.subarray(at, at + length), rest.subarray(0, length));
        if (equal < length || length === 0) parted = offset + equal;
        at += length;
        offset += length;
        rest = rest.subarray(length);
      }
    }
    if (parted !== null || second === null) return parted;
    return rest.length > 0 || (await nextChunk(second)) !== null ? offset : null;
  } finally {
    stream?.destroy();
    first.destroy();
  }
}

function commonLength(a: Buffer, b: Buffer): number {
  if (a.equals(b)) return a.length;
  let equal = 0;
  while (a[equal] === b[equal]) equal += 1;
  return equal;
}
