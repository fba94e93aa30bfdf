// The files that stay on this machine between runs, for one container; null where no directory for them is known.

import { cacheDirectory, stateDirectory } from "../state/paths.ts";
import type { Environment } from "../config/openstack.ts";
import type { Place } from "../state/catalogue.ts";
import type { Proofs } from "../state/proofs.ts";
import type { Catalogue } from "../operations/store-ports.ts";

/** The catalogue is written when it is closed. */
export async function openKeptCatalogue(
  env: Environment,
  place: Place,
): Promise<(Catalogue & { close(): Promise<void> }) | null> {
  const directory = cacheDirectory(env);
  if (directory === null) return null;
  const { openCatalogue } = await import("../state/catalogue.ts");
  return await openCatalogue(directory, place);
}

export async function openKeptProofs(env: Environment, place: Place): Promise<Proofs | null> {
  const directory = stateDirectory(env);
  if (directory === null) return null;
  const { openProofs } = await import("../state/proofs.ts");
  return await openProofs(directory, place);
}
