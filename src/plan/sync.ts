// Decides which snapshots are sent, and whether each is full or incremental, from an inventory alone, without access to
// the world. A decision may need more archives than were examined so far. Then the plan names them in `examine`, and
// the caller plans again once they are known.

import { isSilent } from "./chain.ts";
import { growChains, type GrowingChains } from "./growing.ts";
import {
  originOf,
  sameIdentity,
  streamIdentity,
  type Archive,
  type Identity,
  type Snapshot,
  type UploadStep,
  type Uuid,
} from "./model.ts";
import { compareSnapshots, describeStanding, holdsCopy, type Standing } from "./standing.ts";
import {
  brokenFindings,
  elsewhereFindings,
  foreignFindings,
  identityShared,
  returnedFindings,
  trustedByName,
  type Found,
} from "./sync-findings.ts";
import type { Finding } from "./finding.ts";
import type { Inventory } from "./inventory.ts";

export interface SyncPlan {
  /** Each step follows the step of its send parent. */
  readonly steps: readonly UploadStep[];
  /** Snapshots that are archived already, each with a complete chain. */
  readonly kept: readonly Snapshot[];
  readonly findings: readonly Finding[];
  /** The archives to examine before this plan can be trusted; null when it can already. */
  readonly examine: "source" | "container" | null;
}

/** The wishes for a run, in addition to the inventory. */
export interface SyncRequest {
  /** Begin a new chain: no archive serves as a send parent. */
  readonly full?: boolean;
  /** Send again the snapshots that are archived under another key. */
  readonly rearchive?: boolean;
  /** Snapshots that this run has sent since the inventory was taken. */
  readonly sent?: ReadonlySet<Uuid>;
  /** Snapshots that this run could not send: they are left out, and nothing builds on them. */
  readonly leftOut?: ReadonlySet<Uuid>;
}

/** A candidate for the send parent. */
interface Candidate {
  readonly snapshot: Snapshot;
  /** The identity in its archive: see {@link UploadStep.sendParentIdentity}. */
  readonly identity: Identity;
  /** The warning to report when it serves; null for none. */
  readonly warning: Finding | null;
}

/** The inputs of a plan, and its state so far. */
interface Planning {
  readonly inventory: Inventory;
  /** The archives of all sources. */
  readonly archives: readonly Archive[];
  readonly request: SyncRequest;
  readonly chains: GrowingChains;
  /** Stream UUIDs that more than one snapshot has. */
  readonly shared: ReadonlySet<Uuid>;
  /** The archived states of each stream UUID, by transaction: more than one where a snapshot was changed and archived again. */
  readonly states: ReadonlyMap<Uuid, ReadonlySet<number>>;
  /** The nearest last. */
  readonly candidates: Candidate[];
  readonly steps: UploadStep[];
  readonly findings: Finding[];
  readonly found: Found[];
}

/**
 * Plans a run: every snapshot without an archive is sent. It is incremental against the nearest earlier one that is
 * archived with a complete chain or is sent earlier in the same run; else it is full. A hole in the middle is filled
 * like any other, and completes the chains that build on it.
 */
export function planSync(inventory: Inventory, request: SyncRequest = {}): SyncPlan {
  const standings = compareSnapshots(inventory);
  const archives = [...inventory.others, ...inventory.archives];
  const chains = openChains(inventory, archives, standings);
  const shared = sharedStreamUuids(inventory.snapshots);
  const candidates = request.full === true ? [] : originCandidates(inventory.origin, archives, chains);
  const planning: Planning = {
    inventory,
    archives,
    request,
    chains,
    shared,
    states: archivedStates(archives),
    candidates,
    steps: [],
    findings: [],
    found: [],
  };
  for (const standing of standings) planOne(standing, planning);
  const { steps, findings, found } = planning;
  const isBroken = ({ identity }: Found): boolean => chains.stateOf(identity) === "broken";
  const [broken, kept] = [found.filter(isBroken), found.filter((each) => !isBroken(each))];
  const all = [
    ...findings,
    ...elsewhereFindings(kept),
    ...brokenFindings(broken, archives),
    ...foreignFindings(inventory),
    ...(inventory.origin !== null && lacksOrigin(planning) ? returnedFindings(inventory.origin, archives) : []),
  ];
  const lacks = broken.length > 0 ? "chain" : lacksOrigin(planning) ? "origin" : "nothing";
  return {
    steps,
    kept: kept.map(({ snapshot }) => snapshot),
    findings: uniqueFindings(all),
    examine: whatToExamine(inventory, lacks, kept.length === inventory.snapshots.length),
  };
}

function planOne(standing: Standing, planning: Planning): void {
  const { inventory, request, chains, findings } = planning;
  const { snapshot } = standing;
  if (request.leftOut?.has(snapshot.uuid) === true) return;
  const finding = describeStanding(standing, inventory.archives);
  if (finding !== null) findings.push(finding);
  switch (standing.is) {
    case "archived":
    case "proven":
    case "trusted":
      keep(standing, planning);
      break;
    case "elsewhere":
      if (request.rearchive === true || chains.stateOf(heldBy(standing)) === "broken") send(standing, planning);
      else keep(standing, planning);
      break;
    case "missing":
      send(standing, planning);
      break;
    default:
      // Reported above.
      break;
  }
}

function heldBy({ snapshot, archive }: Pick<Found, "snapshot" | "archive">): Identity {
  return archive.lineage?.snapshot ?? streamIdentity(snapshot);
}

function keep({ snapshot, key, archive }: Omit<Found, "identity">, planning: Planning): void {
  const { request, chains, candidates, found } = planning;
  const identity = heldBy({ snapshot, archive });
  found.push({ snapshot, key, archive, identity });
  const state = chains.stateOf(identity);
  // A stream on top of a deduplicated snapshot names a transaction that no archive has, and a restore refuses that.
  if (!sameIdentity(identity, streamIdentity(snapshot)) && !holdsCopy(snapshot, archive)) return;
  if (request.full === true || state === "broken" || !isUnmistakable(snapshot, identity, planning)) return;
  candidates.push({ snapshot, identity, warning: state === "unknown" ? trustedByName(snapshot, archive) : null });
}

function send({ snapshot, key }: Pick<Found, "snapshot" | "key">, planning: Planning): void {
  const { request, chains, shared, candidates, steps, findings } = planning;
  const identity = streamIdentity(snapshot);
  const isShared = shared.has(identity.uuid);
  const parent = isShared ? null : (candidates.at(-1) ?? null);
  if (request.sent?.has(snapshot.uuid) !== true) {
    if (isShared) findings.push(identityShared(snapshot));
    if (parent?.warning != null) findings.push(parent.warning);
    steps.push({ do: "upload", key, snapshot, ...toSendParent(parent) });
  }
  chains.add(identity);
  if (isUnmistakable(snapshot, identity, planning)) candidates.push({ snapshot, identity, warning: null });
}

/**
 * True when `btrfs receive` can only build on this snapshot, where its UUID is named as a parent's. It looks for the UUID
 * alone, so that of two states of one snapshot, both restored, it may take the wrong one; and where both are in one chain,
 * that chain could never be restored.
 */
function isUnmistakable(snapshot: Snapshot, { uuid, ctransid }: Identity, { shared, states }: Planning): boolean {
  if (shared.has(streamIdentity(snapshot).uuid)) return false;
  return [...(states.get(uuid) ?? [])].every((state) => state === ctransid);
}

function archivedStates(archives: readonly Archive[]): ReadonlyMap<Uuid, ReadonlySet<number>> {
  const states = new Map<Uuid, Set<number>>();
  for (const { lineage } of archives) {
    if (lineage === null) continue;
    const { uuid, ctransid } = lineage.snapshot;
    states.set(uuid, (states.get(uuid) ?? new Set()).add(ctransid));
  }
  return states;
}

function toSendParent(parent: Candidate | null): Pick<UploadStep, "sendParent" | "sendParentIdentity"> {
  if (parent === null) return { sendParent: null };
  const { snapshot, identity } = parent;
  return {
    sendParent: snapshot,
    ...(sameIdentity(identity, streamIdentity(snapshot)) ? {} : { sendParentIdentity: identity }),
  };
}

function openChains(inventory: Inventory, archives: readonly Archive[], standings: readonly Standing[]): GrowingChains {
  const trusted = standings.flatMap((standing) => (standing.is === "trusted" ? standing : []));
  const taken = new Set(trusted.map(({ archive }) => archive));
  const silent = inventory.archives.filter((archive) => isSilent(archive) && !taken.has(archive));
  return growChains(
    archives,
    trusted.map(({ snapshot }) => streamIdentity(snapshot)),
    silent,
  );
}

/** Older than every snapshot of the source, so that it serves only where none of them does. */
function originCandidates(origin: Snapshot | null, archives: readonly Archive[], chains: GrowingChains): Candidate[] {
  if (origin === null) return [];
  const identity = originOf(origin);
  const isArchived = archives.some(({ lineage }) => lineage !== null && sameIdentity(lineage.snapshot, identity));
  return isArchived && chains.stateOf(identity) === "intact" ? [{ snapshot: origin, identity, warning: null }] : [];
}

/** True when a snapshot is sent full that could build on the origin, if an archive of that were found. */
function lacksOrigin({ inventory, request, steps, shared }: Planning): boolean {
  if (inventory.origin === null || request.full === true) return false;
  return steps.some(({ snapshot, sendParent }) => sendParent === null && !shared.has(streamIdentity(snapshot).uuid));
}

function whatToExamine(
  { examined, areCopies = false }: Inventory,
  lacks: "chain" | "origin" | "nothing",
  isComplete: boolean,
): SyncPlan["examine"] {
  // A snapshot without an archive under its key may have one under another key.
  if (examined === "snapshots") return isComplete && lacks === "nothing" ? null : "source";
  const isElsewhere = lacks !== "nothing" || (areCopies && !isComplete);
  return examined === "source" && isElsewhere ? "container" : null;
}

/**
 * Stream UUIDs that more than one snapshot has: all snapshots of a subvolume that was received and then made writable
 * without losing its received UUID. `btrfs receive` cannot distinguish them, so none may be a send parent.
 */
function sharedStreamUuids(snapshots: readonly Snapshot[]): ReadonlySet<Uuid> {
  const seen = new Set<Uuid>();
  const shared = new Set<Uuid>();
  for (const snapshot of snapshots) {
    const { uuid } = streamIdentity(snapshot);
    (seen.has(uuid) ? shared : seen).add(uuid);
  }
  return shared;
}

function uniqueFindings(findings: readonly Finding[]): Finding[] {
  const seen = new Map(findings.map((finding) => [`${finding.code} ${finding.subject}`, finding]));
  return [...seen.values()];
}
