// Decides which snapshots are sent, and whether each is full or incremental, from an inventory alone, without access to
// the world. A decision may need more archives than were examined so far. Then the plan names them in `examine`, and
// the caller plans again once they are known.

import { indexArchives, isSilent, measureChains } from "./chain.ts";
import { growChains, type GrowingChains } from "./growing.ts";
import { openLadder, type Keeping, type Ladder } from "./keeping.ts";
import {
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
import {
  archivedStates,
  isUnmistakable,
  originCandidates,
  sharedStreamUuids,
  toSendParent,
  type Candidate,
  type Mistakable,
} from "./send-parent.ts";
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
import { allArchives, type Inventory } from "./inventory.ts";

export interface SyncPlan {
  /** Each step follows the step of its send parent. */
  readonly steps: readonly UploadStep[];
  /** Snapshots that are archived already, each with a complete chain. */
  readonly kept: readonly Snapshot[];
  /** Snapshots that are not sent because no keep rule would keep their archives. */
  readonly notKept: readonly Snapshot[];
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
  /** Keep rules, and limits of the chains; absent or null: none. */
  readonly keeping?: Keeping | null;
  /** Snapshots that this run has sent since the inventory was taken. */
  readonly sent?: ReadonlySet<Uuid>;
  /** Snapshots that this run could not send: they are left out, and nothing builds on them. */
  readonly leftOut?: ReadonlySet<Uuid>;
}

/** The inputs of a plan, and its state so far. */
interface Planning extends Mistakable {
  readonly inventory: Inventory;
  /** The archives of all sources. */
  readonly archives: readonly Archive[];
  readonly request: SyncRequest;
  readonly chains: GrowingChains;
  readonly sizes: ReadonlyMap<Key, ChainSize | null>;
  readonly ladder: Ladder;
  /** The nearest last. */
  readonly candidates: Candidate[];
  readonly steps: UploadStep[];
  readonly notKept: Snapshot[];
  readonly findings: Finding[];
  readonly found: Found[];
}

/**
 * Plans a run: every snapshot without an archive is sent, if keep rules would keep it. It is incremental against an
 * earlier one that is archived with a complete chain or is sent earlier in the same run, by default the nearest; else it is
 * full. A hole in the middle is filled like any other, and completes the chains that build on it.
 */
export function planSync(inventory: Inventory, request: SyncRequest = {}): SyncPlan {
  const standings = compareSnapshots(inventory);
  const planning = openPlanning(inventory, standings, request);
  for (const standing of standings) planOne(standing, planning);
  const { archives, chains, steps, notKept, findings, found } = planning;
  const isBroken = ({ identity }: Found): boolean => chains.stateOf(identity) === "broken";
  const [broken, kept] = [found.filter(isBroken), found.filter((each) => !isBroken(each))];
  const all = [
    ...findings,
    ...elsewhereFindings(kept),
    ...brokenFindings(broken, archives),
    ...foreignFindings(inventory),
    ...(inventory.origin !== null && lacksOrigin(planning) ? returnedFindings(inventory.origin, archives) : []),
  ];
  return {
    steps,
    kept: kept.map(({ snapshot }) => snapshot),
    notKept,
    findings: uniqueFindings(all),
    examine: whatToExamine(inventory, {
      lacks: broken.length > 0 ? "chain" : lacksOrigin(planning) ? "origin" : "nothing",
      isComplete: kept.length + notKept.length === inventory.snapshots.length,
      judges: request.keeping?.rules != null,
    }),
  };
}

function openPlanning(inventory: Inventory, standings: readonly Standing[], request: SyncRequest): Planning {
  const archives = allArchives(inventory);
  const chains = openChains(inventory, archives, standings);
  const sizes = measureChains(archives, indexArchives(archives));
  const ladder = openLadder(inventory, standings, request.keeping);
  const candidates =
    request.full === true ? [] : originCandidates(inventory.origin, { archives, chains, sizes, ladder });
  return {
    inventory,
    archives,
    request,
    chains,
    sizes,
    ladder,
    shared: sharedStreamUuids(inventory.snapshots),
    states: archivedStates(archives),
    candidates,
    steps: [],
    notKept: [],
    findings: [],
    found: [],
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
  const { request, chains, candidates, found, ladder, sizes } = planning;
  const identity = heldBy({ snapshot, archive });
  found.push({ snapshot, key, archive, identity });
  const state = chains.stateOf(identity);
  // A stream on top of a deduplicated snapshot names a transaction that no archive has, and a restore refuses that.
  if (!sameIdentity(identity, streamIdentity(snapshot)) && !holdsCopy(snapshot, archive)) return;
  if (request.full === true || state === "broken" || !isUnmistakable(snapshot, identity, planning)) return;
  const warning = state === "unknown" ? trustedByName(snapshot, archive) : null;
  const step = ladder.stepOf(snapshot, sizes.get(archive.key) ?? archive.chain ?? null);
  candidates.push({ ...step, snapshot, identity, key: archive.key, warning });
}

function send({ snapshot, key }: Pick<Found, "snapshot" | "key">, planning: Planning): void {
  const { request, chains, shared, candidates, steps, findings, ladder } = planning;
  const isSent = request.sent?.has(snapshot.uuid) === true;
  if (!isSent && !ladder.keeps(snapshot)) {
    planning.notKept.push(snapshot);
    return;
  }
  const identity = streamIdentity(snapshot);
  const isShared = shared.has(identity.uuid);
  const { parent, reason } = ladder.choose(snapshot, isShared ? [] : candidates);
  if (!isSent) {
    if (isShared) findings.push(identityShared(snapshot));
    if (parent?.warning != null) findings.push(parent.warning);
    steps.push({ do: "upload", key, snapshot, ...toSendParent(parent), ...(reason === null ? {} : { reason }) });
  }
  chains.add(identity);
  if (isUnmistakable(snapshot, identity, planning))
    candidates.push({ ...ladder.above(snapshot, parent), snapshot, identity, key, warning: null });
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

/** True when a snapshot is sent full that could build on the origin, if an archive of that were found. */
function lacksOrigin({ inventory, request, steps, shared }: Planning): boolean {
  if (inventory.origin === null || request.full === true) return false;
  return steps.some(({ snapshot, sendParent }) => sendParent === null && !shared.has(streamIdentity(snapshot).uuid));
}

function whatToExamine(
  { examined, areCopies = false }: Inventory,
  {
    lacks,
    isComplete,
    judges,
  }: { readonly lacks: "chain" | "origin" | "nothing"; readonly isComplete: boolean; readonly judges: boolean },
): SyncPlan["examine"] {
  // A snapshot without an archive under its key may have one under another key; and rules judge all archives.
  if (examined === "snapshots") return isComplete && lacks === "nothing" && !judges ? null : "source";
  const isElsewhere = lacks !== "nothing" || (areCopies && !isComplete);
  return examined === "source" && isElsewhere ? "container" : null;
}

function uniqueFindings(findings: readonly Finding[]): Finding[] {
  const seen = new Map(findings.map((finding) => [`${finding.code} ${finding.subject}`, finding]));
  return [...seen.values()];
}
