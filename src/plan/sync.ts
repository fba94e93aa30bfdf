// Which snapshots are sent, and as the difference to which: decided here, from an inventory, without looking at the
// world. A decision may need an archive's identity that nobody has read yet: then the plan names it in `unexamined`,
// and is asked for again once it is known. So a nightly run over a thousand archives reads one or two.

import { formatKey } from "./key.ts";
import {
  sameIdentity,
  streamIdentity,
  type Archive,
  type Finding,
  type Identity,
  type Inventory,
  type Key,
  type Origin,
  type Snapshot,
  type Unexamined,
  type UploadStep,
  type Uuid,
} from "./model.ts";

export interface SyncPlan {
  /** Each after the step that sends its send parent. */
  readonly steps: readonly UploadStep[];
  /** Snapshots that are archived already. */
  readonly kept: readonly Snapshot[];
  readonly findings: readonly Finding[];
  /** Archives that must be examined before this plan can be trusted; empty when it can. */
  readonly unexamined: readonly Key[];
  /** True when a snapshot is sent whole that could build on the origin, if an archive of that were found. */
  readonly wantsOrigin: boolean;
}

/** A snapshot with the key it is archived under. */
interface Named {
  readonly snapshot: Snapshot;
  readonly key: Key;
}

/** What may serve as a send parent, and how it is archived; `archive` null = it is sent earlier in the same run. */
interface Candidate extends Named {
  readonly archive: Archive | Unexamined | null;
  /** See {@link UploadStep.sendParentIdentity}. */
  readonly identity?: Identity | undefined;
}

/**
 * Plans a run: every snapshot whose key does not exist is sent, as the difference to the nearest earlier one that is
 * archived or is sent earlier in the same run, else whole. A hole in the middle is filled like any other.
 */
export function planSync(inventory: Inventory): SyncPlan {
  const findings: Finding[] = [];
  const shared = sharedStreamUuids(inventory.snapshots);
  const steps: UploadStep[] = [];
  const kept: Snapshot[] = [];
  const unexamined = new Set<Key>();
  /** What a later snapshot may be sent as the difference to; the nearest last. */
  const candidates: Candidate[] = originCandidates(inventory.origin);

  for (const named of nameSnapshots(inventory, findings)) {
    const { snapshot, key } = named;
    const archive = inventory.archived.get(key) ?? null;
    const mayServe = !shared.has(streamIdentity(snapshot).uuid);
    if (archive !== null) {
      if (isUnexamined(archive) && archive.modified < snapshot.otime) unexamined.add(key);
      const reused = !isUnexamined(archive) && !isArchiveOf(archive, snapshot);
      if (reused) findings.push(nameReused(named));
      else kept.push(snapshot);
      if (mayServe && !reused) candidates.push({ ...named, archive });
      continue;
    }
    const parent = mayServe ? (candidates.at(-1) ?? null) : null;
    if (parent?.archive != null) {
      if (isUnexamined(parent.archive)) unexamined.add(parent.key);
      else if (parent.archive.lineage === null) findings.push(trustedByName(parent));
    }
    if (!mayServe) findings.push(identityShared(named));
    steps.push({ do: "upload", key, snapshot, ...toSendParent(parent) });
    if (mayServe) candidates.push({ ...named, archive: null });
  }
  const whole = steps.some(({ snapshot, sendParent }) => sendParent === null && !shared.has(streamIdentity(snapshot).uuid));
  const wantsOrigin = whole && inventory.origin?.archive === null;
  return { steps, kept, findings: uniqueFindings(findings), unexamined: [...unexamined], wantsOrigin };
}

/** Older than every snapshot of the source, so that it serves only where none of them does. */
function originCandidates(origin: Origin | null): Candidate[] {
  if (origin?.archive == null) return [];
  const { snapshot, archive } = origin;
  return [{ snapshot, archive, key: archive.key, identity: archive.lineage?.snapshot }];
}

function toSendParent(parent: Candidate | null): Pick<UploadStep, "sendParent" | "sendParentIdentity"> {
  if (parent === null) return { sendParent: null };
  const { snapshot, identity } = parent;
  return { sendParent: snapshot, ...(identity === undefined ? {} : { sendParentIdentity: identity }) };
}

export function isUnexamined(archive: Archive | Unexamined): archive is Unexamined {
  return !("lineage" in archive);
}

/** An archive whose lineage nothing tells is trusted by its name. */
function isArchiveOf(archive: Archive, snapshot: Snapshot): boolean {
  return archive.lineage === null || sameIdentity(archive.lineage.snapshot, streamIdentity(snapshot));
}

/**
 * Stream UUIDs that more than one snapshot goes by: all snapshots of a subvolume that was received and then made
 * writable without losing its received UUID. `btrfs receive` cannot tell them apart, so none may be a send parent.
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

function nameSnapshots(inventory: Inventory, findings: Finding[]): Named[] {
  const taken = new Set<Key>();
  return inventory.snapshots.flatMap((snapshot) => {
    const name = nameOf(inventory.source.uuid, snapshot, taken);
    if ("key" in name) {
      taken.add(name.key);
      return [{ snapshot, key: name.key }];
    }
    findings.push({
      code: "NAME_UNUSABLE",
      severity: "error",
      subject: snapshot.path,
      message: `${snapshot.path} cannot be archived: ${name.refused}; rename it`,
    });
    return [];
  });
}

function nameOf(source: Uuid, snapshot: Snapshot, taken: ReadonlySet<Key>): ReturnType<typeof formatKey> {
  if (!snapshot.pathIsExact) return { refused: "its path is not valid UTF-8" };
  const name = formatKey(source, snapshot.path);
  return "key" in name && taken.has(name.key) ? { refused: "another snapshot has the same path" } : name;
}

function nameReused({ snapshot, key }: Named): Finding {
  return {
    code: "NAME_REUSED",
    severity: "error",
    subject: key,
    message:
      `${snapshot.path} is not the snapshot that is archived under its name (it was deleted and made anew): ` +
      "it is not archived; rename it, or delete the archive if it is no longer wanted",
  };
}

function trustedByName({ snapshot, key }: Named): Finding {
  return {
    code: "TRUSTED_BY_NAME",
    severity: "warning",
    subject: key,
    message:
      `the archive of ${snapshot.path} does not tell whose stream it holds (it is encrypted and has no metadata): ` +
      "it is trusted by its name as the base of the next one",
  };
}

function identityShared({ snapshot }: Named): Finding {
  return {
    code: "IDENTITY_SHARED",
    severity: "warning",
    subject: snapshot.path,
    message:
      `${snapshot.path} carries the received UUID of another snapshot, so no difference can build on it: it is sent ` +
      "whole; take snapshots of a writable snapshot of the received subvolume instead",
  };
}

function uniqueFindings(findings: readonly Finding[]): Finding[] {
  const seen = new Map(findings.map((finding) => [`${finding.code} ${finding.subject}`, finding]));
  return [...seen.values()];
}
