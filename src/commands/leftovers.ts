// What interrupted runs have left in a container: taken away on request, and told.

import type { Container, OpenUpload } from "../operations/edges.ts";
import { findRemains, removeRemains } from "../operations/sweep.ts";
import { sourcesOf, type Remains } from "../plan/sweep.ts";
import { count } from "../terminal/format.ts";
import type { House } from "./base.ts";

/** Removes all that is left over under a prefix, while no run of this machine is at work on it. @throws LOCKED */
export async function removeLeftovers(prefix: string, container: Container, house: House): Promise<void> {
  const found = await findRemains(prefix, container, house.signal);
  const lock = await house.lock({ container: container.name, sources: sourcesOf(found), wait: undefined });
  try {
    tellRemoved(await removeRemains(found, container, house.signal), house);
  } finally {
    lock.close();
  }
}

export function tellRemoved({ uploads, volumes }: Remains<OpenUpload>, { log }: Pick<House, "log">): void {
  if (uploads.length > 0) log.info(`${count(uploads.length, "unfinished upload")} removed`);
  if (volumes.length > 0) log.info(`${count(volumes.length, "volume")} of unfinished archives removed`);
}
