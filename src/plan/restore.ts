// Decides which archives to receive, in which order and where, so that a snapshot is on the target. Also finds
// subvolumes on the target that `btrfs receive` would mistake for the parent.

import { BackupError } from "../errors.ts";
import {
  namesOf,
  originOf,
  OWN_PREFIX,
  sameIdentity,
  type Archive,
  type Chain,
  type Identity,
  type Lineage,
  type TargetSubvolume,
  type Snapshot,
  type Uuid,
} from "./model.ts";

/** Receives one archive and expects exactly this snapshot. */
export interface ReceiveStep {
  readonly do: "receive";
  readonly archive: Archive;
  /** The archive it builds on; null when it is full. */
  readonly parent: Archive | null;
  readonly expected: Identity;
  /** The place of the snapshot, relative to the target directory. */
  readonly place: string;
}

export interface RestorePlan {
  readonly chain: Chain;
  /** Each after the one it builds on. Empty when the target holds the snapshot already. */
  readonly steps: readonly ReceiveStep[];
  /** The newest snapshot of the chain that the target has already; null when there is none. */
  readonly held: Snapshot | null;
  /**
   * Subvolumes that carry the identity of a snapshot of the chain but changed since they were received, with the
   * reason.
   */
  readonly passedOver: readonly { readonly path: string; readonly reason: string }[];
  /** Directory below the target that is removed at the end, with the snapshots in it; null = all of them are wanted. */
  readonly scaffold: string | null;
}

/** The wanted part of a chain: all of its snapshots, or only the last. */
export type RestoreScope = "chain" | "last";

/**
 * Plans to receive what lies between the newest snapshot of the chain that the target has and the requested one. Where
 * only the last is wanted, the others go into a directory of a name that is ours alone. If this restore is interrupted,
 * the next one finds them there.
 * @throws RECEIVE_FAILED
 */
export function planRestore(chain: Chain, present: readonly TargetSubvolume[], scope: RestoreScope): RestorePlan {
  const target = chain.at(-1) ?? chain[0];
  const scaffold = scope === "last" && chain.length > 1 ? scaffoldOf(lineageOf(target).snapshot) : null;
  const usable = present.filter(
    (snapshot) => snapshot.sealed && snapshot.changed === null && isOutsideOfScaffolds(snapshot, scaffold),
  );
  const links = chain.map((archive) => ({
    archive,
    held: usable.find((snapshot) => holds(snapshot, archive)) ?? null,
  }));
  const newest = links.findLastIndex((link) => link.held !== null);
  const steps = chain
    .map((archive, position) => toStep(archive, chain[position - 1] ?? null, archive === target ? null : scaffold))
    .slice(newest + 1);
  for (const step of steps)
    assertGenuine(
      step,
      present.filter(({ path }) => !isOurs(path)),
    );
  const passedOver = present.flatMap((snapshot) => {
    const { path, sealed, changed } = snapshot;
    return sealed && changed !== null && chain.some((archive) => holds(snapshot, archive))
      ? [{ path, reason: changed }]
      : [];
  });
  return { chain, steps, held: links[newest]?.held ?? null, passedOver, scaffold };
}

/**
 * Makes sure that `btrfs receive` will build on the right snapshot: it uses the first subvolume that was received under
 * the parent's UUID, and checks nothing else.
 * @throws RECEIVE_FAILED
 */
export function assertGenuine(
  { archive, parent }: Pick<ReceiveStep, "archive" | "parent">,
  present: readonly TargetSubvolume[],
): void {
  const { sendParent } = lineageOf(archive);
  if (sendParent === null) return;
  const names = [sendParent, ...(parent === null ? [] : namesOf(parent))];
  for (const { received, sealed, changed, path } of present) {
    if (received?.uuid !== sendParent.uuid) continue;
    if (sealed && changed === null && names.some((name) => sameIdentity(name, received))) continue;
    const other = changed ?? `was received in another state (transaction ${received.ctransid})`;
    const reason = sealed ? other : "is writable or unfinished";
    throw new BackupError(
      "RECEIVE_FAILED",
      `${archive.path} would be built on ${path}, which carries the UUID of its parent (${sendParent.uuid}, transaction ` +
        `${sendParent.ctransid}) but ${reason}`,
      { hint: "delete that subvolume, or restore to another filesystem", context: { key: archive.key } },
    );
  }
  // If there are several, `btrfs receive` uses the one that was received first.
  const [first] = present.filter(({ received }) => received?.uuid === sendParent.uuid).sort((a, b) => a.id - b.id);
  if (first === undefined || first.within) return;
  throw new BackupError(
    "RECEIVE_FAILED",
    `${archive.path} builds on ${first.path}, which is outside the mounted part of that filesystem`,
    {
      hint: "mount the top level of the filesystem (subvolid=5) and restore into a directory of that mount",
      context: { key: archive.key },
    },
  );
}

/** The received UUIDs of all subvolumes that a restore of this chain can use. */
export function uuidsOf(chain: readonly Archive[]): ReadonlySet<Uuid> {
  return new Set(chain.map((archive) => lineageOf(archive).snapshot.uuid));
}

/**
 * Makes sure that an archive holds the expected stream, before any of it is used: the chain was made from metadata,
 * while `btrfs receive` follows the stream.
 * @param parent - the archive that it builds on; null when it is full, or the parent is not available
 * @throws ARCHIVE_DAMAGED
 */
export function assertSameStream(archive: Archive, parent: Archive | null, found: Lineage | null): void {
  const expected = lineageOf(archive);
  // A stream on top of a restored snapshot names that by the transaction of the restore: such a parent is of another
  // source. Copies of one snapshot on two disks have one transaction each.
  const sameParent =
    archive.copyOf === undefined &&
    parent?.source === archive.source &&
    expected.sendParent !== null &&
    found?.sendParent
      ? sameIdentity(expected.sendParent, found.sendParent)
      : expected.sendParent?.uuid === found?.sendParent?.uuid;
  if (found !== null && sameIdentity(expected.snapshot, found.snapshot) && sameParent) return;
  const message = `the archive of ${archive.path} holds ${describe(found)}, and its metadata says: ${describe(expected)}`;
  throw new BackupError("ARCHIVE_DAMAGED", message, { context: { key: archive.key } });
}

function describe(lineage: Lineage | null): string {
  if (lineage === null) return "no send stream";
  const name = ({ uuid, ctransid }: Identity): string => `${uuid} at transaction ${ctransid}`;
  const { snapshot, sendParent } = lineage;
  return sendParent === null
    ? `the full stream of ${name(snapshot)}`
    : `the stream of ${name(snapshot)} on top of ${name(sendParent)}`;
}

function scaffoldOf({ uuid }: Identity): string {
  return `${OWN_PREFIX}only-${uuid}`;
}

function isOurs(path: string): boolean {
  return path.split("/").some((name) => name.startsWith(OWN_PREFIX));
}

/** Another restore will remove the subvolumes in its own scaffold. */
function isOutsideOfScaffolds({ path }: Snapshot, own: string | null): boolean {
  const folders = path.split("/");
  return folders.every((name) => name === own || !name.startsWith(OWN_PREFIX));
}

function toStep(archive: Archive, parent: Archive | null, scaffold: string | null): ReceiveStep {
  const expected = lineageOf(archive).snapshot;
  return {
    do: "receive",
    archive,
    parent,
    expected,
    place: scaffold === null ? archive.path : `${scaffold}/${expected.uuid}`,
  };
}

function lineageOf({ key, lineage }: Archive): Lineage {
  // A chain contains only archives of known lineage: otherwise nobody could know their parents.
  if (lineage === null) throw new TypeError(`${key} stands in a chain without lineage`);
  return lineage;
}

/** Where the archive is of a copy, its original is the same. */
function holds(snapshot: Snapshot, archive: Archive): boolean {
  return namesOf(archive).some((name) => sameIdentity(originOf(snapshot), name));
}
