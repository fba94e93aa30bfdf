// Carries out a prune plan, and never breaks a chain: it deletes each archive before the one that it builds on, and the
// archive's key before the objects beside it. It deletes nothing that has changed since the plan was made. A prune that is
// killed leaves intact chains, and perhaps volumes without an archive, which the next prune removes.

import { toBackupError, type BackupError } from "../errors.ts";
import { indexArchives, parentIn } from "../plan/chain.ts";
import type { Inventory } from "../plan/inventory.ts";
import { keyPrefix } from "../plan/key.ts";
import { archiveKeyOf } from "../plan/manifest.ts";
import type { Archive, Key } from "../plan/model.ts";
import { pinnedAmong } from "../plan/pin.ts";
import { formatReplacementKey } from "../plan/replacement.ts";
import { endsTheRun } from "./ends-the-run.ts";
import { readListed, takeInventory } from "./inventory.ts";
import { listFinished } from "./replace-archive.ts";
import { removeVolumes } from "./object-to-store.ts";
import type { LocalSnapshots } from "./ports.ts";
import type { Reading } from "./read-archive.ts";
import type { Container } from "./store-ports.ts";

/** The facts that a prune is planned from. */
export interface PruneInventory {
  /** All archives of the container. */
  readonly archives: readonly Archive[];
  /** Keys of archives that are pinned. */
  readonly pinned: ReadonlySet<string>;
}

/**
 * Reads all archives of the container. Listings lag behind, so it asks for the archive of each snapshot on this machine,
 * listed or not: that may build on an archive that would be deleted.
 */
export async function takePruneInventory(
  locals: readonly LocalSnapshots[],
  reading: Reading,
  signal: AbortSignal,
): Promise<PruneInventory> {
  const objects = await listFinished("", reading, signal);
  const listed = await readListed(objects, { prefix: "", wanted: () => true, reading }, signal);
  const archives = new Map(listed.map((archive) => [archive.key, archive]));
  for (const local of locals) {
    const inventory = await takeInventory(local, reading, signal);
    for (const archive of inventory.archives) archives.set(archive.key, archive);
  }
  return { archives: [...archives.values()], pinned: pinnedAmong(objects.map(({ key }) => key)) };
}

/** The snapshots of a subvolume beside all archives, as a sync looks at them. */
export function toInventory(local: LocalSnapshots, archives: readonly Archive[]): Inventory {
  const { uuid } = local.source;
  const own = archives.filter(({ source }) => source === uuid);
  return {
    ...local,
    archived: new Set(own.map(({ key }) => key)),
    archives: own,
    others: archives.filter(({ source }) => source !== uuid),
    examined: "container",
    volumes: [],
    proofs: [],
  };
}

export interface PruneFailure {
  readonly archive: Archive;
  readonly reason: string;
}

export interface PruneOutcome {
  readonly deleted: readonly Archive[];
  readonly failures: readonly PruneFailure[];
  /** The error that stopped the run before its end; null when everything was tried. */
  readonly stoppedBy: BackupError | null;
}

export interface PruneWatcher {
  onDelete(archive: Archive): void;
  onFailure(failure: PruneFailure): void;
}

/**
 * Deletes one archive after the other. One that cannot be deleted stays, with all that it builds on.
 * @param deletions - each archive before the one that it builds on
 */
export async function runPrune(
  deletions: readonly Archive[],
  { archives }: PruneInventory,
  { container, watcher }: { readonly container: Container; readonly watcher: PruneWatcher },
  signal: AbortSignal,
): Promise<PruneOutcome> {
  const index = indexArchives(archives);
  const needed = new Map<Key, Archive>();
  const deleted: Archive[] = [];
  const failures: PruneFailure[] = [];
  const fail = (archive: Archive, reason: string): void => {
    // An archive that stays needs all that it builds on.
    const parent = parentIn(archive, index);
    if (parent != null) needed.set(parent.key, archive);
    failures.push({ archive, reason });
    watcher.onFailure({ archive, reason });
  };
  for (const archive of deletions) {
    try {
      signal.throwIfAborted();
      const child = needed.get(archive.key);
      const reason =
        child === undefined
          ? await deleteArchive(archive, container, signal)
          : `${child.path} needs it and is still there`;
      if (reason !== null) fail(archive, reason);
      else {
        deleted.push(archive);
        watcher.onDelete(archive);
      }
    } catch (error) {
      const failure = toBackupError(signal.aborted ? signal.reason : error);
      if (endsTheRun(failure)) return { deleted, failures, stoppedBy: failure };
      fail(archive, failure.message);
    }
  }
  return { deleted, failures, stoppedBy: null };
}

/**
 * Deletes an archive with all objects beside it. Returns null when it is gone, else the reason why it stays. Swift has no
 * conditional DELETE, so a HEAD comes right before it. Another one comes after it: s3api reports success even when it has
 * deleted only some of the segments (2.30).
 */
async function deleteArchive(archive: Archive, container: Container, signal: AbortSignal): Promise<string | null> {
  const { key, etag } = archive;
  const found = await container.head(key, signal);
  if (found !== null) {
    if (etag === null || found.etag !== etag) return "it has changed since it was looked at";
    // A decision to replace it would bring it back.
    await container.delete(formatReplacementKey(key), signal);
    await container.delete(key, signal);
    if ((await container.head(key, signal)) !== null) return "the store has deleted only a part of it: prune again";
  }
  // Another run may store the same snapshot again at this moment.
  const again = { isStored: false };
  const when = async (): Promise<boolean> => {
    again.isStored ||= (await container.head(key, signal)) !== null;
    return !again.isStored;
  };
  await removeVolumes(archive, { but: [], when }, container, signal);
  return again.isStored ? "it has been stored again meanwhile" : null;
}

/** True when archives of a source have appeared since the inventory was taken: they may build on a planned deletion. */
export async function hasGrown(
  sources: readonly Archive["source"][],
  { archives }: PruneInventory,
  container: Container,
  signal: AbortSignal,
): Promise<boolean> {
  const known = new Set<string>(archives.map(({ key }) => key));
  for (const source of sources) {
    const objects = await container.list(keyPrefix(source), signal);
    if (objects.some(({ key }) => archiveKeyOf(key) === null && !known.has(key))) return true;
  }
  return false;
}
