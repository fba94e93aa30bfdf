// Groups received snapshots. A received snapshot records the snapshot it is a copy of, and the one it was received on
// top of, but not the subvolume it was taken of. So linked snapshots belong together. Where a link was deleted, the
// name decides: a wrong guess makes an incremental larger, but never restores anything else.

import { groupBy, identityText } from "./chain.ts";
import { byCreation, copiedBy, namesOf, streamIdentity, type Archive, type Snapshot, type Uuid } from "./model.ts";
import type { Finding } from "./finding.ts";

/** Received snapshots of one origin. */
export interface ReceivedChain {
  /** The source they are archived under: the received UUID of the first one that was. */
  readonly source: Uuid;
  /** The common part of their paths, with an asterisk for dates and numbers. */
  readonly name: string;
  /** In creation order. */
  readonly snapshots: readonly Snapshot[];
  readonly findings: readonly Finding[];
}

/** @param archives - of the entire container */
export function chainReceived(snapshots: readonly Snapshot[], archives: readonly Archive[]): ReceivedChain[] {
  const { kept, findings } = withoutDoubles(snapshots.toSorted(byCreation));
  const sourceOf = indexSources(archives);
  const unions = openUnions();
  for (const snapshot of kept) {
    const { uuid, source, received } = snapshot;
    if (received !== null) unions.join(uuid, `received ${received.uuid}`);
    if (source !== null) unions.join(uuid, source);
    const archived = sourceOf(snapshot);
    if (archived !== null) unions.join(uuid, `archived ${archived}`);
  }
  joinByName(kept, unions, sourceOf);
  return [...groupBy(kept, ({ uuid }) => unions.find(uuid)).values()].flatMap((members) => {
    const [first] = members;
    if (first === undefined) return [];
    const archived = members.toReversed().map(sourceOf);
    const source =
      archived.find((each) => each !== null) ?? sourceByName(first, members, archives) ?? nameOfOrigin(first);
    const paths = new Set(members.map(({ path }) => path));
    return {
      source,
      name: withoutNumbers(first.path),
      snapshots: members.map((member) => ({ ...member, source })),
      findings: findings.filter(({ subject }) => paths.has(subject)),
    };
  });
}

/** Keeps the first of several copies of one snapshot: it may have been received twice, or have its own snapshot. */
function withoutDoubles(snapshots: readonly Snapshot[]): { readonly kept: Snapshot[]; readonly findings: Finding[] } {
  const firsts = new Map<string, Snapshot>();
  const findings: Finding[] = [];
  const kept = snapshots.filter((snapshot) => {
    const copied = copiedBy(snapshot);
    if (copied === null) findings.push(changed(snapshot));
    if (copied === null) return true;
    const first = firsts.get(identityText(copied));
    firsts.set(identityText(copied), first ?? snapshot);
    if (first !== undefined) findings.push(sameAs(snapshot, first));
    return first === undefined;
  });
  return { kept, findings };
}

function changed({ path }: Snapshot): Finding {
  const message = `${path} was changed after it was received: it is archived as it is now`;
  return { code: "SNAPSHOT_CHANGED", severity: "warning", subject: path, message };
}

function sameAs({ path }: Snapshot, first: Snapshot): Finding {
  const message = `${path} is a copy of the same snapshot as ${first.path}: one archive serves both`;
  return { code: "ARCHIVE_DUPLICATE", severity: "warning", subject: first.path, message };
}

type SourceOf = (snapshot: Snapshot) => Uuid | null;

/** The source that a snapshot was archived under as a received one; null when it was not. */
function indexSources(archives: readonly Archive[]): SourceOf {
  const sources = new Map<string, Uuid>();
  for (const archive of receivedAmong(archives)) {
    for (const name of namesOf(archive)) sources.set(identityText(name), archive.source);
  }
  return (snapshot) => {
    const copied = copiedBy(snapshot);
    const found = sources.get(identityText(streamIdentity(snapshot)));
    return found ?? (copied === null ? null : (sources.get(identityText(copied)) ?? null));
  };
}

function receivedAmong(archives: readonly Archive[]): Archive[] {
  return archives.filter(({ copyOf }) => copyOf !== undefined);
}

/** Joins a snapshot whose parent is gone, and that is not archived, to the last one before it of the same name. */
function joinByName(snapshots: readonly Snapshot[], unions: Unions, sourceOf: SourceOf): void {
  const groups = groupBy(snapshots, ({ uuid }) => unions.find(uuid));
  const lasts = new Map<string, Snapshot>();
  for (const snapshot of snapshots) {
    const members = groups.get(unions.find(snapshot.uuid)) ?? [];
    const name = withoutNumbers(snapshot.path);
    const last = lasts.get(name);
    const isFree = members[0] === snapshot && isTorn(members) && members.every((each) => sourceOf(each) === null);
    if (last !== undefined && isFree) unions.join(last.uuid, snapshot.uuid);
    lasts.set(name, snapshot);
  }
}

/** True when its beginning is gone: no member was received as a full stream. */
function isTorn(members: readonly Snapshot[]): boolean {
  return members.every(({ source }) => source !== null);
}

/** The source of the archives of the same name, when the parents of all members are gone. */
function sourceByName(first: Snapshot, members: readonly Snapshot[], archives: readonly Archive[]): Uuid | null {
  if (!isTorn(members)) return null;
  const name = withoutNumbers(first.path);
  return receivedAmong(archives).findLast(({ path }) => withoutNumbers(path) === name)?.source ?? null;
}

function nameOfOrigin({ received, uuid }: Snapshot): Uuid {
  return received?.uuid ?? uuid;
}

/** `backup/home.20261123T0300_1` → `backup/home.*`, `12/snapshot` → `*` + `/snapshot`; but `db1.7` → `db1.*`. */
export function withoutNumbers(path: string): string {
  return path.replace(/(?<![\p{L}\p{N}])\d[\dTZ:+]*(?:[-._]\d[\dTZ:+]*)*(?![\p{L}\p{N}])/gu, "*");
}

interface Unions {
  /** The same result for all that were joined. */
  find(item: string): string;
  join(one: string, other: string): void;
}

function openUnions(): Unions {
  const above = new Map<string, string>();
  const find = (item: string): string => {
    let root = item;
    for (let next = above.get(root); next !== undefined; next = above.get(root)) root = next;
    for (let each = item; each !== root;) {
      const next = above.get(each) ?? root;
      above.set(each, root);
      each = next;
    }
    return root;
  };
  return {
    find,
    join: (one, other) => {
      const [a, b] = [find(one), find(other)];
      if (a !== b) above.set(b, a);
    },
  };
}
