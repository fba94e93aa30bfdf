// Decides whether the log goes to the journal.

import { fstatSync } from "node:fs";
import type { Context } from "./session.ts";

/** True when systemd connected stderr to its journal, and stderr still leads there. */
export function isJournal({ JOURNAL_STREAM: journal }: Context["env"]): boolean {
  if (journal === undefined) return false;
  const { dev, ino } = fstatSync(2, { bigint: true });
  return journal === `${dev}:${ino}`;
}
