// Finds each snapshot of this machine in the container. A name does not prove whose archive it is: only the identity of
// the stored stream counts. All code that calls a snapshot archived asks here.

import { builtOn } from "./dependents.ts";
import { identityText, indexArchives, isSilent, type ArchiveIndex } from "./chain.ts";
import { formatKey } from "./key.ts";
import {
  copiedBy,
  namesOf,
  sameIdentity,
  streamIdentity,
  type Archive,
  type Key,
  type Snapshot,
  type Uuid,
  type Identity,
} from "./model.ts";
import type { Finding } from "./finding.ts";
import { allArchives, type Inventory } from "./inventory.ts";

export type Standing = { readonly snapshot: Snapshot } &
  /** No key can express its path. */
  (
    | { readonly is: "nameless"; readonly reason: string }
    | { readonly is: "missing"; readonly key: Key }
    /** Its own archive, under its key. "proven": it was changed since, and a comparison found the same data. */
    | { readonly is: "archived" | "proven"; readonly key: Key; readonly archive: Archive }
    /** There is an archive under its key, but nobody here can read what it holds. */
    | { readonly is: "trusted"; readonly key: Key; readonly archive: Archive }
    /** Its own archive, under another key: snapshots were moved or renamed. */
    | { readonly is: "elsewhere"; readonly key: Key; readonly archive: Archive }
    /** The archive under its key holds its state before a change, another snapshot, or nothing readable. */
    | { readonly is: "changed" | "another" | "damaged"; readonly key: Key; readonly archive: Archive }
  );

/** The state of an empty container, whatever this machine has. */
export const NOTHING_STORED = {
  archived: new Set<Key>(),
  archives: [],
  others: [],
  examined: "container",
  volumes: [],
  origin: null,
  proofs: [],
} as const;

/** The archive of this very snapshot; null when there is none. */
export function archiveOf(standing: Standing): Archive | null {
  switch (standing.is) {
    case "archived":
    case "proven":
    case "trusted":
    case "elsewhere":
      return standing.archive;
    default:
      return null;
  }
}

/** Returns one for each snapshot, in their order. */
export function compareSnapshots(inventory: Inventory): Standing[] {
  const { source, snapshots, archives } = inventory;
  const byKey = new Map<string, Archive>(archives.map((archive) => [archive.key, archive]));
  const index = indexArchives(allArchives(inventory));
  const byContent = indexContents(index);
  const proven = new Set(inventory.proofs.map((proof) => `${proof.key}\n${proof.etag}\n${identityText(proof)}`));
  const taken = new Set<Key>();
  return snapshots.map((snapshot): Standing => {
    const name = nameSnapshot(source.uuid, snapshot, taken);
    if (!("key" in name)) return { snapshot, is: "nameless", reason: name.refused };
    const { key } = name;
    taken.add(key);
    const archive = byKey.get(key);
    const identity = streamIdentity(snapshot);
    const is = archive === undefined ? "missing" : compare(snapshot, archive);
    if (is === "archived" || is === "trusted")
      return archive === undefined ? { snapshot, is: "missing", key } : { snapshot, is, key, archive };
    if (archive !== undefined && proven.has(`${key}\n${archive.etag ?? ""}\n${identityText(identity)}`)) {
      return { snapshot, is: "proven", key, archive };
    }
    const copied = copiedBy(snapshot);
    const elsewhere =
      index.get(identityText(identity)) ?? (copied === null ? undefined : byContent.get(identityText(copied)));
    if (elsewhere !== undefined && elsewhere.bytes > 0) return { snapshot, is: "elsewhere", key, archive: elsewhere };
    return archive === undefined || is === "missing"
      ? { snapshot, is: "missing", key }
      : { snapshot, is, key, archive };
  });
}

/** Archives of a snapshot or of a copy of it, by the identity of the original. */
function indexContents(index: ArchiveIndex): ReadonlyMap<string, Archive> {
  return new Map(
    [...index.values()].flatMap((archive) => namesOf(archive).map((name) => [identityText(name), archive] as const)),
  );
}

/** True when an archive and a snapshot are copies of the same original, although each copy has its own name. */
export function holdsCopy(snapshot: Snapshot, archive: Archive): boolean {
  const copied = copiedBy(snapshot);
  return copied !== null && namesOf(archive).some((name) => sameIdentity(name, copied));
}

/** The keys of the snapshots once they are archived. */
export function keysOf(source: Uuid, snapshots: readonly Snapshot[]): Key[] {
  return snapshots.flatMap((snapshot) => {
    const name = nameSnapshot(source, snapshot, new Set());
    return "key" in name ? [name.key] : [];
  });
}

/** The key of a snapshot, or why no archive can have its name. */
export function nameSnapshot(source: Uuid, snapshot: Snapshot, taken: ReadonlySet<Key>): ReturnType<typeof formatKey> {
  if (!snapshot.pathIsExact) return { refused: "its path is not valid UTF-8" };
  const name = formatKey(source, snapshot.path);
  return "key" in name && taken.has(name.key) ? { refused: "another snapshot has the same path" } : name;
}

function compare(snapshot: Snapshot, archive: Archive): "archived" | "trusted" | "changed" | "another" | "damaged" {
  const { lineage, bytes } = archive;
  if (bytes === 0) return "damaged";
  if (lineage === null) return isSilent(archive) ? "trusted" : "damaged";
  const identity = streamIdentity(snapshot);
  if (sameIdentity(lineage.snapshot, identity) || holdsCopy(snapshot, archive)) return "archived";
  return lineage.snapshot.uuid === identity.uuid ? "changed" : "another";
}

/** The finding for a snapshot that is not archived under its key; null where there is none. */
export function describeStanding(standing: Standing, archives: readonly Archive[]): Finding | null {
  const { path } = standing.snapshot;
  switch (standing.is) {
    case "nameless":
      return error("NAME_UNUSABLE", path, `${path} cannot be archived: ${standing.reason}; rename it`);
    case "another":
      return error(
        "NAME_REUSED",
        standing.key,
        `${path} is not the snapshot that is archived under its name (it was deleted and created again, or renamed, or another ` +
          "machine uses the same source UUID): it is not archived; rename it, and the next run archives it",
      );
    case "changed":
      return error(
        "SNAPSHOT_CHANGED",
        standing.key,
        `${path} was changed since it was archived (made writable, or deduplicated): what it holds now is not archived; if it was ` +
          "only deduplicated, `verify PATH --drill` proves that it holds the same, and `sync` accepts it from then on; " +
          "otherwise rename it",
      );
    case "damaged":
      return describeDamaged(standing.key, standing.archive, describeBuiltOn(standing.snapshot, archives));
    default:
      return null;
  }
}

function describeDamaged(key: Key, { path, bytes, failure }: Archive, builtOnIt: string): Finding {
  const cure = `delete the object '${key}' and use \`sync\` again: ${builtOnIt}`;
  const is = `${path} is not archived: the object under its name`;
  if (bytes === 0) return error("ARCHIVE_DAMAGED", key, `${is} is empty; ${cure}`);
  if (failure === undefined) return error("NOT_AN_ARCHIVE", key, `${is} is no send stream; ${cure}`);
  return error("ARCHIVE_DAMAGED", key, `${is} cannot be read (${failure}); if that stays, ${cure}`);
}

function error(code: Finding["code"], subject: string, message: string): Finding {
  return { code, severity: "error", subject, message };
}

const NAMED_AT_MOST = 3;

function describeBuiltOn(snapshot: Snapshot, archives: readonly Archive[]): string {
  const paths = builtOn(streamIdentity(snapshot), archives).map(({ path }) => path);
  return paths.length === 0
    ? "nothing builds on it"
    : `what builds on it can be restored again then (${listPaths(paths)})`;
}

/** Lists the first ones, and how many more there are. */
export function listPaths(paths: readonly string[]): string {
  const more = paths.length - NAMED_AT_MOST;
  return `${paths.slice(0, NAMED_AT_MOST).join(", ")}${more > 0 ? ` and ${more} more` : ""}`;
}

/** The snapshot on this machine with this identity; null when there is none. */
export function findSnapshot(identity: Identity, snapshots: readonly Snapshot[]): Snapshot | null {
  return snapshots.find((snapshot) => sameIdentity(streamIdentity(snapshot), identity)) ?? null;
}
