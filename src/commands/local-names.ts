// The words of a command line that name a subvolume or an archive, and a path on this machine that they may be.

import { existsSync } from "node:fs";
import type { LocalName, SourceName } from "../plan/select.ts";
import type { Session } from "./session.ts";

/** The subvolume on this machine whose root is this path; null when there is none, or it cannot be examined. */
export async function findLocal(text: string, session: Session): Promise<LocalName | null> {
  if (!existsSync(text)) return null;
  try {
    const source = await session.openSource(text, null);
    const [{ source: here }, { subvolumes }] = await Promise.all([source.list(session.signal), source.surroundings()]);
    const { parent = null, received = null } = subvolumes.find(({ uuid }) => uuid === here.uuid) ?? {};
    return { uuid: here.uuid, path: here.path, parent, received };
  } catch {
    session.signal.throwIfAborted();
    return null;
  }
}

/** Finds the subvolume that the words name: on this machine if they are a path here, and in the container. */
export async function findSourceName(text: string, session: Session): Promise<SourceName> {
  return { text, local: (await findLocal(text, session))?.uuid ?? null };
}
