// Removes what interrupted runs have left in the container.

import { keyPrefix } from "../plan/key.ts";
import { archiveKeyOf } from "../plan/manifest.ts";
import type { Inventory, UploadStep } from "../plan/model.ts";
import { planClearance, planSweep, type Remains } from "../plan/sweep.ts";
import type { Container, OpenUpload } from "./edges.ts";

/**
 * Removes what earlier runs have left and no run will go on with; gives the uploads that this one can go on with.
 * @param toSend - what this run is going to send
 */
export async function sweep(
  inventory: Inventory,
  toSend: readonly UploadStep[],
  container: Container,
  signal: AbortSignal,
): Promise<{ readonly resumable: readonly OpenUpload[]; readonly removed: Remains<OpenUpload> }> {
  const uploads = await container.openUploads(keyPrefix(inventory.source.uuid), signal);
  const { keep, remove } = planSweep(inventory, uploads, toSend);
  return { resumable: keep.uploads, removed: await removeRemains(remove, container, signal) };
}

/**
 * Removes remains, and gives those that were some. Listings lag behind, and volumes of an archive that is not listed yet look
 * just like those of one that never was: so each archive is asked for before its volumes are deleted.
 */
export async function removeRemains(
  { uploads, volumes }: Remains<OpenUpload>,
  container: Container,
  signal: AbortSignal,
): Promise<Remains<OpenUpload>> {
  for (const upload of uploads) await container.abort(upload, signal);
  const removed: string[] = [];
  const isWhole = new Map<string, boolean>();
  for (const key of volumes) {
    const archive = archiveKeyOf(key) ?? key;
    const whole = isWhole.get(archive) ?? (await container.head(archive, signal)) !== null;
    isWhole.set(archive, whole);
    if (whole) continue;
    await container.delete(key, signal);
    removed.push(key);
  }
  return { uploads, volumes: removed };
}

/** What has been left under a prefix, whether a run would go on with it or not. */
export async function findRemains(prefix: string, container: Container, signal: AbortSignal): Promise<Remains<OpenUpload>> {
  const objects = await container.list(prefix, signal);
  return planClearance(objects.map(({ key }) => key), await container.openUploads(prefix, signal));
}
