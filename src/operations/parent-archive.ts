// Checks before and after a step that the archive of its send parent exists: another machine may prune at the same time.

import { BackupError } from "../errors.ts";
import type { UploadStep } from "../plan/model.ts";
import type { Container, Stored } from "./store-ports.ts";

/** @throws CHAIN_BROKEN when the archive of the send parent is gone */
export async function assertParentArchived(
  { snapshot, sendParent, sendParentArchive }: UploadStep,
  container: Container,
  signal: AbortSignal,
): Promise<void> {
  if (sendParentArchive === undefined || (await container.head(sendParentArchive.key, signal)) !== null) return;
  throw new BackupError(
    "CHAIN_BROKEN",
    `the archive of ${sendParent?.path ?? ""}, on which ${snapshot.path} was to build, has been deleted meanwhile`,
    { hint: "the next run chooses another send parent", context: { key: sendParentArchive.key } },
  );
}

/**
 * Deletes an archive that was just stored when the archive of its send parent is gone: nobody could restore it, and later
 * runs would count its snapshot as archived. @throws CHAIN_BROKEN
 */
export async function dropWithoutParent(
  step: UploadStep,
  { etag }: Stored,
  container: Container,
  signal: AbortSignal,
): Promise<void> {
  try {
    await assertParentArchived(step, container, signal);
  } catch (error) {
    // When the store does not answer, the archive stays: the next run checks its chain again.
    if (!(error instanceof BackupError && error.code === "CHAIN_BROKEN")) return;
    if ((await container.head(step.key, signal))?.etag === etag) await container.delete(step.key, signal);
    throw error;
  }
}
