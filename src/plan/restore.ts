// Which archives are received, and in which order, so that a snapshot is on the target.

import { findChain, type ArchiveIndex } from "./chain.ts";
import { sameIdentity, type Archive, type Chain, type Identity, type ReceiveStep, type Snapshot } from "./model.ts";

export interface RestorePlan {
  readonly chain: Chain;
  /** Each after the one it builds on. Empty when the target holds the snapshot already. */
  readonly steps: readonly ReceiveStep[];
  /** The newest snapshot of the chain that is there already; null when there is none. */
  readonly held: Snapshot | null;
}

/** Receives what lies between the newest snapshot of the chain that the target holds and the one asked for. */
export function planRestore(target: Archive, index: ArchiveIndex, present: readonly Snapshot[]): RestorePlan {
  const chain = findChain(target, index);
  const links = chain.map((archive) => ({
    archive,
    held: present.find((snapshot) => holds(snapshot, archive)) ?? null,
  }));
  const newest = links.findLastIndex((link) => link.held !== null);
  return {
    chain,
    steps: links.slice(newest + 1).map(({ archive }) => toStep(archive)),
    held: links[newest]?.held ?? null,
  };
}

function toStep(archive: Archive): ReceiveStep {
  // A chain has only archives of known lineage: without it there is no telling what they build on.
  if (archive.lineage === null) throw new TypeError(`${archive.key} stands in a chain without lineage`);
  return { do: "receive", archive, expected: archive.lineage.snapshot };
}

function holds(snapshot: Snapshot, archive: Archive): boolean {
  const { lineage } = archive;
  return lineage !== null && sameIdentity(originOf(snapshot), lineage.snapshot);
}

/** What a snapshot is a copy of: a received one goes by what the stream called it, any other by what it is. */
function originOf(snapshot: Snapshot): Identity {
  return snapshot.received ?? { uuid: snapshot.uuid, ctransid: snapshot.ctransid };
}
