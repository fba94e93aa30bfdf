// What is kept on this machine between runs, for one container; null where nothing says where to keep it.

import { cacheDirectory, stateDirectory } from "../config.ts";
import type { Catalogue } from "../operations/edges.ts";
import type { Place } from "../state/catalogue.ts";
import type { Proofs } from "../state/proofs.ts";
import type { Context } from "./session.ts";

/** Written when it is closed. */
export async function openKeptCatalogue(
  env: Context["env"],
  place: Place,
): Promise<(Catalogue & { close(): Promise<void> }) | null> {
  const directory = cacheDirectory(env);
  if (directory === null) return null;
  const { openCatalogue } = await import("../state/catalogue.ts");
  return await openCatalogue(directory, place);
}

export async function openKeptProofs(env: Context["env"], place: Place): Promise<Proofs | null> {
  const directory = stateDirectory(env);
  if (directory === null) return null;
  const { openProofs } = await import("../state/proofs.ts");
  return await openProofs(directory, place);
}
