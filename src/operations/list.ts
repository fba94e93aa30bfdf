// What is where: the archives of a container beside the snapshots of this machine.

import { formatKey, keyPrefix } from "../plan/key.ts";
import type { Archive, Snapshot, Uuid } from "../plan/model.ts";
import type { Container, LocalSnapshots } from "./edges.ts";
import { readArchives } from "./inventory.ts";

/** A snapshot that is archived, or here, or both. */
export interface ListedSnapshot {
  readonly source: Uuid;
  readonly path: string;
  readonly archive: Archive | null;
  readonly local: Snapshot | null;
}

/** Every archive of the container, oldest first within each source. */
export async function listContainer(container: Container, signal: AbortSignal): Promise<ListedSnapshot[]> {
  const archives = await readArchives("", container, signal);
  return archives.map((archive) => toListed(archive, null)).sort(bySourceAndAge);
}

/** The snapshots of one subvolume, archived or not, and its archives whose snapshots are gone. */
export async function listSource(
  { source, snapshots }: LocalSnapshots,
  container: Container,
  signal: AbortSignal,
): Promise<ListedSnapshot[]> {
  const archives = new Map<string, Archive>(
    (await readArchives(keyPrefix(source.uuid), container, signal)).map((archive) => [archive.key, archive]),
  );
  const listed = snapshots.map((snapshot): ListedSnapshot => {
    const name = formatKey(source.uuid, snapshot.path);
    const archive = "key" in name ? archives.get(name.key) : undefined;
    if (archive !== undefined) archives.delete(archive.key);
    return { source: source.uuid, path: snapshot.path, archive: archive ?? null, local: snapshot };
  });
  const remoteOnly = [...archives.values()].map((archive) => toListed(archive, null));
  return [...listed, ...remoteOnly].sort(bySourceAndAge);
}

function toListed(archive: Archive, local: Snapshot | null): ListedSnapshot {
  return { source: archive.source, path: archive.path, archive, local };
}

/** Creation order; what has no metadata comes first, by name. */
function bySourceAndAge(a: ListedSnapshot, b: ListedSnapshot): number {
  return compare(a.source, b.source) || ageOf(a) - ageOf(b) || compare(a.path, b.path);
}

function ageOf({ archive, local }: ListedSnapshot): number {
  return local?.otransid ?? archive?.otransid ?? 0;
}

function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
