// Finds the possible send parents: archived snapshots that are still on this machine, whose chain is complete, and that
// `btrfs receive` cannot mistake for another.

import type { GrowingChains } from "./growing.ts";
import type { Ladder, Step } from "./keeping.ts";
import {
  originOf,
  sameIdentity,
  streamIdentity,
  type Archive,
  type ChainSize,
  type Identity,
  type Key,
  type Snapshot,
  type UploadStep,
  type Uuid,
} from "./model.ts";
import type { Finding } from "./finding.ts";

/** A candidate for the send parent. */
export interface Candidate extends Step {
  readonly snapshot: Snapshot;
  /** The identity in its archive: see {@link UploadStep.sendParentIdentity}. */
  readonly identity: Identity;
  /** The key of its archive. */
  readonly key: Key;
  /** The warning to report when it serves; null for none. */
  readonly warning: Finding | null;
}

/** The snapshots that `btrfs receive` could mistake for another, because it looks for the UUID alone. */
export interface Mistakable {
  /** Stream UUIDs that more than one snapshot has. */
  readonly shared: ReadonlySet<Uuid>;
  /** The archived states of each stream UUID, by transaction: more than one where a snapshot was changed and archived again. */
  readonly states: ReadonlyMap<Uuid, ReadonlySet<number>>;
}

/**
 * True when `btrfs receive` can only build on this snapshot, where its UUID is named as a parent's. It looks for the UUID
 * alone, so that of two states of one snapshot, both restored, it may take the wrong one; and where both are in one chain,
 * that chain could never be restored.
 */
export function isUnmistakable(
  snapshot: Snapshot,
  { uuid, ctransid }: Identity,
  { shared, states }: Mistakable,
): boolean {
  if (shared.has(streamIdentity(snapshot).uuid)) return false;
  return [...(states.get(uuid) ?? [])].every((state) => state === ctransid);
}

/** The archived states of each stream UUID: see {@link Mistakable}. */
export function archivedStates(archives: readonly Archive[]): ReadonlyMap<Uuid, ReadonlySet<number>> {
  const states = new Map<Uuid, Set<number>>();
  for (const { lineage } of archives) {
    if (lineage === null) continue;
    const { uuid, ctransid } = lineage.snapshot;
    states.set(uuid, (states.get(uuid) ?? new Set()).add(ctransid));
  }
  return states;
}

/**
 * Stream UUIDs that more than one snapshot has: all snapshots of a subvolume that was received and then made writable
 * without losing its received UUID. `btrfs receive` cannot distinguish them, so none may be a send parent.
 */
export function sharedStreamUuids(snapshots: readonly Snapshot[]): ReadonlySet<Uuid> {
  const seen = new Set<Uuid>();
  const shared = new Set<Uuid>();
  for (const snapshot of snapshots) {
    const { uuid } = streamIdentity(snapshot);
    (seen.has(uuid) ? shared : seen).add(uuid);
  }
  return shared;
}

/** Names the send parent in a step. */
export function toSendParent(
  parent: Candidate | null,
): Pick<UploadStep, "sendParent" | "sendParentIdentity" | "sendParentArchive"> {
  if (parent === null) return { sendParent: null };
  const { snapshot, identity, key, chainLength, chainBytes } = parent;
  return {
    sendParent: snapshot,
    sendParentArchive: { key, chainLength, chainBytes },
    ...(sameIdentity(identity, streamIdentity(snapshot)) ? {} : { sendParentIdentity: identity }),
  };
}

/** The snapshot that the source began as. Older than every snapshot of the source, so that it serves only where none of them does. */
export function originCandidates(
  origin: Snapshot | null,
  { archives, chains, sizes, ladder }: OriginContext,
): Candidate[] {
  if (origin === null) return [];
  const identity = originOf(origin);
  const archive = archives.find(({ lineage }) => lineage !== null && sameIdentity(lineage.snapshot, identity));
  if (archive === undefined || chains.stateOf(identity) !== "intact") return [];
  const { key } = archive;
  return [{ ...ladder.stepOf(origin, sizes.get(key) ?? null), snapshot: origin, identity, key, warning: null }];
}

interface OriginContext {
  readonly archives: readonly Archive[];
  readonly chains: GrowingChains;
  readonly sizes: ReadonlyMap<Key, ChainSize | null>;
  readonly ladder: Ladder;
}
