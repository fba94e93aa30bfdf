// Leftovers of interrupted runs in a container: removed where that harms nobody, and reported.

import { BackupError } from "../errors.ts";
import {
  findLeftovers,
  findRemovable,
  deleteLeftovers,
  deleteLeftoversOf,
  type RemovalResult,
} from "../operations/leftovers.ts";
import { sourcesOf } from "../plan/leftovers.ts";
import { count, printable } from "../terminal/format.ts";
import type { Session } from "./session.ts";
import type { Container } from "../operations/store-ports.ts";
import type { Inventory } from "../plan/inventory.ts";

/** Removes all leftovers under a prefix. Holds the lock, so that no run of this machine uses them. @throws LOCKED */
export async function removeLeftovers(
  { prefix, olderThanMs }: { readonly prefix: string; readonly olderThanMs: number },
  container: Container,
  session: Session,
): Promise<void> {
  const found = await findLeftovers(prefix, container, session.signal);
  const lock = await session.lock({ container: container.name, sources: sourcesOf(found), wait: undefined });
  try {
    report(await deleteLeftovers(found, olderThanMs, container, session.signal), session);
  } finally {
    lock.close();
  }
}

/** Shows what {@link removeLeftovers} would remove. */
export async function printLeftovers(
  { prefix, olderThanMs }: { readonly prefix: string; readonly olderThanMs: number },
  container: Container,
  { output, signal }: Session,
): Promise<void> {
  const found = await findLeftovers(prefix, container, signal);
  const { uploads, volumes } = await findRemovable(found, olderThanMs, container, signal);
  for (const { key } of uploads) output.line(`would be removed: the unfinished upload of ${printable(key)}`);
  for (const key of volumes) output.line(`would be removed: ${printable(key)}`);
  const kept = found.uploads.length + found.volumes.length - uploads.length - volumes.length;
  if (kept > 0) output.line(`${kept} more ${kept === 1 ? "is" : "are"} too young, or may belong to an archive`);
  if (uploads.length + volumes.length + kept === 0) output.line("there are no leftovers");
}

/** Removes the leftovers of one source after its snapshots were sent. A failure is only a warning. */
export async function removeOldLeftovers(
  inventory: Inventory,
  wanted: { readonly awaited: ReadonlySet<string>; readonly olderThanMs: number },
  container: Container,
  session: Session,
): Promise<void> {
  try {
    report(await deleteLeftoversOf(inventory, wanted, container, session.signal), session);
  } catch (error) {
    if (session.signal.aborted || !(error instanceof BackupError)) throw error;
    session.log.warn({ code: error.code }, `leftovers of interrupted runs were not removed: ${error.message}`);
  }
}

function report({ removed, finished, broken }: RemovalResult, { log }: Pick<Session, "log">): void {
  const { uploads, volumes } = removed;
  if (uploads.length > 0) log.info(`${count(uploads.length, "unfinished upload")} removed`);
  if (volumes.length > 0) log.info(`${count(volumes.length, "volume")} of unfinished archives removed`);
  for (const { key, uploadId } of finished) {
    log.info(
      { uploadId },
      `the store lists the upload of ${printable(key)} as open, though the archive is complete: it is left alone; ` +
        "never abort it, because that would delete the archive's bytes",
    );
  }
  for (const key of broken) {
    log.error(
      `${printable(key)} was completed by another run while its upload was removed, and cannot be read: delete it and run sync again`,
    );
  }
}
