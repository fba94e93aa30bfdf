// Lists the archives of a container beside the snapshots of this machine.

import { indexArchives, measureChains } from "../plan/chain.ts";
import type { Archive, Snapshot, Uuid } from "../plan/model.ts";
import { ageOf, compareText, sortByAge } from "../plan/select.ts";
import { archiveOf, compareSnapshots } from "../plan/standing.ts";
import { planSync } from "../plan/sync.ts";
import type { LocalSnapshots } from "./ports.ts";
import { examine, readArchives, type ArchiveView } from "./inventory.ts";
import type { Reading } from "./read-archive.ts";
import { prepareSync } from "./sync.ts";
import type { Finding } from "../plan/finding.ts";
import { allArchives, type Inventory } from "../plan/inventory.ts";

/** A snapshot that is archived, or here, or both. */
export interface ListedSnapshot {
  readonly source: Uuid;
  readonly path: string;
  /** The archive of this very snapshot, under any key; null when there is none. */
  readonly archive: Archive | null;
  readonly local: Snapshot | null;
  /** How many archives have to be read to restore it; null when one of them is missing, or when it is not archived. */
  readonly chainLength: number | null;
}

/** The snapshots and archives of one subvolume, and the findings that a sync would report. */
export interface ListedSource {
  readonly listed: readonly ListedSnapshot[];
  readonly findings: readonly Finding[];
  /** Snapshots that are not archived, or whose chain is broken. */
  readonly pending: number;
}

/** Every archive of the container, oldest first within each source. */
export async function listContainer(reading: Reading, signal: AbortSignal): Promise<ListedSnapshot[]> {
  const archives = await readArchives("", reading, signal);
  const lengths = measureChains(archives, indexArchives(archives));
  return sortByAge(archives)
    .map((archive) => toListed(archive, null, lengths))
    .sort((a, b) => compareText(a.source, b.source));
}

/** The snapshots of one subvolume, archived or not, and its archives whose snapshots are gone; oldest first. */
export async function listSource(local: LocalSnapshots, view: ArchiveView, signal: AbortSignal): Promise<ListedSource> {
  const { inventory, lengths } = await lookThrough(local, view, signal);
  const { findings, kept, notKept } = planSync(inventory, { keeping: view.keeping ?? null });
  const standings = compareSnapshots(inventory);
  const claimed = new Set(standings.flatMap((standing) => archiveOf(standing) ?? []));
  const here = standings.map((standing) => {
    const archive = archiveOf(standing);
    const { snapshot } = standing;
    if (archive !== null) return { ...toListed(archive, snapshot, lengths), path: snapshot.path };
    return { source: inventory.source.uuid, path: snapshot.path, archive, local: snapshot, chainLength: null };
  });
  const archiveOnly = inventory.archives
    .filter((archive) => !claimed.has(archive))
    .map((archive) => toListed(archive, null, lengths));
  const listed = [...here, ...archiveOnly].sort(
    (a, b) => ageOfListed(a) - ageOfListed(b) || compareText(a.path, b.path),
  );
  return {
    listed,
    findings: [...(local.doubts ?? []), ...findings],
    pending: inventory.snapshots.length - kept.length - notKept.length,
  };
}

type Lengths = ReturnType<typeof measureChains>;

/** The chain of a snapshot that was taken after a restore begins among the archives of another source. */
async function lookThrough(
  local: LocalSnapshots,
  view: ArchiveView,
  signal: AbortSignal,
): Promise<{ readonly inventory: Inventory; readonly lengths: Lengths }> {
  let { inventory } = await prepareSync(local, view, { keeping: view.keeping ?? null }, signal);
  if (inventory.examined === "snapshots") inventory = await examine(inventory, "source", view, signal);
  const measure = (of: Inventory): Lengths => measureChains(of.archives, indexArchives(allArchives(of)));
  const lengths = measure(inventory);
  if (inventory.examined === "container" || ![...lengths.values()].includes(null)) return { inventory, lengths };
  inventory = await examine(inventory, "container", view, signal);
  return { inventory, lengths: measure(inventory) };
}

function toListed(archive: Archive, local: Snapshot | null, lengths: Lengths): ListedSnapshot {
  const { source, path, key } = archive;
  return { source, path, archive, local, chainLength: lengths.get(key)?.length ?? null };
}

function ageOfListed({ archive, local }: ListedSnapshot): number {
  return local?.otransid ?? (archive === null ? 0 : ageOf(archive));
}
