import { existsSync } from "node:fs";
import type { LocalName, SourceName } from "../plan/select.ts";
import type { House } from "./session.ts";

/** The subvolume on this machine whose root a path is; null when there is none, or it cannot be looked at. */
export async function findLocal(text: string, house: House): Promise<LocalName | null> {
  if (!existsSync(text)) return null;
  try {
    const source = await house.openSource(text, null);
    const [{ source: here }, { subvolumes }] = await Promise.all([source.list(house.signal), source.surroundings()]);
    const { parent = null, received = null } = subvolumes.find(({ uuid }) => uuid === here.uuid) ?? {};
    return { uuid: here.uuid, path: here.path, parent, received };
  } catch {
    house.signal.throwIfAborted();
    return null;
  }
}

/** What words mean that name a subvolume: on this machine, if they are a path here, and in the container. */
export async function findSourceName(text: string, house: House): Promise<SourceName> {
  return { text, local: (await findLocal(text, house))?.uuid ?? null };
}
