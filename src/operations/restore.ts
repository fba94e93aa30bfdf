// Carries a restore plan out: each archive of the chain, oldest first, through the stream check into `btrfs receive`.
// The last bytes of a stream reach `btrfs receive` only when every check agreed, so damage never becomes a sealed snapshot.

import { BackupError } from "../errors.ts";
import { indexArchives } from "../plan/chain.ts";
import { keyPrefix } from "../plan/key.ts";
import type { Archive, ReceiveStep, Snapshot } from "../plan/model.ts";
import { planRestore, type RestorePlan } from "../plan/restore.ts";
import { checkedStream } from "../stream/check.ts";
import { observe } from "../stream/observe.ts";
import { openBody } from "./body.ts";
import type { Container, RestoreTarget } from "./edges.ts";
import { readArchive, readArchives } from "./inventory.ts";

export interface RestoreEdges {
  readonly container: Container;
  readonly target: RestoreTarget;
}

export interface RestoreReceipt {
  readonly step: ReceiveStep;
  readonly snapshot: Snapshot;
  /** Of the archive, as stored. */
  readonly bytes: number;
  readonly elapsedMs: number;
}

export interface RestoreWatcher {
  onStart(step: ReceiveStep): void;
  /** Bytes of the current archive that have been read. */
  onProgress(bytes: number): void;
  onReceipt(receipt: RestoreReceipt): void;
}

/** What has to be received. @throws ARCHIVE_MISSING, CHAIN_BROKEN */
export async function prepareRestore(
  key: string,
  { container, target }: RestoreEdges,
  signal: AbortSignal,
): Promise<RestorePlan> {
  const archive = await readArchive(key, container, signal);
  if (archive === null) {
    throw new BackupError("ARCHIVE_MISSING", `there is no archive ${key} in the container ${container.name}`, {
      hint: "`list` shows the archives there are",
    });
  }
  const archives = await readArchives(keyPrefix(archive.source), container, signal);
  return planRestore(archive, indexArchives([...archives, archive]), await target.list(signal));
}

/** Receives one archive after the other; the first failure ends it, for all that follow build on it. */
export async function runRestore(
  plan: RestorePlan,
  edges: RestoreEdges,
  context: { readonly watcher: RestoreWatcher; readonly now: () => number },
  signal: AbortSignal,
): Promise<RestoreReceipt[]> {
  const { watcher, now } = context;
  const receipts: RestoreReceipt[] = [];
  for (const step of plan.steps) {
    watcher.onStart(step);
    const started = now();
    const snapshot = await receive(step, edges, watcher, signal);
    const receipt = { step, snapshot, bytes: step.archive.bytes, elapsedMs: now() - started };
    receipts.push(receipt);
    watcher.onReceipt(receipt);
  }
  return receipts;
}

async function receive(
  { archive, expected }: ReceiveStep,
  { container, target }: RestoreEdges,
  watcher: RestoreWatcher,
  signal: AbortSignal,
): Promise<Snapshot> {
  refuseEncoded(archive);
  const stored = await openBody(archive, container, signal);
  let read = 0;
  observe(stored, (piece) => {
    read += piece.length;
    watcher.onProgress(read);
  });
  const checked = checkedStream(stored, { code: "ARCHIVE_DAMAGED", subject: `the archive of ${archive.path}` });
  return await target.receive(checked, archive.path, expected, signal);
}

function refuseEncoded({ encoding, key }: Archive): void {
  if (encoding === null || encoding === "identity") return;
  throw new BackupError("CONFIG", `the archive ${key} is encoded with ${encoding}, which this version cannot decode`, {
    hint: "download it and pipe it through `age -d` or `zstd -d` into `btrfs receive -C`",
  });
}
