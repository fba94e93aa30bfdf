// The manual page and the topics of the help: both print the same sections, one for man(1), one for a terminal.

import { formatTerm, heading, spell, wrap, type CommandHelp, type HelpStyle } from "./help.ts";

/** Text of a section: a paragraph, terms with their meanings, or lines to type, which are never wrapped. */
export type Block =
  | string
  | { readonly terms: readonly { readonly term: string; readonly meaning: string }[] }
  | { readonly lines: readonly string[] };

/** A section of the manual that belongs to no single command. */
export interface Section {
  readonly title: string;
  readonly blocks: readonly Block[];
}

/** The text of `help TOPIC`. */
export function formatTopic(sections: readonly Section[], style: HelpStyle): string {
  const formatBlock = (block: Block): string[] => {
    if (typeof block === "string") return wrap(block, style.columns);
    if ("lines" in block) return block.lines.map((line) => (line === "" ? "" : `  ${line}`));
    return block.terms.flatMap(({ term, meaning }) => formatTerm(term, meaning, style));
  };
  return sections
    .flatMap(({ title, blocks }) => [
      heading(title, style),
      ...blocks.flatMap((block, at) => [...(at === 0 ? [] : [""]), ...formatBlock(block)]),
      "",
    ])
    .join("\n");
}

/** The manual page, in the language of man(7). */
export function formatManual(
  program: { readonly name: string; readonly version: string },
  commands: readonly CommandHelp[],
  sections: readonly Section[],
): string {
  const head = [
    `.TH ${program.name.toUpperCase()} 1 "" "${program.version}"`,
    ".SH NAME",
    `${escape(program.name)} \\- keep btrfs snapshots in an OpenStack Swift container`,
    ".SH SYNOPSIS",
    ...commands.flatMap(({ name, words }) => [
      `.B ${escape(program.name)} ${escape(name)}`,
      escape(`${words} [OPTIONS]`.trim()),
      ".br",
    ]),
  ];
  return `${[...head, ...commands.flatMap(formatCommand), ...sections.flatMap(formatSection)].join("\n")}\n`;
}

function formatCommand(command: CommandHelp): string[] {
  return [
    `.SH ${escape(command.name.toUpperCase())}`,
    escape(command.summary),
    ...command.details.flatMap((paragraph) => [".PP", escape(paragraph)]),
    ...[null, ...command.groups].flatMap((group) => formatGroup(command, group)),
    ...command.examples.flatMap(({ label, line }) => [".PP", escape(`${label}:`), ...verbatim([line])]),
    ".PP",
    "Exit codes:",
    ...command.exits.flatMap(({ code, meaning }) => definition(String(code), meaning)),
  ];
}

/** The options of one heading; null for the command's own. */
function formatGroup({ options }: CommandHelp, group: string | null): string[] {
  const own = options.filter((option) => option.group === group);
  if (own.length === 0) return [];
  return [
    ".PP",
    `${escape(group ?? "Options")}:`,
    ...own.flatMap((option) => definition(spell(option), option.description)),
  ];
}

function formatSection({ title, blocks }: Section): string[] {
  const formatBlock = (block: Block): string[] => {
    if (typeof block === "string") return [".PP", escape(block)];
    if ("lines" in block) return [".PP", ...verbatim(block.lines)];
    return block.terms.flatMap(({ term, meaning }) => definition(term, meaning));
  };
  return [`.SH ${escape(title.toUpperCase())}`, ...blocks.flatMap(formatBlock)];
}

function definition(term: string, meaning: string): string[] {
  return [".TP", `.B ${escape(term)}`, escape(meaning)];
}

function verbatim(lines: readonly string[]): string[] {
  return [".EX", ...lines.map(escape), ".EE"];
}

function escape(line: string): string {
  return line
    .replaceAll("\\", "\\e")
    .replaceAll("-", "\\-")
    .replace(/^([.'])/, "\\&$1");
}
