// Command lines of the Python tool, which work unchanged.

import { isBoolean } from "../config/parse.ts";

/** The long options of the Python tool, which accepted any unambiguous abbreviation of them. */
const legacyFlags = ["--container-name", "--work-dir", "--dry-run", "--age-recipient", "--syslog"] as const;

/**
 * Translates a command line that was written for the Python tool into one of ours: `--syslog false` becomes
 * `--syslog=false`, while in `--syslog PATH` the path stays a separate word, and `--container` becomes
 * `--container-name`. Words after `--` are left alone.
 */
export function joinLegacyFlags(argv: readonly string[]): string[] {
  const end = argv.indexOf("--");
  const options = end === -1 ? argv : argv.slice(0, end);
  const joined: string[] = [];
  for (const word of options.map(completeFlag)) {
    if (joined.at(-1) === "--syslog" && isBoolean(word)) joined[joined.length - 1] = `--syslog=${word}`;
    else joined.push(word);
  }
  return end === -1 ? joined : [...joined, ...argv.slice(end)];
}

/** Completes an abbreviation of one legacy flag, if it is at least three letters long. */
function completeFlag(word: string): string {
  const [flag = "", ...value] = word.split("=");
  if (!/^--[a-z-]{3,}$/.test(flag)) return word;
  const matches = legacyFlags.filter((known) => known.startsWith(flag));
  return matches.length === 1 ? [matches[0], ...value].join("=") : word;
}
