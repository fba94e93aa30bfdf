// Compares archives with the snapshots that are still on this machine: stream with stream, or, restored, tree with tree.

import type { Readable } from "node:stream";
import { findChain, indexArchives } from "../plan/chain.ts";
import {
  sameIdentity,
  streamIdentity,
  type Archive,
  type Difference,
  type Finding,
  type Identity,
  type Snapshot,
} from "../plan/model.ts";
import { planRestore } from "../plan/restore.ts";
import { describeSetBack, newestOf } from "../plan/select.ts";
import { compareSnapshots, NOTHING_STORED } from "../plan/standing.ts";
import { compareTrees, summarize, type TreeComparison } from "../plan/tree-differences.ts";
import { damaged, notCompared, warn, type Damage } from "../plan/verify.ts";
import { checkedStream, peekProto } from "../stream/send-stream.ts";
import type { LocalSnapshots, Scratch, Sender } from "./ports.ts";
import { openStream, subjectOf } from "./read-archive.ts";
import { runRestore, type RestoreContext } from "./restore.ts";
import { inOrder, toDamage, type VerifyContext } from "./verify.ts";

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

/** Snapshots whose names another snapshot's archives have: as on a machine whose disk is the clone of another's. */
export function findIncomparable({ source, snapshots }: LocalSnapshots, archives: readonly Archive[]): Damage[] {
  return compareSnapshots({ ...NOTHING_STORED, source, snapshots, archives }).flatMap((standing) => {
    if (standing.is !== "another") return [];
    const message =
      `${standing.snapshot.path} was not compared: the archive of that name holds another snapshot (it was deleted and ` +
      "made anew or renamed, or another machine uses the same source UUID)";
    const remedy =
      "compare on the machine that has the snapshot; give each machine a container of its own, or rename the snapshot: `sync` archives it then";
    return [notCompared(standing.key, message, { remedy })];
  });
}

/** The archive that a drill restores. */
export interface Drill {
  readonly archive: Archive;
  readonly snapshot: Snapshot;
  /** A reservation about the choice; null when there is none. */
  readonly doubt: Finding | null;
}

/** The newest archive whose snapshot is here; null when there is none. */
export function findDrill(archives: readonly Archive[], snapshots: readonly Snapshot[]): Drill | null {
  const here = new Map<Archive, Snapshot>();
  for (const archive of archives) {
    const snapshot = archive.lineage === null ? null : findSnapshot(archive.lineage.snapshot, snapshots);
    if (snapshot !== null) here.set(archive, snapshot);
  }
  const newest = newestOf([...here.keys()]);
  const snapshot = newest === null ? undefined : here.get(newest.archive);
  if (newest === null || snapshot === undefined) return null;
  return { archive: newest.archive, snapshot, doubt: describeSetBack(newest) };
}

/** Restores an archive with its chain, and compares the tree with that of the snapshot it was made of. */
export async function drill(
  { archive, snapshot }: Pick<Drill, "archive" | "snapshot">,
  scratch: Scratch,
  { context, run }: { readonly context: VerifyContext; readonly run: RestoreContext },
  signal: AbortSignal,
): Promise<Damage[]> {
  const { archives, reading } = context;
  try {
    const plan = planRestore(findChain(archive, indexArchives(archives)), [], "chain");
    const restored = await runRestore(plan, { ...reading, target: scratch.target }, run, signal);
    return describeTrees(archive, compareTrees(await scratch.compare(snapshot, restored, signal)), archives);
  } catch (error) {
    return [toDamage(error, archive, archives)];
  }
}

/** Describes the consequences of the differences between the restored tree and the one that was archived. */
export function describeTrees(
  archive: Archive,
  { differences, madeByReceive }: TreeComparison,
  archives: readonly Archive[],
): Damage[] {
  const { key, path } = archive;
  if (differences.length > 0) {
    const message = `${path} restores to something else than what is here: ${summarize(differences)}`;
    return [damaged("ARCHIVE_DAMAGED", archive, message, archives)];
  }
  if (madeByReceive.length === 0) return [];
  const message =
    `${path} restores with all its files, contents, owners and times, but btrfs receive gives some of them other ` +
    `ACLs, attributes or setuid bits than here: ${summarize(madeByReceive)}`;
  const remedy = "nothing about the archive, which is complete; after a restore, set these again by hand";
  return [warn("RECEIVED_OTHERWISE", key, message, { remedy })];
}

function findDifference({ lineage }: Archive, snapshots: readonly Snapshot[]): Difference | null {
  if (lineage === null) return null;
  const snapshot = findSnapshot(lineage.snapshot, snapshots);
  const sendParent = lineage.sendParent === null ? null : findSnapshot(lineage.sendParent, snapshots);
  if (snapshot === null || (sendParent === null && lineage.sendParent !== null)) return null;
  return { snapshot, sendParent };
}

function findSnapshot(identity: Identity, snapshots: readonly Snapshot[]): Snapshot | null {
  return snapshots.find((snapshot) => sameIdentity(streamIdentity(snapshot), identity)) ?? null;
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
  let read = 0;
  const stream = await openStream(
    context.reading,
    archive,
    (total) => {
      context.onBytes(total - read);
      read = total;
    },
    signal,
  );
  const stored = checkedStream(stream, { code: "ARCHIVE_DAMAGED", subject: subjectOf(archive) });
  const offset = await firstDifference(stored, async (head) => {
    const source = await local.openSource(peekProto(head) ?? 1);
    return source.send(difference, signal);
  });
  if (offset === null) return null;
  const message = `the archive of ${archive.path} is whole, but from byte ${offset} on not what btrfs send gives now`;
  return warn("NOT_COMPARABLE", archive.key, message, {
    remedy:
      "a balance, new reflinks or another kernel can do that; --drill checks whether it restores to the same tree",
  });
}

/**
 * Where two streams part, in bytes; null when they are equal. The first is read to its end in any case, so that damage
 * shows; the second is opened when the first has begun.
 */
async function firstDifference(
  first: Readable,
  openSecond: (head: Buffer) => Promise<Readable>,
): Promise<number | null> {
  let second: AsyncIterator<unknown> | null = null;
  let stream: Readable | null = null;
  let rest: Buffer = Buffer.alloc(0);
  let offset = 0;
  let parted: number | null = null;
  try {
    for await (const chunk of first) {
      if (!Buffer.isBuffer(chunk) || parted !== null) continue;
      stream ??= await openSecond(chunk);
      second ??= stream[Symbol.asyncIterator]();
      for (let at = 0; at < chunk.length && parted === null;) {
        if (rest.length === 0) rest = await nextChunk(second);
        const length = Math.min(rest.length, chunk.length - at);
        const equal = commonLength(chunk.subarray(at, at + length), rest.subarray(0, length));
        if (equal < length || length === 0) parted = offset + equal;
        at += length;
        offset += length;
        rest = rest.subarray(length);
      }
    }
    if (parted !== null || second === null) return parted;
    const more = rest.length > 0 ? rest : await nextChunk(second);
    return more.length > 0 ? offset : null;
  } finally {
    stream?.destroy();
  }
}

/** Empty at the end. */
async function nextChunk(chunks: AsyncIterator<unknown>): Promise<Buffer> {
  for (;;) {
    const next = await chunks.next();
    if (next.done === true) return Buffer.alloc(0);
    if (Buffer.isBuffer(next.value) && next.value.length > 0) return next.value;
  }
}

function commonLength(a: Buffer, b: Buffer): number {
  if (a.equals(b)) return a.length;
  let equal = 0;
  while (a[equal] === b[equal]) equal += 1;
  return equal;
}
