// Carries a restore plan out: each archive of the chain, oldest first, through the stream check into `btrfs receive`.
// The last bytes of a stream reach `btrfs receive` only when every check agreed, so damage never becomes a sealed snapshot.

import type { Writable } from "node:stream";
import { abortedError, BackupError, describeWriteError, toBackupError, isBrokenPipe } from "../errors.ts";
import { findChain, indexArchives, isSilent, assertReadable } from "../plan/chain.ts";
import { keyPrefix, parseKey } from "../plan/key.ts";
import type { Archive, Chain, Snapshot } from "../plan/model.ts";
import {
  planRestore,
  assertGenuine,
  uuidsOf,
  type ReceiveStep,
  type RestorePlan,
  type RestoreScope,
} from "../plan/restore.ts";
import { selectArchive, type Selection } from "../plan/select.ts";
import { writePieces } from "../stream/pieces.ts";
import { widenOutput } from "../stream/pipeline.ts";
import { openChecked } from "./checked-archive.ts";
import type { RestoreTarget } from "./ports.ts";
import { readArchive, readArchives } from "./inventory.ts";
import { identityMissing, assertDecodable, type Reading } from "./read-archive.ts";

export interface RestoreEdges extends Reading {
  readonly target: RestoreTarget;
}

export interface RestoreReceipt {
  readonly archive: Archive;
  /** As it is on the target now; null when the stream went elsewhere. */
  readonly snapshot: Snapshot | null;
  readonly elapsedMs: number;
}

export interface RestoreWatcher {
  onStart(archive: Archive): void;
  /** Stored bytes of the current archive that have been read. */
  onProgress(bytes: number): void;
  onReceipt(receipt: RestoreReceipt): void;
}

export interface RestoreContext {
  readonly watcher: RestoreWatcher;
  /** Milliseconds of a clock that never steps back. */
  readonly now: () => number;
}

/**
 * Finds the archive that is meant, and all that have to be read for it.
 * @throws ARCHIVE_MISSING, CHAIN_BROKEN, IDENTITY_REFUSED, USAGE when it could be several
 */
export async function findSelected(selection: Selection, reading: Reading, signal: AbortSignal): Promise<Chain> {
  const key = selection.by === "name" ? parseKey(selection.name) : null;
  if (key !== null) {
    // The archives of one source are enough, unless its first snapshots build on those of another: restored ones.
    const listed = await readArchives(keyPrefix(key.source), reading, signal);
    const archives = await withNamed(listed, key.key, reading, signal);
    const chain = tryFindChain(archives, selection);
    if (chain !== null) return chain;
  }
  const listed = await readArchives("", reading, signal);
  const archives = key === null ? listed : await withNamed(listed, key.key, reading, signal);
  const archive = selectArchive(archives, selection, reading.onFinding);
  try {
    return findChain(archive, indexArchives(archives));
  } catch (error) {
    // An archive that cannot be read may be the missing link.
    for (const other of isSilent(archive) ? [] : archives) if (other.source === archive.source) assertReadable(other);
    // An encrypted archive without lineage may be the missing link.
    const silent = isSilent(archive) ? archive : archives.find(isSilent);
    throw silent === undefined ? error : identityMissing(silent, reading.identities);
  }
}

/** Listings lag behind, so the store itself is asked for an archive that is named. */
async function withNamed(
  listed: readonly Archive[],
  key: string,
  reading: Reading,
  signal: AbortSignal,
): Promise<readonly Archive[]> {
  if (listed.some((archive) => archive.key === key)) return listed;
  const found = await readArchive(key, reading, signal);
  return found === null ? listed : [...listed, found];
}

function tryFindChain(archives: readonly Archive[], selection: Selection): Chain | null {
  try {
    return findChain(selectArchive(archives, selection), indexArchives(archives));
  } catch {
    return null;
  }
}

/** Plans what has to be received. @throws as {@link findSelected}, RECEIVE_FAILED */
export async function prepareRestore(
  selection: Selection,
  edges: RestoreEdges,
  scope: RestoreScope,
  signal: AbortSignal,
): Promise<RestorePlan> {
  const chain = await findSelected(selection, edges, signal);
  const plan = planRestore(chain, await edges.target.list(uuidsOf(chain), signal), scope);
  for (const { archive, place } of plan.steps) {
    assertDecodable(archive, edges.identities);
    await edges.target.assertFree(place).catch((error: unknown) => {
      throw withReason(error, plan);
    });
  }
  return plan;
}

/** Adds why another subvolume was not used: one in the place of a snapshot may look like it. */
function withReason(error: unknown, { passedOver: [first] }: RestorePlan): unknown {
  if (!(error instanceof BackupError) || first === undefined) return error;
  const { code, hint, context, cause } = error;
  return new BackupError(code, `${error.message}: ${first.path} ${first.reason}`, {
    hint: hint ?? undefined,
    context,
    cause,
  });
}

/**
 * Receives one archive after the other. The first failure ends it, because all that follow build on that one.
 * Subvolumes received until then stay, and are not received again.
 */
export async function runRestore(
  plan: RestorePlan,
  edges: RestoreEdges,
  { watcher, now }: RestoreContext,
  signal: AbortSignal,
): Promise<Snapshot> {
  let newest = plan.held;
  const needsBase = plan.held?.received === null && plan.steps.length > 0;
  const release = needsBase ? await edges.target.adopt(plan.held, signal) : null;
  try {
    for (const step of plan.steps) {
      watcher.onStart(step.archive);
      const started = now();
      newest = await receive(step, edges, watcher, signal);
      watcher.onReceipt({ archive: step.archive, snapshot: newest, elapsedMs: now() - started });
    }
  } finally {
    await release?.();
  }
  if (plan.scaffold !== null) await edges.target.removeReceived(plan.scaffold, uuidsOf(plan.chain));
  if (newest === null) throw new TypeError("a plan without steps that holds nothing");
  return newest;
}

/**
 * Writes the send streams of archives one after the other, as `btrfs receive` takes them in one go.
 * @throws RECEIVE_FAILED when the reader goes away
 */
export async function writeStreams(
  archives: readonly Archive[],
  { reading, sink }: { readonly reading: Reading; readonly sink: Writable },
  { watcher, now }: RestoreContext,
  signal: AbortSignal,
): Promise<void> {
  for (const archive of archives) assertDecodable(archive, reading.identities);
  widenOutput(sink);
  for (const [position, archive] of archives.entries()) {
    watcher.onStart(archive);
    const started = now();
    const parent = archives[position - 1] ?? null;
    const stream = await openChecked({ archive, parent }, reading, (bytes) => watcher.onProgress(bytes), signal);
    await writePieces(stream, sink, signal).catch((error: unknown) => {
      if (signal.aborted) throw abortedError(signal);
      if (isBrokenPipe(error)) throw readerGone(error);
      throw isWriteError(error) ? notWritten(error) : toBackupError(error);
    });
    watcher.onReceipt({ archive, snapshot: null, elapsedMs: now() - started });
  }
}

async function receive(
  step: ReceiveStep,
  edges: RestoreEdges,
  watcher: RestoreWatcher,
  signal: AbortSignal,
): Promise<Snapshot> {
  // Listed again each time, because a restore may take days.
  assertGenuine(
    step,
    await edges.target.list(uuidsOf([step.archive, ...(step.parent === null ? [] : [step.parent])]), signal),
  );
  const stream = await openChecked(step, edges, (bytes) => watcher.onProgress(bytes), signal);
  return await edges.target.receive(stream, step.place, step.expected, signal);
}

/** True for errors of the sink: failures of connections to the store have already become a BackupError. */
function isWriteError(error: unknown): boolean {
  return error instanceof Error && "syscall" in error && error.syscall === "write";
}

function notWritten(cause: unknown): BackupError {
  return new BackupError("RECEIVE_FAILED", `the stream was not written: ${describeWriteError(cause)}`, { cause });
}

function readerGone(cause: unknown): BackupError {
  return new BackupError("RECEIVE_FAILED", "the reader of the stream closed it before its end", { cause });
}
