// The help of a command, read from its class and from the table of options.

import { Cli } from "clipanion";
import { exitMeanings } from "../errors.ts";
import type { CommandHelp, OptionHelp } from "../terminal/help.ts";
import type { CommandType } from "./registry.ts";
import { optionsOf } from "./options.ts";
import { describeOption, isOnByDefault, optionGroups, type OptionDefinition } from "../config/options.ts";

/** Describes a command for help, completions and the manual, from its definition alone. */
export function describeCommand(type: CommandType, binaryName: string): CommandHelp {
  const { usage } = type;
  const definition = Cli.from([type], { binaryName }).definitions()[0];
  const [path = [], ...others] = type.paths ?? [];
  const words = (definition?.usage ?? "").slice(binaryName.length + 1 + path.join(" ").length).trim();
  return {
    name: path.join(" "),
    isDefault: others.some((other) => other.length === 0),
    // The parser does not report the name of optional words.
    words: words
      .replace(/[<>]/g, "")
      .replace(/^\.\.\.$/, "[PATH]...")
      .replace(/ \.\.\.$/, "..."),
    summary: usage?.description ?? "",
    details: toParagraphs(usage?.details ?? ""),
    examples: (usage?.examples ?? []).map(([label, line]) => ({ label, line: line.replaceAll("$0", binaryName) })),
    options: optionsOf(type).map(toOption),
    groups: optionGroups,
    exits: type.exits.map((code) => ({ code, meaning: exitMeanings[code] ?? "" })),
  };
}

function toOption(option: OptionDefinition): OptionHelp {
  const { flag, short = null, value = null, words = [], group = null } = option;
  const description = describeOption(option);
  return { name: flag, short, value, words, negatable: isOnByDefault(option), group, description };
}

function toParagraphs(text: string): readonly string[] {
  return text
    .trim()
    .split(/\n\s*\n/)
    .map((paragraph) => paragraph.replace(/\s+/g, " ").trim())
    .filter((paragraph) => paragraph !== "");
}
