// The help of commands and topics, as text.

/** The help of one option. */
export interface OptionHelp {
  readonly name: string;
  readonly short: string | null;
  /** The name of its value; null when it takes none. */
  readonly value: string | null;
  /** Values that completions offer. */
  readonly words: readonly string[];
  /** True when it is on unless `--no-…` is given. */
  readonly negatable: boolean;
  /** The heading it stands under; null for the command's own. */
  readonly group: string | null;
  readonly description: string;
}

/** The help of one command. */
export interface CommandHelp {
  readonly name: string;
  /** True when its name can be left out. */
  readonly isDefault: boolean;
  /** The words beside the options, as in `PATH ...`. */
  readonly words: string;
  readonly summary: string;
  readonly details: readonly string[];
  readonly examples: readonly { readonly label: string; readonly line: string }[];
  readonly options: readonly OptionHelp[];
  /** The headings that options may stand under, in their order. */
  readonly groups: readonly string[];
  readonly exits: readonly { readonly code: number; readonly meaning: string }[];
}

export interface HelpStyle {
  readonly coloured: boolean;
  readonly columns: number;
}

/** The column where descriptions begin; a longer option has its own line. */
const INDENT = 26;

/** The same for the terms of a topic. */
const TERM_INDENT = 20;

/** The overview of all commands. */
export function formatOverview(
  program: { readonly name: string; readonly version: string },
  {
    commands,
    topics,
  }: {
    readonly commands: readonly { readonly name: string; readonly summary: string }[];
    readonly topics: readonly string[];
  },
  style: HelpStyle,
): string {
  const { name, version } = program;
  return [
    `${name} ${version}`,
    ...wrap("Keeps the snapshots of btrfs subvolumes in an OpenStack Swift container.", style.columns),
    "",
    heading("Example", style),
    `  ${name} sync /home --container-name backup`,
    "",
    heading("Commands", style),
    ...commands.flatMap(({ name: command, summary }) =>
      row(bold(command, style), command.length, summary, { indent: 15, style }),
    ),
    "",
    ...wrap(
      `${name} COMMAND --help shows its options. A command line that begins with a path is a sync.`,
      style.columns,
    ),
    "",
    ...wrap(`${name} help TOPIC explains ${topics.slice(0, -1).join(", ")} and ${topics.at(-1) ?? ""}.`, style.columns),
    "",
  ].join("\n");
}

/** The help of one command: an example first, its exit codes last. */
export function formatHelp(help: CommandHelp, program: string, style: HelpStyle): string {
  const [first, ...more] = help.examples;
  const name = help.isDefault ? `[${help.name}]` : help.name;
  const example = ({ label, line }: CommandHelp["examples"][number]): string[] => [
    ...wrap(label, style.columns - 2).map((text) => `  ${text}:`),
    `    ${line}`,
  ];
  return [
    heading("Example", style),
    ...(first === undefined ? [] : example(first)),
    "",
    ...wrap(help.summary, style.columns),
    "",
    heading("Usage", style),
    `  ${[program, name, help.words, "[OPTIONS]"].filter((word) => word !== "").join(" ")}`,
    ...help.details.flatMap((paragraph) => ["", ...wrap(paragraph, style.columns)]),
    ...[null, ...help.groups].flatMap((group) => formatGroup(help, group, style)),
    ...(more.length === 0 ? [] : ["", heading("More examples", style), ...more.flatMap(example)]),
    "",
    heading("Exit codes", style),
    ...help.exits.flatMap(({ code, meaning }) => row(String(code).padStart(4), 4, meaning, { indent: 8, style })),
    "",
  ].join("\n");
}

/** `-v, --verbose` or `--memory SIZE`. */
export function spell({ name, short, value, negatable }: OptionHelp): string {
  const long = negatable ? name.replace(/^--/, "--[no-]") : name;
  return `${short === null ? "" : `${short}, `}${long}${value === null ? "" : ` ${value}`}`;
}

function formatGroup({ options }: CommandHelp, group: string | null, style: HelpStyle): string[] {
  const members = options.filter((option) => option.group === group);
  if (members.length === 0) return [];
  const rows = members.flatMap((option) => {
    const spelling = spell(option);
    return row(bold(spelling, style), spelling.length, option.description, { indent: INDENT, style });
  });
  return ["", heading(group ?? "Options", style), ...rows];
}

/** Returns a term of a topic with its meaning. */
export function formatTerm(term: string, meaning: string, style: HelpStyle): string[] {
  return row(bold(term, style), term.length, meaning, { indent: TERM_INDENT, style });
}

/** Returns a term with its meaning beside it, or below it when the term is long. */
function row(
  term: string,
  length: number,
  meaning: string,
  { indent, style }: { readonly indent: number; readonly style: HelpStyle },
): string[] {
  const lines = wrap(meaning, style.columns - indent);
  const beside = length + 4 <= indent;
  const first = beside ? `  ${term}${" ".repeat(indent - length - 2)}${lines.shift() ?? ""}` : `  ${term}`;
  return [first.trimEnd(), ...lines.map((line) => " ".repeat(indent) + line)];
}

/** Wraps text into lines of at most `columns`; only a longer word exceeds that. */
export function wrap(text: string, columns: number): string[] {
  const lines: string[] = [];
  for (const word of text.split(" ")) {
    const last = lines.at(-1);
    if (last !== undefined && last.length + 1 + word.length <= columns) lines[lines.length - 1] = `${last} ${word}`;
    else lines.push(word);
  }
  return lines;
}

/** A title of the help. */
export function heading(text: string, { coloured }: HelpStyle): string {
  return coloured ? `\u001b[1;4m${text}\u001b[0m` : text;
}

function bold(text: string, { coloured }: HelpStyle): string {
  return coloured ? `\u001b[1m${text}\u001b[0m` : text;
}
