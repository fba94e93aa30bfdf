import { Cli } from "clipanion";
import { exitMeanings } from "../errors.ts";
import type { CommandHelp, OptionHelp } from "../terminal/help.ts";
import type { CommandType } from "./registry.ts";

/** The names of option values in the help; an option that is not here gets VALUE. */
const values: Readonly<Record<string, string>> = {
  "--age-recipient": "RECIPIENT",
  "--age-recipients-file": "FILE",
  "--at": "DATE",
  "--compress": "METHOD",
  "--concurrency": "N",
  "--config": "FILE",
  "--container-name": "NAME",
  "--directory": "DIR",
  "--endpoint": "URL",
  "--env-file": "FILE",
  "--identity": "FILE",
  "--limit-upload": "SIZE",
  "--log-format": "FORMAT",
  "--memory": "SIZE",
  "--metrics-file": "FILE",
  "--os-cloud": "NAME",
  "--ping-url": "URL",
  "--read-data-subset": "PART",
  "--region": "NAME",
  "--retry-for": "DURATION",
  "--leftover-age": "DURATION",
  "--send-proto": "VERSION",
  "--target": "DIR",
  "--use": "NAME",
  "--volume-size": "SIZE",
  "--wait-lock": "DURATION",
  "--work-dir": "DIR",
  "--writable": "NAME",
};

/** Options that many commands share, by their heading; all others come first. */
const groups: Readonly<Record<string, readonly string[]>> = {
  "Container and credentials": [
    "--config",
    "--use",
    "--container-name",
    "--endpoint",
    "--region",
    "--env-file",
    "--os-cloud",
    "--create-credentials",
  ],
  "Encryption and compression": [
    "--age-recipient",
    "--age-recipients-file",
    "--no-encryption",
    "--require-encryption",
    "--compress",
  ],
  "Output and log": ["--json", "--quiet", "--verbose", "--progress", "--log-format", "--syslog"],
};

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
    words: words.replace(/[<>]/g, "").replace(/^\.\.\.$/, "[PATH]..."),
    summary: usage?.description ?? "",
    details: toParagraphs(usage?.details ?? ""),
    examples: (usage?.examples ?? []).map(([label, line]) => ({ label, line: line.replaceAll("$0", binaryName) })),
    options: (definition?.options ?? []).map(({ definition: text, description = "" }) => toOption(text, description)),
    groups: Object.keys(groups),
    exits: type.exits.map((code) => ({ code, meaning: exitMeanings[code] ?? "" })),
  };
}

/** Reads `-v,--verbose` or `--memory #0` and its description. */
function toOption(definition: string, description: string): OptionHelp {
  const [names = "", value] = definition.split(" ");
  const spellings = names.split(",");
  const name = spellings.at(-1) ?? "";
  const group = Object.entries(groups).find(([, members]) => members.includes(name))?.[0] ?? null;
  return {
    name,
    short: spellings.length > 1 ? (spellings[0] ?? null) : null,
    value: value === undefined ? null : (values[name] ?? "VALUE"),
    // The description of an option that is on by default contains "(default)".
    negatable: value === undefined && description.includes("(default)"),
    group,
    description,
  };
}

function toParagraphs(text: string): readonly string[] {
  return text
    .trim()
    .split(/\n\s*\n/)
    .map((paragraph) => paragraph.replace(/\s+/g, " ").trim())
    .filter((paragraph) => paragraph !== "");
}
