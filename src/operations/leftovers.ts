// Removes leftovers of interrupted runs from the container. It comes after the work, and when it fails, only space is
// lost. It leaves young leftovers alone: they may belong to a run elsewhere that is still active.

import { keyPrefix } from "../plan/key.ts";
import { archiveKeyOf } from "../plan/manifest.ts";
import { formatReplacementKey } from "../plan/replacement.ts";
import { allLeftovers, leftoversOfSource, type Leftovers } from "../plan/leftovers.ts";
import { listFinished } from "./replace-archive.ts";
import type { Container, OpenUpload } from "./store-ports.ts";
import type { Inventory } from "../plan/inventory.ts";

/** Result of a removal of leftovers. */
export interface RemovalResult {
  readonly removed: Leftovers<OpenUpload>;
  /** Uploads that the store lists as open though their archives are complete. An abort would destroy those. */
  readonly finished: readonly OpenUpload[];
  /** Keys of archives that were completed, by somebody else, while their uploads were removed: they cannot be read. */
  readonly broken: readonly string[];
}

/**
 * Removes what earlier runs have left of a source that no run will resume.
 * @param awaited - keys of archives that a later run will send
 */
export async function deleteLeftoversOf(
  inventory: Inventory,
  { awaited, olderThanMs }: { readonly awaited: ReadonlySet<string>; readonly olderThanMs: number },
  container: Container,
  signal: AbortSignal,
): Promise<RemovalResult> {
  const uploads = await container.openUploads(keyPrefix(inventory.source.uuid), signal);
  return await deleteLeftovers(leftoversOfSource(inventory, uploads, awaited), olderThanMs, container, signal);
}

/**
 * Removes leftovers of at least this age. Listings lag behind, and volumes of an archive that is not listed yet look
 * just like those of one that never existed. So a HEAD checks the archive and the leftover right before each deletion.
 */
export async function deleteLeftovers(
  { uploads, volumes }: Leftovers<OpenUpload>,
  olderThanMs: number,
  container: Container,
  signal: AbortSignal,
): Promise<RemovalResult> {
  const removed: { uploads: OpenUpload[]; volumes: string[] } = { uploads: [], volumes: [] };
  const finished: OpenUpload[] = [];
  const broken: string[] = [];
  for (const upload of uploads) {
    const fate = await container.removeUpload(upload, olderThanMs, signal);
    if (fate === "removed" || fate === "broken") removed.uploads.push(upload);
    if (fate === "finished") finished.push(upload);
    if (fate === "broken") broken.push(upload.key);
  }
  for (const key of volumes) {
    if (await isNeeded(key, container, signal)) continue;
    const volume = await container.head(key, signal);
    if (volume === null || Math.max(0, container.now() - volume.modified.getTime()) < olderThanMs) continue;
    await container.delete(key, signal);
    removed.volumes.push(key);
  }
  return { removed, finished, broken };
}

/** True when the archive of a volume is there, or is being replaced at this moment. */
async function isNeeded(volumeKey: string, container: Container, signal: AbortSignal): Promise<boolean> {
  const key = archiveKeyOf(volumeKey) ?? volumeKey;
  if ((await container.head(key, signal)) !== null) return true;
  const decision = formatReplacementKey(key);
  return volumeKey !== decision && (await container.head(decision, signal)) !== null;
}

/**
 * Finds the leftovers that {@link deleteLeftovers} would remove, judged from outside. An upload under whose key there is
 * an object is not among them: only its parts show whether it belongs to that object.
 */
export async function findRemovable(
  { uploads, volumes }: Leftovers<OpenUpload>,
  olderThanMs: number,
  container: Container,
  signal: AbortSignal,
): Promise<Leftovers<OpenUpload>> {
  const isOld = (time: Date): boolean => Math.max(0, container.now() - time.getTime()) >= olderThanMs;
  const old: { uploads: OpenUpload[]; volumes: string[] } = { uploads: [], volumes: [] };
  for (const upload of uploads)
    if (isOld(upload.initiated) && (await container.head(upload.key, signal)) === null) old.uploads.push(upload);
  for (const key of volumes) {
    const volume = await container.head(key, signal);
    if (volume === null || !isOld(volume.modified)) continue;
    if (!(await isNeeded(key, container, signal))) old.volumes.push(key);
  }
  return old;
}

/** Finds all leftovers under a prefix, whether a run would resume them or not. */
export async function findLeftovers(
  prefix: string,
  container: Container,
  signal: AbortSignal,
): Promise<Leftovers<OpenUpload>> {
  const objects = await listFinished(prefix, { container, identities: [] }, signal);
  return allLeftovers(
    objects.map(({ key }) => key),
    await container.openUploads(prefix, signal),
  );
}
