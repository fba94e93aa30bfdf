// What is where: the archives of a container beside the snapshots of this machine.

import { indexArchives, measureChains } from "../plan/chain.ts";
import { formatKey, keyPrefix } from "../plan/key.ts";
import type { Archive, Snapshot, Uuid } from "../plan/model.ts";
import { sortByAge } from "../plan/select.ts";
import type { LocalSnapshots } from "./edges.ts";
import { readArchives } from "./inventory.ts";
import type { Reading } from "./reading.ts";

/** A snapshot that is archived, or here, or both. */
export interface ListedSnapshot {
  readonly source: Uuid;
  readonly path: string;
  readonly archive: Archive | null;
  readonly local: Snapshot | null;
  /** How many archives have to be read to restore it; null when one of them is missing, or when it is not archived. */
  readonly chainLength: number | null;
}

/** Every archive of the container, oldest first within each source. */
export async function listContainer(reading: Reading, signal: AbortSignal): Promise<ListedSnapshot[]> {
  const archives = await readArchives("", reading.container, signal, reading.identities);
  const lengths = measureChains(archives, indexArchives(archives));
  return sortByAge(archives)
    .map((archive) => toListed(archive, null, lengths))
    .sort((a, b) => compare(a.source, b.source));
}

/** The snapshots of one subvolume, archived or not, and its archives whose snapshots are gone; oldest first. */
export async function listSource(
  { source, snapshots }: LocalSnapshots,
  reading: Reading,
  signal: AbortSignal,
): Promise<ListedSnapshot[]> {
  const found = await readArchives(keyPrefix(source.uuid), reading.container, signal, reading.identities);
  const lengths = await measureAcross(found, reading, signal);
  const archives = new Map<string, Archive>(found.map((archive) => [archive.key, archive]));
  const listed = snapshots.map((snapshot): ListedSnapshot => {
    const name = formatKey(source.uuid, snapshot.path);
    const archive = "key" in name ? archives.get(name.key) : undefined;
    if (archive === undefined) return { source: source.uuid, path: snapshot.path, archive: null, local: snapshot, chainLength: null };
    archives.delete(archive.key);
    return toListed(archive, snapshot, lengths);
  });
  const remoteOnly = [...archives.values()].map((archive) => toListed(archive, null, lengths));
  return [...listed, ...remoteOnly].sort((a, b) => ageOf(a) - ageOf(b) || compare(a.path, b.path));
}

type Lengths = ReturnType<typeof measureChains>;

/** The chain of a snapshot that was taken after a restore begins among the archives of another source. */
async function measureAcross(archives: readonly Archive[], reading: Reading, signal: AbortSignal): Promise<Lengths> {
  const lengths = measureChains(archives, indexArchives(archives));
  if (![...lengths.values()].includes(null)) return lengths;
  const all = await readArchives("", reading.container, signal, reading.identities);
  return measureChains(archives, indexArchives(all));
}

function toListed(archive: Archive, local: Snapshot | null, lengths: Lengths): ListedSnapshot {
  const { source, path, key } = archive;
  return { source, path, archive, local, chainLength: lengths.get(key) ?? null };
}

function ageOf({ archive, local }: ListedSnapshot): number {
  return local?.otransid ?? archive?.otransid ?? archive?.lineage?.snapshot.ctransid ?? 0;
}

function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
