// The words of a command line that choose an archive: its name, or a subvolume and an age.

import { parseDate } from "../config/parse.ts";
import { BackupError } from "../errors.ts";
import { findSelected } from "../operations/restore.ts";
import type { Reading } from "../operations/read-archive.ts";
import type { Chain } from "../plan/model.ts";
import type { Selection } from "../plan/select.ts";
import { readWhere } from "../plan/where.ts";
import { findLocal, findSourceName } from "./local-names.ts";
import type { Session } from "./session.ts";

export interface SelectionWords {
  readonly what: string | undefined;
  readonly latest: boolean;
  readonly at: string | undefined;
}

/** @throws USAGE */
export function assertSelects({ what, latest, at }: SelectionWords): void {
  const refuse = (problem: string, hint: string): never => {
    throw new BackupError("USAGE", problem, { hint });
  };
  if (what === undefined && !latest && at === undefined) refuse("no archive given", "name an archive, or use --latest");
  if (latest && at !== undefined) refuse("--latest and --at exclude each other", "use one of them");
}

/** @throws USAGE */
export async function readSelection({ what, latest, at }: SelectionWords, session: Session): Promise<Selection> {
  const notAfter = at === undefined ? null : parseDate(at, "--at");
  if (what === "latest") return { by: "age", source: null, notAfter };
  if (!latest && at === undefined) return { by: "name", name: what ?? "", local: await findLocal(what ?? "", session) };
  const source = what === undefined ? null : await findSourceName(what, session);
  return { by: "age", source, notAfter };
}

/** The chain of an archive, and a path in it. */
export interface Place {
  readonly chain: Chain;
  readonly path: string;
}

/** Finds the place that words such as `ARCHIVE:DIR` name. @throws USAGE, and as {@link findSelected} */
export async function findPlace(words: SelectionWords, reading: Reading, session: Session): Promise<Place> {
  let failure: unknown;
  for (const { archive, path } of readWhere(words.what ?? "")) {
    const selection = await readSelection({ ...words, what: archive ?? undefined }, session);
    try {
      return { chain: await findSelected(selection, reading, session.signal), path };
    } catch (error) {
      if (!isUnknown(error)) throw error;
      failure = error;
    }
  }
  throw failure;
}

/** True where the words may have to be read in another way. */
function isUnknown(error: unknown): boolean {
  return error instanceof BackupError && (error.code === "USAGE" || error.code === "ARCHIVE_MISSING");
}
