// What is wrong with the archives of a container, as far as it can be told without reading them; what a damaged archive
// takes with it; and which of them are read when not all are.

import { indexArchives, isSilent, parentIn, type ArchiveIndex } from "./chain.ts";
import { parseKey } from "./key.ts";
import { archiveKeyOf } from "./manifest.ts";
import { sameIdentity, type Archive, type Finding, type FindingCode, type Key, type Lineage } from "./model.ts";
import { sortByAge } from "./select.ts";

/** Damage or doubt of an archive, and what follows from it. */
export interface Damage extends Finding {
  /** Paths of the snapshots that cannot be restored because of it. */
  readonly breaks: readonly string[];
  /** What to do about it. */
  readonly remedy: string;
}

/** An archive with what the store says of its object. */
export interface Examined {
  readonly archive: Archive;
  readonly etag: string;
  /** By the listing, which may lag behind. */
  readonly listedBytes: number;
}

const SEND_AGAIN =
  "if the snapshot still exists, delete the archive and run `sync`: what builds on it is whole again then; otherwise keep " +
  "what can be restored and let `sync` begin a new chain";

/** Everything that can be told from names, sizes and metadata. */
export function checkArchives(examined: readonly Examined[]): Damage[] {
  const archives = examined.map(({ archive }) => archive);
  const index = indexArchives(archives);
  return [
    ...examined.flatMap((each) => checkOne(each, archives)),
    ...archives.flatMap((archive) => checkLink(archive, index, archives)),
    ...findDuplicates(archives),
  ];
}

/** What lies in the container beside whole archives. */
export interface Others {
  /** Keys of all objects. */
  readonly keys: readonly string[];
  /** Keys of uploads that were begun and not ended. */
  readonly uploads: readonly string[];
}

/** What interrupted runs have left of archives that there are not, and what others have put here. */
export function checkOthers({ keys, uploads }: Others, archives: ReadonlySet<string>): Damage[] {
  const archiveOf = (key: string): string => archiveKeyOf(key) ?? key;
  const isOurs = (key: string): boolean => parseKey(archiveOf(key)) !== null;
  const foreign = keys.filter((key) => !isOurs(key));
  const lonely = keys.filter((key) => isOurs(key) && !archives.has(archiveOf(key)));
  const begun = [...lonely, ...uploads.filter(isOurs)].map(archiveOf);
  const leftovers = [...new Set(begun)].map((key) => {
    const what = archives.has(key) ? `beside the archive ${key} lies what` : `of the archive ${key}, which does not exist, lies what`;
    return warn("LEFTOVER", key, `${what} an interrupted upload has stored`, {
      remedy: "`sync` of its subvolume goes on with it or removes it; where there is none any more, `verify --remove-leftovers` does",
    });
  });
  const [first] = foreign;
  if (first === undefined) return leftovers;
  const others = foreign.length === 1 ? first : `${first} and ${foreign.length - 1} more`;
  const remedy = "nothing, if somebody else keeps them here";
  return [...leftovers, warn("NOT_AN_ARCHIVE", first, `objects that are no archives: ${others}`, { remedy })];
}

/** The archives that cannot be restored without one: itself, and what builds on it. In creation order. */
export function dependentsOf(archive: Archive, archives: readonly Archive[]): Archive[] {
  const index = indexArchives(archives);
  const children = new Map<Archive, Archive[]>();
  for (const each of archives) {
    const parent = parentIn(each, index);
    if (parent != null) children.set(parent, [...(children.get(parent) ?? []), each]);
  }
  const lost = new Set([archive]);
  // A set gives out what is added to it on the way, each once.
  for (const each of lost) for (const child of children.get(each) ?? []) lost.add(child);
  return sortByAge([...lost]);
}

/** An archive that cannot be restored as it is. */
export function damaged(
  code: FindingCode,
  archive: Archive,
  message: string,
  archives: readonly Archive[],
): Damage {
  const breaks = dependentsOf(archive, archives).map(({ path }) => path);
  return { code, severity: "error", subject: archive.key, message, breaks, remedy: SEND_AGAIN };
}

/** Something that nobody has to lose sleep over, but should know. */
export function warn(code: FindingCode, subject: string, message: string, { remedy }: { readonly remedy: string }): Damage {
  return { code, severity: "warning", subject, message, breaks: [], remedy };
}

/**
 * Null when what stands at the beginning of the stream is what the archive is said to hold. The transaction of the
 * parent is not compared: that of a restored one is another than the one that it is a copy of.
 */
export function checkIdentity(archive: Archive, found: Lineage, archives: readonly Archive[]): Damage | null {
  const { lineage, path } = archive;
  if (lineage === null) return null;
  const sameParent = lineage.sendParent?.uuid === found.sendParent?.uuid;
  if (sameIdentity(lineage.snapshot, found.snapshot) && sameParent) return null;
  const message = `the archive of ${path} holds another stream than its metadata says (${describeLineage(found)})`;
  return damaged("IDENTITY_MISMATCH", archive, message, archives);
}

/** True when the ETag can be recomputed from the stored bytes; of a large object that was made natively it cannot. */
export function hasChecksum({ etag, archive }: Pick<Examined, "etag" | "archive">): boolean {
  return /^[0-9a-f]{32}$/.test(etag) || (/^[0-9a-f]{32}-\d+$/.test(etag) && archive.partBytes !== null);
}

/** Part of all archives, so that in the course of time all of them are read. */
export type Subset =
  /** About so much of all bytes, by chance. */
  | { readonly of: "share"; readonly share: number }
  /** The nth of so many groups, which are the same each time. */
  | { readonly of: "group"; readonly group: number; readonly groups: number }
  /** The newest archive of each source, with its chain. */
  | { readonly of: "latest" };

/** @param seed - chance, from outside */
export function chooseSubset(archives: readonly Archive[], subset: Subset, seed: number): Archive[] {
  switch (subset.of) {
    case "group":
      return archives.filter(({ key }) => hash(key, 0) % subset.groups === subset.group - 1);
    case "latest":
      return chooseLatest(archives);
    case "share": {
      const total = archives.reduce((sum, { bytes }) => sum + bytes, 0);
      let read = 0;
      return archives
        .toSorted((a, b) => hash(a.key, seed) - hash(b.key, seed))
        .filter(({ bytes }) => {
          const wanted = read < total * subset.share;
          if (wanted) read += bytes;
          return wanted;
        });
    }
  }
}

function chooseLatest(archives: readonly Archive[]): Archive[] {
  const index = indexArchives(archives);
  const newest = new Map(sortByAge(archives).map((archive) => [archive.source, archive]));
  const chosen = new Set<Archive>();
  for (const archive of newest.values()) {
    let link: Archive | null | undefined = archive;
    while (link != null && !chosen.has(link)) {
      chosen.add(link);
      link = parentIn(link, index);
    }
  }
  return archives.filter((archive) => chosen.has(archive));
}

function checkOne({ archive, etag, listedBytes }: Examined, archives: readonly Archive[]): Damage[] {
  const { path, bytes, volumes, partBytes, key, lineage } = archive;
  const parts = Number(/-(\d+)$/.exec(etag)?.[1] ?? Number.NaN);
  if (bytes === 0) return [damaged("ARCHIVE_DAMAGED", archive, `the archive of ${path} is empty`, archives)];
  if (volumes === null && partBytes !== null && !Number.isNaN(parts) && Math.ceil(bytes / partBytes) !== parts) {
    const message = `the archive of ${path} has ${bytes} bytes, which are not the ${parts} parts it was stored in`;
    return [damaged("ARCHIVE_DAMAGED", archive, message, archives)];
  }
  const findings: Damage[] = [];
  if (isSilent(archive)) findings.push(notReadable(archive));
  else if (lineage === null) {
    const message = `what is stored under the name of ${path} begins neither like a send stream nor like an encrypted one`;
    findings.push(damaged("NOT_AN_ARCHIVE", archive, message, archives));
  }
  if (volumes === null && listedBytes !== bytes && listedBytes !== 0) {
    const message = `the listing says ${listedBytes} bytes of the archive of ${path}, the object ${bytes}`;
    findings.push(warn("NOT_COMPARABLE", key, message, { remedy: "listings lag behind: verify again in a while" }));
  }
  return findings;
}

/** An archive that nothing could be checked of without its key. */
export function notReadable({ key, path }: Archive): Damage {
  const message = `the archive of ${path} is encrypted: what it holds was not checked`;
  return warn("NOT_READABLE", key, message, { remedy: "say --identity FILE with the key it was encrypted for" });
}

function checkLink(archive: Archive, index: ArchiveIndex, archives: readonly Archive[]): Damage[] {
  const { lineage, path } = archive;
  if (lineage?.sendParent == null || parentIn(archive, index) !== undefined) return [];
  const { uuid, ctransid } = lineage.sendParent;
  if (archives.some(isSilent)) {
    const message = `what ${path} builds on is not among the archives that tell what they hold`;
    return [warn("NOT_READABLE", archive.key, message, { remedy: "say --identity FILE, so that the others tell too" })];
  }
  const message = `${path} builds on a snapshot that is not archived (UUID ${uuid}, transaction ${ctransid})`;
  const remedy = "if that snapshot still exists, run `sync`; otherwise what is told here cannot be restored any more";
  return [{ ...damaged("CHAIN_BROKEN", archive, message, archives), remedy }];
}

function findDuplicates(archives: readonly Archive[]): Damage[] {
  const seen = new Map<string, Archive>();
  return archives.flatMap((archive) => {
    if (archive.lineage === null) return [];
    const { uuid, ctransid } = archive.lineage.snapshot;
    const first = seen.get(`${uuid} ${ctransid}`);
    seen.set(`${uuid} ${ctransid}`, archive);
    if (first === undefined) return [];
    const message = `${first.path} and ${archive.path} are archives of the same snapshot`;
    return [warn("ARCHIVE_DUPLICATE", archive.key, message, { remedy: "one of them is enough" })];
  });
}

function describeLineage({ snapshot, sendParent }: Lineage): string {
  const base = sendParent === null ? "" : ` on top of ${sendParent.uuid}`;
  return `of ${snapshot.uuid}, transaction ${snapshot.ctransid}${base}`;
}

/** FNV-1a: the same key falls into the same group on every machine. */
function hash(key: Key, seed: number): number {
  let value = (0x811c9dc5 ^ seed) >>> 0;
  for (const char of key) value = Math.imul(value ^ (char.codePointAt(0) ?? 0), 0x01000193) >>> 0;
  // The last characters of keys are much alike, and the low bits are what groups are told by.
  return (value ^ (value >>> 15)) >>> 0;
}
