// Whether the log goes to the journal.

import { fstatSync } from "node:fs";
import type { Context } from "./session.ts";

/** True when systemd has connected stderr with its journal, and it still is. */
export function isJournal({ JOURNAL_STREAM: journal }: Context["env"]): boolean {
  if (journal === undefined) return false;
  const { dev, ino } = fstatSync(2, { bigint: true });
  return journal === `${dev}:${ino}`;
}
