// Which received snapshots belong together. A received snapshot says whose copy it is, and on top of which snapshot it was
// received; of which subvolume it was taken it does not say. So what is linked belongs together, and where a link was
// deleted, what bears the same name: a wrong guess makes an incremental larger, and never another one than is restored.

import { groupBy, identityText } from "./chain.ts";
import {
  byCreation,
  copiedBy,
  namesOf,
  streamIdentity,
  type Archive,
  type Finding,
  type Snapshot,
  type Uuid,
} from "./model.ts";

/** Received snapshots of one origin. */
export interface ReceivedChain {
  /** Under which they are archived: the received UUID of the first one that was. */
  readonly source: Uuid;
  /** What their paths have in common, with an asterisk for dates and numbers. */
  readonly name: string;
  /** In creation order. */
  readonly snapshots: readonly Snapshot[];
  readonly findings: readonly Finding[];
}

/** @param archives - of the whole container */
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

/** Of several copies of one snapshot the first: a received one may have been received twice, or have a snapshot itself. */
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

/** Under which source a snapshot was archived as a received one; null when it was not. */
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

/** What was received on top of a snapshot that is gone, and is not archived, joins the last one before it of its name. */
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

/** True when its beginning is gone: nothing of it was received as a full stream. */
function isTorn(members: readonly Snapshot[]): boolean {
  return members.every(({ source }) => source !== null);
}

/** Of what was archived under the same name, when all that is here was received on top of what is gone. */
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
  /** The same for all that were joined. */
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
