// Finds what is wrong with the archives of a container, as far as that is possible without reading them, and what a
// damaged archive breaks.

import { identityText, indexArchives, isSilent, parentIn, type ArchiveIndex } from "./chain.ts";
import { dependentsOf } from "./dependents.ts";
import { parseKey } from "./key.ts";
import { archiveKeyOf } from "./manifest.ts";
import { sameIdentity, type Archive, type Identity, type Key, type Lineage, type Uuid } from "./model.ts";
import { isKeepKey } from "./keep-object.ts";
import { formatPinKey } from "./pin.ts";
import { formatProofKey } from "./proof.ts";
import { sortByAge } from "./select.ts";
import { OPEN_IT, damaged, notReadable, warn, type Damage } from "./damage.ts";

/** An archive with the store's facts about its object. */
export interface Examined {
  readonly archive: Archive;
  readonly etag: string;
  /** By the listing, which may lag behind; null when the object is not in it. */
  readonly listedBytes: number | null;
  /** The archive's length when it was sent, if another source than the store knows it. */
  readonly sentBytes?: number;
  /** The reason why its first bytes could not be read; absent when there is none. */
  readonly failure?: string;
}

/** An archive whose object the store does not have. */
export interface MissingArchive {
  readonly key: Key;
  readonly source: Uuid;
  readonly path: string;
}

/** Checks everything that names, sizes and metadata show. */
export function checkArchives(examined: readonly Examined[]): Damage[] {
  const archives = examined.map(({ archive }) => archive);
  const index = indexArchives(archives);
  return [
    ...examined.flatMap((each) => checkOne(each, archives)),
    ...checkLinks(archives, index),
    ...findDuplicates(archives),
  ];
}

/**
 * Checks objects that the store does not have although something names them. Nobody knows any more what they held. Of
 * their subvolume's archives, those without their parent cannot be restored, nor what builds on them.
 */
export function checkMissing(missing: readonly MissingArchive[], archives: readonly Archive[]): Damage[] {
  const index = indexArchives(archives);
  const orphans = archives.filter((archive) => archive.lineage !== null && parentIn(archive, index) === undefined);
  return missing.map(({ key, source, path }) => {
    const lost = new Set(
      orphans.filter((orphan) => orphan.source === source).flatMap((orphan) => dependentsOf(orphan, archives)),
    );
    return {
      code: "ARCHIVE_MISSING",
      severity: "error",
      subject: key,
      message: `the archive of ${path} is missing: the container's listing names it, but the store does not have the object`,
      breaks: [path, ...sortByAge([...lost]).map((archive) => archive.path)],
      remedy:
        "if it was deleted a moment ago, verify again; otherwise the store has lost it: if the snapshot still exists, run " +
        "`sync`, else a new chain begins with the next snapshot",
    };
  });
}

/** s3api can list a finished upload as open forever; an abort of it deletes the segments of the archive. */
const BESIDE_AN_ARCHIVE =
  "`sync` removes it when it is old, unless it is the archive's own; do not abort it with another tool, because that could delete the archive's bytes";

const OF_NO_ARCHIVE =
  "`sync` of its subvolume resumes it, or removes it when it is old (--leftover-age); where there is none any more, `prune --leftovers` does";

/** Objects and uploads of the container beside complete archives. */
export interface Others {
  /** Keys of all objects. */
  readonly keys: readonly string[];
  /** Keys of multipart uploads that are still open. */
  readonly uploads: readonly string[];
}

/** Reports leftovers of interrupted runs whose archives do not exist, and objects of others. */
export function checkOthers({ keys, uploads }: Others, archives: ReadonlySet<string>): Damage[] {
  const archiveOf = (key: string): string => archiveKeyOf(key) ?? key;
  const isOurs = (key: string): boolean => parseKey(archiveOf(key)) !== null;
  const foreign = keys.filter((key) => !isOurs(key) && !isKeepKey(key));
  const lonely = keys.filter((key) => isOurs(key) && !archives.has(archiveOf(key)));
  const begun = [...lonely, ...uploads.filter(isOurs)].map(archiveOf);
  const leftovers = [...new Set(begun)].map((key) => {
    const ofWhole = archives.has(key);
    if (ofWhole) {
      const message = `the store lists an open upload beside the archive ${key}`;
      return warn("LEFTOVER", key, message, { remedy: BESIDE_AN_ARCHIVE });
    }
    const onlyProof =
      !uploads.includes(key) &&
      lonely.every((other) => archiveOf(other) !== key || [formatProofKey(key), formatPinKey(key)].includes(other));
    const message = onlyProof
      ? `the archive ${key} is gone: only the proof of what it held is left`
      : `the archive ${key} does not exist: parts of it are left of an interrupted upload`;
    return warn("LEFTOVER", key, message, { remedy: OF_NO_ARCHIVE });
  });
  const [first] = foreign;
  if (first === undefined) return leftovers;
  const others = foreign.length === 1 ? first : `${first} and ${foreign.length - 1} more`;
  const remedy = "no harm if somebody else keeps them here";
  return [...leftovers, warn("NOT_AN_ARCHIVE", first, `objects that are no archives: ${others}`, { remedy })];
}

/**
 * Null when the beginning of the stream agrees with what the archive is recorded to hold. The transaction of the parent
 * is not compared, because a restored snapshot has another one than its original.
 */
export function checkIdentity(archive: Archive, found: Lineage, archives: readonly Archive[]): Damage | null {
  const { lineage, path } = archive;
  if (lineage === null) return null;
  const sameParent = lineage.sendParent?.uuid === found.sendParent?.uuid;
  if (sameIdentity(lineage.snapshot, found.snapshot) && sameParent) return null;
  const message = `the archive of ${path} holds another stream than its metadata says (${describeLineage(found)})`;
  return damaged("IDENTITY_MISMATCH", archive, message, archives);
}

function checkOne({ archive, listedBytes, sentBytes, failure }: Examined, archives: readonly Archive[]): Damage[] {
  const { path, bytes, volumes, key, lineage } = archive;
  if (bytes === 0) return [damaged("ARCHIVE_DAMAGED", archive, `the archive of ${path} is empty`, archives)];
  if (volumes === null && sentBytes !== undefined && sentBytes !== bytes) {
    const message = `the archive of ${path} has ${bytes} bytes, and ${sentBytes} were sent`;
    return [damaged("ARCHIVE_DAMAGED", archive, message, archives)];
  }
  if (failure !== undefined) return [damaged("ARCHIVE_DAMAGED", archive, failure, archives)];
  const findings: Damage[] = [];
  if (isSilent(archive)) findings.push(notReadable(archive));
  else if (lineage === null) {
    const message = `the object under the name of ${path} begins neither like a send stream nor like an encrypted one`;
    findings.push(damaged("NOT_AN_ARCHIVE", archive, message, archives));
  }
  if (listedBytes === null) {
    const message = `the archive of ${path} is there, but the container's listing does not name it`;
    findings.push(
      warn("NOT_LISTED", key, message, {
        remedy:
          "listings lag behind: verify again in a while, and if it persists, have the operator check the container updater",
      }),
    );
  } else if (volumes === null && listedBytes !== bytes && listedBytes !== 0) {
    const message = `the listing says ${listedBytes} bytes of the archive of ${path}, the object ${bytes}`;
    findings.push(warn("NOT_COMPARABLE", key, message, { remedy: "listings lag behind: verify again in a while" }));
  }
  return findings;
}

/** Finds archives whose parent is not among those of known contents. */
function checkLinks(archives: readonly Archive[], index: ArchiveIndex): Damage[] {
  const silent = archives.filter(isSilent);
  const firsts = new Map<Uuid, Archive>();
  for (const archive of sortByAge(archives)) {
    if (archive.lineage !== null && !firsts.has(archive.source)) firsts.set(archive.source, archive);
  }
  // An archive of unknown contents may be the missing parent when it is of the same subvolume. One of another subvolume
  // may only be it where a subvolume begins, after a restore: later snapshots build on their own predecessors.
  const candidatesFor = (archive: Archive): Archive[] =>
    silent.filter(({ source }) => source === archive.source || firsts.get(archive.source) === archive);
  return archives.flatMap((archive) => {
    const sendParent = archive.lineage?.sendParent ?? null;
    if (sendParent === null || parentIn(archive, index) !== undefined) return [];
    return [brokenLink(archive, sendParent, { candidates: candidatesFor(archive), archives })];
  });
}

interface LinkContext {
  /** The archives that may be the missing parent. */
  readonly candidates: readonly Archive[];
  readonly archives: readonly Archive[];
}

function brokenLink(archive: Archive, { uuid, ctransid }: Identity, { candidates, archives }: LinkContext): Damage {
  const { path, key } = archive;
  if (candidates.length > 0) {
    const message = `it is not known whether the archive that ${path} builds on exists: ${enumerate(candidates)} may hold it`;
    return { code: "CHAIN_UNKNOWN", severity: "error", subject: key, message, breaks: [], remedy: OPEN_IT };
  }
  const message = `${path} builds on a snapshot that is not archived (UUID ${uuid}, transaction ${ctransid})`;
  const remedy = "if that snapshot still exists, run `sync`; otherwise what is named here can no longer be restored";
  return { ...damaged("CHAIN_BROKEN", archive, message, archives), remedy };
}

function enumerate(archives: readonly Archive[]): string {
  const more = archives.length - 3;
  return `${archives
    .slice(0, 3)
    .map(({ path }) => path)
    .join(", ")}${more > 0 ? ` or ${more} more, all encrypted,` : ", encrypted,"}`;
}

function findDuplicates(archives: readonly Archive[]): Damage[] {
  const seen = new Map<string, Archive>();
  return archives.flatMap((archive) => {
    if (archive.lineage === null) return [];
    const identity = identityText(archive.lineage.snapshot);
    const first = seen.get(identity);
    seen.set(identity, archive);
    if (first === undefined) return [];
    const message = `${first.path} and ${archive.path} are archives of the same snapshot`;
    return [warn("ARCHIVE_DUPLICATE", archive.key, message, { remedy: "one of them is enough" })];
  });
}

function describeLineage({ snapshot, sendParent }: Lineage): string {
  const base = sendParent === null ? "" : ` on top of ${sendParent.uuid}`;
  return `of ${snapshot.uuid}, transaction ${snapshot.ctransid}${base}`;
}
