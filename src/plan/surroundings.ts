// Explains why there is nothing to archive where somebody expected snapshots: it finds the other subvolumes of that
// filesystem, their owners, and the paths that name them.

import { BackupError } from "../errors.ts";
import type { Neighbour, Subvolume, Surroundings, Uuid } from "./model.ts";

/** Snapshots of one source subvolume. */
interface Group {
  readonly parent: Uuid | null;
  readonly snapshots: readonly [Neighbour, ...Neighbour[]];
}

const TIMESHIFT = /^(.*\/)?timeshift-btrfs\//;

/** The writable snapshots of a subvolume, which cannot be sent. */
export function writableSnapshotsOf({ uuid }: Subvolume, { subvolumes }: Surroundings): readonly Neighbour[] {
  return subvolumes.filter(({ parent, readOnly }) => parent === uuid && !readOnly);
}

/** The read-only snapshots of other subvolumes. */
export function snapshotsOfOthers({ uuid }: Subvolume, { subvolumes }: Surroundings): readonly Neighbour[] {
  return subvolumes.filter(({ parent, readOnly }) => readOnly && parent !== uuid);
}

/**
 * Explains why a subvolume without read-only snapshots may not be the intended one, and what to name instead.
 * @param command - "sync" for those that take --allow-empty
 */
export function explainNoSnapshots(
  path: string,
  source: Subvolume,
  around: Surroundings,
  command: "sync" | "other" = "sync",
): BackupError {
  const self = around.subvolumes.find(({ uuid }) => uuid === source.uuid);
  const meant = { source, self, mayBeEmpty: command === "sync" };
  const { message, hint } =
    self?.readOnly === true ? explainSnapshot(path, self, around) : explainSource(path, meant, around);
  return new BackupError("NO_SNAPSHOTS", message, { hint });
}

/** Explains why there is nothing to archive in a directory in which only received snapshots count. */
export function explainNoneReceived(path: string, command: "sync" | "other"): BackupError {
  const orNone = command === "sync" ? "; or use --allow-empty to accept that" : "";
  const hint = `use the path of the subvolume of which snapshots were taken, without --received${orNone}`;
  return new BackupError("NO_SNAPSHOTS", `no read-only snapshot in ${path} was received`, { hint });
}

/** The advice for a top level without a UUID: its snapshots have no UUID of their source, so nothing marks them. */
export function adviseWithoutUuid(path: string): string {
  return (
    "top levels made before btrfs-progs 4.16 have none, so nothing shows which snapshots are of it: make a subvolume in it " +
    `(btrfs subvolume create ${path.replace(/\/+$/, "")}/NAME), move the files there, and archive that`
  );
}

/** Suggests a path in place of a directory that is not a subvolume; null when no snapshots lie in it. */
export function suggestForDirectory(directory: string, around: Surroundings): string | null {
  const [taken, received] = partitionReceived(
    around.subvolumes.filter(({ path, readOnly }) => readOnly && lies(path, directory)),
  );
  const archiveThem = received.length === 0 ? null : `${describeReceived(received)}: use --received to archive them`;
  const inside = groupBySource(taken);
  const [only, ...others] = inside;
  if (only === undefined) return archiveThem;
  const number = inside.reduce((sum, { snapshots }) => sum + snapshots.length, 0);
  const which = number === 1 ? "the read-only snapshot in it is" : `the ${number} read-only snapshots in it are`;
  const owners = inside.map(({ parent }) => nameOf(parent, around)).join(", ");
  const hint = `${which} of ${owners}${others.length > 0 ? "" : suggestSource(only, around)}`;
  return archiveThem === null ? hint : `${hint}; ${archiveThem}`;
}

/** Splits snapshots into those taken here and those received from elsewhere. */
function partitionReceived(snapshots: readonly Neighbour[]): readonly [Neighbour[], Neighbour[]] {
  const isReceived = ({ received = null }: Neighbour): boolean => received !== null;
  return [snapshots.filter((each) => !isReceived(each)), snapshots.filter(isReceived)];
}

function describeReceived(snapshots: readonly Neighbour[]): string {
  const number = snapshots.length === 1 ? "1 snapshot was" : `${snapshots.length} snapshots were`;
  return `${number} received here from another disk or machine (${listPaths(snapshots)})`;
}

/** The places of received snapshots, as the words to type; without a path where no mount leads there. */
function useReceived(snapshots: readonly Neighbour[], { seenAt }: Surroundings): string {
  const folders = snapshots.map(({ path }) => path.split("/").slice(0, -1));
  const common = folders.reduce((all, each) => {
    const end = all.findIndex((name, at) => name !== each[at]);
    return end === -1 ? all : all.slice(0, end);
  });
  const seen = seenAt(common.join("/"));
  return seen === null
    ? "use --received with the directory that they are in"
    : `use ${seen} --received to archive them`;
}

interface Explanation {
  readonly message: string;
  readonly hint: string;
}

function explainSnapshot(path: string, { parent, received = null }: Neighbour, around: Surroundings): Explanation {
  if (received !== null) {
    const hint = "use --received with it, or with the directory that it is in";
    return { message: `${path} is itself a read-only snapshot, received from another disk or machine`, hint };
  }
  const of = parent === null ? "" : `, of ${nameOf(parent, around)}`;
  const seen = seenSource(parent, around);
  const hint =
    seen === null ? "use the path of the subvolume of which it was taken, where that is mounted" : `use ${seen}`;
  return { message: `${path} is itself a read-only snapshot${of}`, hint };
}

/** The subvolume that the user named. */
interface Meant {
  readonly source: Subvolume;
  readonly self: Neighbour | undefined;
  /** True where --allow-empty can be given. */
  readonly mayBeEmpty: boolean;
}

function explainSource(path: string, meant: Meant, around: Surroundings): Explanation {
  const { source, self, mayBeEmpty } = meant;
  const none = `${path} has no read-only snapshots`;
  const writable = writableSnapshotsOf(source, around);
  const [first] = writable;
  if (first !== undefined) {
    const number = writable.length === 1 ? "1 snapshot of it is" : `${writable.length} snapshots of it are`;
    return { message: `${none}; ${number} writable and left out (${listPaths(writable)})`, hint: freeze(path, first) };
  }
  const [taken, received] = partitionReceived(snapshotsOfOthers(source, around));
  const others = groupBySource(taken);
  const isRolledBack = received.some(({ uuid }) => uuid !== null && uuid === self?.parent);
  if (received.length > 0 && others.length === 0 && !isRolledBack)
    return { message: `${none}; ${describeReceived(received)}`, hint: useReceived(received, around) };
  if (others.length === 0 && received.length === 0)
    return { message: none, hint: takeOne(path) + (mayBeEmpty ? "; use --allow-empty to accept that" : "") };
  const owners = others.map(
    (group) => `${group.snapshots.length} of ${nameOf(group.parent, around)} (${listPaths(group.snapshots)})`,
  );
  const also = received.length === 0 ? [] : [describeReceived(received)];
  const listed = owners.length === 0 ? [] : [`its filesystem has ${owners.join(", ")}`];
  return {
    message: [none, ...listed, ...also].join("; "),
    hint: suggestInstead(path, meant, [...others, ...groupBySource(received)], around),
  };
}

function suggestInstead(
  path: string,
  { source, self, mayBeEmpty }: Meant,
  others: readonly Group[],
  around: Surroundings,
): string {
  const inside = others.filter(({ snapshots }) => snapshots.some((each) => lies(each.path, source.path)));
  const [only, ...more] = inside;
  if (source.path !== "" && only !== undefined && more.length === 0) {
    const seen = seenSource(only.parent, around);
    if (seen !== null) return `use ${seen}`;
  }
  const origin = others.flatMap(({ snapshots }) => snapshots).find(({ uuid }) => uuid === (self?.parent ?? undefined));
  const orNone = mayBeEmpty ? " use --allow-empty," : "";
  if (origin === undefined) return `use the path of the right subvolume,${orNone} or take a snapshot: ${takeOne(path)}`;
  return `it was made from ${origin.path}, as in a rollback, and needs snapshots of its own: ${takeOne(path)}`;
}

function freeze(path: string, first: Neighbour): string {
  const whose = TIMESHIFT.test(first.path) ? "Timeshift's are; " : "";
  return `${whose}make them read-only (btrfs property set -ts SNAPSHOT ro true), or take others: ${takeOne(path)}`;
}

function takeOne(path: string): string {
  return `btrfs subvolume snapshot -r ${path} DIRECTORY/NAME`;
}

/** Sorted by the number of snapshots, the most first. */
function groupBySource(snapshots: readonly Neighbour[]): Group[] {
  const groups = new Map<Uuid | null, [Neighbour, ...Neighbour[]]>();
  for (const snapshot of snapshots) {
    const group = groups.get(snapshot.parent);
    if (group === undefined) groups.set(snapshot.parent, [snapshot]);
    else group.push(snapshot);
  }
  return [...groups]
    .map(([parent, all]) => ({ parent, snapshots: all }))
    .sort((a, b) => b.snapshots.length - a.snapshots.length);
}

function nameOf(uuid: Uuid | null, { subvolumes }: Surroundings): string {
  if (uuid === null) return "no subvolume here (received)";
  const found = subvolumes.find((each) => each.uuid === uuid);
  if (found === undefined) return `a subvolume that is gone (${uuid})`;
  return found.path === "" ? "the top level" : found.path;
}

function seenSource(uuid: Uuid | null, { subvolumes, seenAt }: Surroundings): string | null {
  const found = uuid === null ? undefined : subvolumes.find((each) => each.uuid === uuid);
  return found === undefined ? null : seenAt(found.path);
}

function suggestSource({ parent }: Group, around: Surroundings): string {
  const seen = seenSource(parent, around);
  return seen === null ? "" : `: use ${seen}`;
}

function listPaths(snapshots: readonly Neighbour[]): string {
  const shown = snapshots.slice(0, 3).map(({ path }) => path);
  const left = snapshots.length - shown.length;
  return shown.join(", ") + (left === 0 ? "" : `, and ${left} more`);
}

function lies(path: string, directory: string): boolean {
  return directory === "" || path.startsWith(`${directory}/`);
}
