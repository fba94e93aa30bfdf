// Finds the archive that people mean: by key, path or UUID, or the newest of a subvolume.

import { BackupError } from "../errors.ts";
import { formatTime } from "./key.ts";
import type { Archive, Uuid } from "./model.ts";
import type { Finding } from "./finding.ts";

/** The requested archive. */
export type Selection =
  /** A key, the path of a snapshot, or the beginning of its UUID; `local`: the snapshot on this machine at that path. */
  | { readonly by: "name"; readonly name: string; readonly local?: LocalName | null }
  /** The newest archive of a source that is not younger than `notAfter` (nanoseconds since the epoch; null: the newest). */
  | { readonly by: "age"; readonly source: SourceName | null; readonly notAfter: bigint | null };

/** A subvolume on this machine, as the owner of a typed path. */
export interface LocalName {
  readonly uuid: Uuid;
  /** UUID of the subvolume it is a snapshot of; null when it is none. */
  readonly parent: Uuid | null;
  /** UUID that it was received under; null when it was made here. */
  readonly received?: Uuid | null;
  /** Relative to the top of its filesystem. */
  readonly path: string;
}

/** How a source subvolume is named: in words, and by the subvolume that these words name on this machine. */
export interface SourceName {
  readonly text: string;
  readonly local: Uuid | null;
}

/** How many subvolumes a message names. */
const SOURCES_SHOWN = 5;

/** A UUID prefix needs this many characters, so that hardly two UUIDs share it. */
const UUID_BEGINNING = /^[0-9a-f]{4}[0-9a-f-]*$/;

/**
 * @param onDoubt - called when it is uncertain that this archive was meant
 * @throws USAGE when no archive matches the name or age, or several do; ARCHIVE_MISSING when there is none at all
 */
export function selectArchive(
  archives: readonly Archive[],
  selection: Selection,
  onDoubt: (finding: Finding) => void = () => undefined,
): Archive {
  if (selection.by === "name") return selectByName(archives, selection.name, selection.local ?? null);
  const { source, notAfter } = selection;
  const chosen = selectSource(archives, source);
  const candidates = archives.filter((archive) => archive.source === chosen);
  const old = notAfter === null ? candidates : candidates.filter((archive) => takenBy(archive, notAfter));
  const newest = newestOf(old);
  const doubt = newest === null ? null : describeSetBack(newest);
  if (doubt !== null) onDoubt({ ...doubt, message: `${doubt.message}; a path or a key names another` });
  if (newest !== null) return newest.archive;
  throw new BackupError("USAGE", "no archive is that old", { hint: describeOldest(candidates) });
}

/** Sorts by creation. An archive without metadata has at least a send stream, which records only its last change. */
export function sortByAge(archives: readonly Archive[]): Archive[] {
  return archives.toSorted((a, b) => ageOf(a) - ageOf(b) || compareText(a.path, b.path));
}

/** The newest archive. */
export interface Newest {
  readonly archive: Archive;
  /**
   * The archive that would be the newest by its transaction, if the disk had not been set back to an older state since;
   * else null.
   */
  readonly passedOver: Archive | null;
}

/**
 * Finds the last archive in creation order. If another was taken later and stored later, by two clocks, then the
 * filesystem was set back and counts its transactions again from there. Null when there are no archives.
 */
export function newestOf(archives: readonly Archive[]): Newest | null {
  const last = sortByAge(archives).at(-1);
  if (last === undefined) return null;
  const later = newestOf(
    archives.filter((archive) => isAfter(archive.otime, last.otime) && isAfter(archive.stored, last.stored)),
  );
  return later === null ? { archive: last, passedOver: null } : { ...later, passedOver: last };
}

function isAfter(time: bigint | null, other: bigint | null): boolean {
  return time !== null && other !== null && time > other;
}

/** The warning where the newest is not the last by its transaction; null where it is. */
export function describeSetBack({ archive, passedOver: last }: Newest): Finding | null {
  if (last === null) return null;
  const { key, path, otransid, otime } = archive;
  const when = otime === null ? "" : `, of ${formatTime(otime)}`;
  const message =
    `${last.path} is newer than ${path} by its transaction (${last.otransid ?? 0}, the other ${otransid ?? 0}), but it was taken and stored ` +
    `before: the disk was set back, or two machines use one source UUID; taken for the newest: ${path}${when}`;
  return { code: "SOURCE_SHARED", severity: "warning", subject: key, message };
}

/** Finds the named source, or the only one without a name. @throws ARCHIVE_MISSING, USAGE */
export function selectSource(archives: readonly Archive[], name: SourceName | null): Uuid {
  const sources = [...new Set(archives.map(({ source }) => source))];
  const fitting = name === null ? sources : sources.filter((source) => isCalled(source, name, archives));
  const [only, ...others] = fitting;
  if (only !== undefined && others.length === 0) return only;
  if (only === undefined) {
    // Usually a mistyped word, as long as there are archives at all.
    throw new BackupError(
      sources.length === 0 ? "ARCHIVE_MISSING" : "USAGE",
      `there is no archive${name === null ? "" : ` of ${name.text}`}`,
      {
        hint:
          sources.length === 0
            ? "the container has no archives"
            : `there are archives of ${listSources(sources, archives)}`,
      },
    );
  }
  throw new BackupError(
    "USAGE",
    name === null ? "there are archives of several subvolumes" : `${name.text} could be several`,
    { hint: `name one of them: ${listSources(fitting, archives)}` },
  );
}

function listSources(sources: readonly Uuid[], archives: readonly Archive[]): string {
  const shown = sources.slice(0, SOURCES_SHOWN).map((source) => describeSource(source, archives));
  const left = sources.length - shown.length;
  return shown.join(", ") + (left === 0 ? "" : `, and ${left} more (\`list\` shows them)`);
}

/** People do not recognize UUIDs, but they know the path of a snapshot. */
function describeSource(source: Uuid, archives: readonly Archive[]): string {
  const newest = sortByAge(archives.filter((archive) => archive.source === source)).at(-1);
  return newest === undefined ? source : `${source} (${newest.path})`;
}

function describeOldest(archives: readonly Archive[]): string {
  const [oldest] = sortByAge(archives);
  const time = oldest === undefined ? null : timeOf(oldest);
  if (oldest === undefined || time === null) return "`list` shows the archives there are";
  return `the oldest is ${oldest.path}, of ${formatTime(time)}`;
}

/**
 * True for a source's UUID or a prefix of it, its path on this machine, the place of its snapshots, or a name that they
 * have: the snapshots of `@home` or `/home` usually have paths like `@home/.snapshots/1/snapshot`, `@home.20261123` or
 * `timeshift-btrfs/snapshots/DATE/@home`.
 */
function isCalled(source: Uuid, { text, local }: SourceName, archives: readonly Archive[]): boolean {
  if (local !== null && archives.some((archive) => archive.source === local)) return source === local;
  const lower = text.toLowerCase();
  if (UUID_BEGINNING.test(lower) && source.startsWith(lower)) return true;
  const name = withoutEdges(text);
  return archives.some(
    (archive) => archive.source === source && (archive.path.startsWith(`${name}/`) || bearsName(archive.path, name)),
  );
}

function bearsName(path: string, name: string): boolean {
  const names = [name, `@${name}`];
  return path.split("/").some((part) => names.some((each) => part === each || part.startsWith(`${each}.`)));
}

function selectByName(archives: readonly Archive[], name: string, local: LocalName | null): Archive {
  const lower = name.toLowerCase();
  const path = withoutEdges(name);
  const ways: readonly ((archive: Archive) => boolean)[] = [
    ({ key }) => key === name,
    // As a shell passes a key that was not quoted.
    ({ key }) => key.replaceAll("\\", "") === name,
    ({ lineage }) => local !== null && lineage?.snapshot.uuid === (local.received ?? local.uuid),
    (archive) => local !== null && archive.source === local.parent && archive.path === local.path,
    (archive) => `${archive.source}/${archive.path}` === name,
    (archive) => archive.path === path,
    ({ lineage }) => UUID_BEGINNING.test(lower) && lineage?.snapshot.uuid.startsWith(lower) === true,
  ];
  for (const fits of ways) {
    const [only, ...others] = archives.filter(fits);
    if (only !== undefined && others.length === 0) return only;
    if (only !== undefined) throw ambiguous(name, [only, ...others]);
  }
  throw archiveMissing(archives, { text: name, local: local?.uuid ?? null });
}

/** People often type a subvolume in place of an archive at first. */
function archiveMissing(archives: readonly Archive[], name: SourceName): BackupError {
  const { text } = name;
  const hint = archives.some(({ source }) => isCalled(source, name, archives))
    ? `for the newest of the subvolume ${text}, use ${text} --latest`
    : "`list` shows the archives there are";
  return new BackupError(archives.length === 0 ? "ARCHIVE_MISSING" : "USAGE", `there is no archive ${text}`, { hint });
}

function ambiguous(name: string, archives: readonly Archive[]): BackupError {
  const keys = archives.map(({ key }) => `'${key}'`).join(", ");
  return new BackupError("USAGE", `${name} could be several archives`, { hint: `name one by its key: ${keys}` });
}

/** Without the time in its metadata, an archive was at least taken before it was stored. */
function takenBy(archive: Archive, notAfter: bigint): boolean {
  const time = timeOf(archive);
  return time !== null && time <= notAfter;
}

/** When the snapshot was taken, or where metadata does not contain it, when it was stored; null when unknown. */
export function timeOf({ otime, stored }: Archive): bigint | null {
  return otime ?? stored;
}

/** Orders archives by creation. An archive without metadata has only the transaction of its last change. */
export function ageOf({ otransid, lineage }: Archive): number {
  return otransid ?? lineage?.snapshot.ctransid ?? 0;
}

function withoutEdges(path: string): string {
  return path.replace(/^\/+|\/+$/g, "");
}

export function compareText(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
