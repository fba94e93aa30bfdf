// Explains why a command line cannot be understood. The parser names neither the option whose value is missing, nor the
// word that it finds superfluous; so this walks through the words once more.

import { allOptions } from "../config/options.ts";
import { nearest } from "../config/suggest.ts";
import { spellings } from "./spellings.ts";

/** The words and options that a command accepts. */
export interface Grammar {
  /** The words of the command itself. */
  readonly path: readonly string[];
  /** `-v,--verbose`, or `--memory #0` where a value follows. */
  readonly options: readonly string[];
}

/** These options may have a value and need none. */
const withoutValue: readonly string[] = allOptions.flatMap(({ flag, takes }) =>
  takes === "nothing, or =false" ? flag : [],
);

/** @param argv - the words after the command */
export function explainUsage(error: unknown, argv: readonly string[], { path, options }: Grammar): string {
  const known = options.flatMap(spellings);
  const valued = options.filter((option) => option.includes(" ")).flatMap(spellings);
  const words: string[] = [];
  for (let at = 0; at < argv.length; at += 1) {
    const word = argv[at] ?? "";
    if (word === "--") {
      words.push(...argv.slice(at + 1));
      break;
    }
    if (!/^-./.test(word)) {
      words.push(word);
      continue;
    }
    const [flag = "", ...value] = word.split("=");
    const isCluster = /^-[a-z]{2,}$/.test(flag);
    if (!known.includes(flag) && !isCluster) return explainUnknown(flag, known);
    const takes = valued.includes(flag);
    if (value.length > 0 && !takes && !isCluster) return `${flag} takes no value`;
    if (value.length > 0 || !takes || withoutValue.includes(flag)) continue;
    at += 1;
    const next = argv[at];
    if (next === undefined || /^-./.test(next)) return `${flag} needs a value`;
  }
  const [line = ""] = (error instanceof Error ? error.message : String(error)).split("\n");
  if (line.startsWith("Not enough positional")) return `${path.join(" ")} needs one more argument`;
  if (line.startsWith("Command not found") || line.startsWith("Extraneous positional"))
    return `too many arguments: ${[...path, ...words].join(" ")}`;
  return line.replace(/\.$/, "");
}

function explainUnknown(flag: string, known: readonly string[]): string {
  const meant = flag.startsWith("--") ? nearest(flag, known) : null;
  return `unknown option ${flag}${meant === null ? "" : `; did you mean ${meant}`}`;
}
