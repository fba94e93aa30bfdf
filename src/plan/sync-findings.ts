// The findings of a sync plan beside its steps: snapshots that are not archived although something of their name is
// there, and archives that nobody should trust unseen.

import { groupBy, identityText, indexArchives, parentIn, type ArchiveIndex } from "./chain.ts";
import { builtOn } from "./dependents.ts";
import { sameIdentity, streamIdentity, type Archive, type Identity, type Key, type Snapshot } from "./model.ts";
import { holdsCopy, listPaths } from "./standing.ts";
import type { Finding } from "./finding.ts";
import type { Inventory } from "./inventory.ts";

/** A snapshot with the archive that holds it. */
export interface Found {
  readonly snapshot: Snapshot;
  /** The key it would be archived under now. */
  readonly key: Key;
  readonly archive: Archive;
  /** The identity in the archive. */
  readonly identity: Identity;
}

/** One finding for each cause: the archives are intact themselves, but their chain is broken. */
export function brokenFindings(broken: readonly Found[], archives: readonly Archive[]): Finding[] {
  const index = indexArchives(archives);
  const causes = new Map<Archive, Cause>();
  const groups = groupBy(broken, ({ archive }) => findCause(archive, index, causes).identity);
  return [...groups.values()].flatMap((group): Finding[] => {
    const [first] = group;
    if (first === undefined) return [];
    const { reason, identity } = findCause(first.archive, index, causes);
    const ours = new Set(group.map(({ archive }) => archive));
    const others = (identity === "" ? [] : builtOn(first.identity, archives)).flatMap((each) =>
      ours.has(each) ? [] : each.path,
    );
    const also = others.length === 0 ? "" : `; nor can ${listPaths(others)}, which builds on that`;
    return [
      {
        code: "CHAIN_BROKEN",
        severity: "error",
        subject: first.archive.key,
        message:
          `${listPaths(group.map(({ snapshot }) => snapshot.path))} cannot be restored from the archive: ${reason}${also}. What is sent ` +
          "from now on does not build on it. To archive it again, delete the objects of these snapshots, and use `sync` again",
      },
    ];
  });
}

interface Cause {
  /** The missing identity; empty where nothing is missing. */
  readonly identity: string;
  readonly reason: string;
}

/** Finds the end of a chain that does not begin with a full archive. Each archive is visited once. */
function findCause(archive: Archive, index: ArchiveIndex, causes: Map<Archive, Cause>): Cause {
  const passed = new Set<Archive>();
  let cause: Cause | undefined;
  for (let link = archive; cause === undefined;) {
    cause = causes.get(link);
    if (cause !== undefined) break;
    passed.add(link);
    const parent = parentIn(link, index);
    if (parent == null || parent.bytes === 0) cause = describeEnd(link, parent ?? null);
    else if (passed.has(parent)) cause = { identity: "", reason: `the archive of ${link.path} builds on itself` };
    else link = parent;
  }
  for (const each of passed) causes.set(each, cause);
  return cause;
}

function describeEnd({ path, bytes, lineage }: Archive, empty: Archive | null): Cause {
  if (bytes === 0 || lineage?.sendParent == null) return { identity: path, reason: `the archive of ${path} is empty` };
  const { uuid, ctransid } = lineage.sendParent;
  const what =
    empty === null
      ? `a snapshot that is not archived (UUID ${uuid}, transaction ${ctransid})`
      : `the archive of ${empty.path}, which is empty`;
  return { identity: identityText(lineage.sendParent), reason: `${path} builds on ${what}` };
}

/** One finding for all of them, because people move entire directories. */
export function elsewhereFindings(kept: readonly Found[]): Finding[] {
  const moved = kept.filter(({ key, archive }) => archive.key !== key);
  const [first] = moved;
  if (first === undefined) return [];
  const more = moved.length === 1 ? "" : ` and ${moved.length - 1} more`;
  const how = isCopied(first)
    ? "a copy of the same snapshot is not sent again, unless you use --rearchive"
    : "what was moved or renamed since is not sent again, unless you use --rearchive";
  return [
    {
      code: "ARCHIVED_ELSEWHERE",
      severity: "warning",
      subject: first.snapshot.path,
      message: `${first.snapshot.path}${more} archived under another name (${first.archive.path}): ${how}`,
    },
  ];
}

function isCopied({ snapshot, archive, identity }: Found): boolean {
  return !sameIdentity(streamIdentity(snapshot), identity) && holdsCopy(snapshot, archive);
}

/** Archives that this subvolume cannot have made in its present state. */
export function foreignFindings({ source, archives }: Inventory): Finding[] {
  const { generation } = source;
  if (generation === null) return [];
  const later = archives.filter(({ otransid }) => otransid !== null && otransid > generation);
  const [first] = later;
  if (first === undefined) return [];
  return [
    {
      code: "SOURCE_SHARED",
      severity: "warning",
      subject: source.uuid,
      message:
        `${listPaths(later.map(({ path }) => path))} archived from a later state than this subvolume has ever had (transaction ` +
        `${first.otransid ?? 0}, here ${generation}): another machine uses the same source UUID, or the disk was set back`,
    },
  ];
}

/**
 * Explains why nothing builds on the received snapshot that a subvolume was made from, when that came from a copy:
 * `btrfs send` of a received snapshot keeps its UUID and names the transaction of that disk.
 */
export function returnedFindings(origin: Snapshot, archives: readonly Archive[]): Finding[] {
  const { received, path } = origin;
  const archive = archives.find(({ lineage }) => lineage !== null && lineage.snapshot.uuid === received?.uuid);
  if (received === null || archive?.lineage == null || sameIdentity(archive.lineage.snapshot, received)) return [];
  const message =
    `${path}, from which this subvolume was made, was received from a copy of ${archive.path}, as from a backup disk: it has its UUID, but ` +
    `another transaction (${received.ctransid}, archived ${archive.lineage.snapshot.ctransid}). Nothing proves that it is the same, so what ` +
    "follows is sent in full";
  return [{ code: "NOT_COMPARABLE", severity: "warning", subject: path, message }];
}

export function trustedByName({ path }: Snapshot, { key, lineage }: Archive): Finding {
  const message =
    lineage === null
      ? `the archive of ${path} does not show whose stream it holds (it is encrypted and has no metadata): ` +
        "it is trusted by its name as the base of the next one"
      : `the chain of ${path} leads to an archive that does not show whose stream it holds (encrypted, without metadata): it is ` +
        "trusted as the base of the next one";
  return { code: "TRUSTED_BY_NAME", severity: "warning", subject: key, message };
}

export function identityShared({ path }: Snapshot): Finding {
  const message =
    `${path} carries the received UUID of another snapshot, so no incremental can build on it: it is sent ` +
    "in full; take snapshots of a writable snapshot of the received subvolume instead";
  return { code: "IDENTITY_SHARED", severity: "warning", subject: path, message };
}
