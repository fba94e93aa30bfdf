// Finds whose snapshots a PATH means: those of the subvolume at PATH or, with --received, those that were received into
// the directory at PATH, each chain on its own.

import type { BackupError } from "../errors.ts";
import type { LocalSnapshots, Sender } from "../operations/ports.ts";
import { readArchives, type ArchiveView } from "../operations/inventory.ts";
import { originsOfReceived, type Origin } from "../operations/origins.ts";
import type { SendProto } from "../plan/model.ts";
import { explainNoneReceived, explainNoSnapshots } from "../plan/surroundings.ts";
import type { Session } from "./session.ts";

export interface Origins {
  readonly sender: Sender;
  /**
   * Lists the origins as they are now; an origin has no snapshots, or there is none, when there is nothing to archive.
   * @param look - opens the view of the container, which is not needed where there is nothing to archive
   */
  list(look: () => Promise<ArchiveView>): Promise<readonly Origin[]>;
  /** Explains why there is nothing to archive. @param command - "sync" for those that take --allow-empty */
  explainNone(command: "sync" | "other"): Promise<BackupError>;
}

/** The options that decide what a PATH means. */
export interface OriginFlags {
  readonly received: boolean;
  readonly sendProto: SendProto | null;
}

/** @throws NOT_SUBVOLUME, NOT_BTRFS, NO_PRIVILEGE, CONFIG, USAGE */
export async function openOrigins(
  path: string,
  { received, sendProto }: OriginFlags,
  session: Session,
): Promise<Origins> {
  return received ? await openReceived(path, sendProto, session) : await openSubvolume(path, sendProto, session);
}

async function openSubvolume(path: string, sendProto: SendProto | null, session: Session): Promise<Origins> {
  const source = await session.openSource(path, sendProto);
  const list = (): Promise<LocalSnapshots> => source.list(session.signal);
  return {
    sender: source,
    list: async () => [{ name: path, local: await list() }],
    explainNone: async (command) =>
      explainNoSnapshots(path, (await list()).source, await source.surroundings(), command),
  };
}

async function openReceived(path: string, sendProto: SendProto | null, session: Session): Promise<Origins> {
  const source = await session.openReceived(path, sendProto);
  return {
    sender: source,
    list: async (look) => {
      const snapshots = await source.list(session.signal);
      if (snapshots.length === 0) return [];
      return originsOfReceived(path, snapshots, await readArchives("", await look(), session.signal));
    },
    explainNone: (command) => Promise.resolve(explainNoneReceived(path, command)),
  };
}
