import { spell, type CommandHelp } from "./help.ts";

export type Shell = "bash" | "zsh" | "fish";

/** What a shell is to source so that it completes commands, options and the files that options take. */
export function formatCompletion(shell: Shell, program: string, commands: readonly CommandHelp[]): string {
  if (shell === "fish") return formatFish(program, commands);
  const bash = formatBash(program, commands);
  return shell === "bash" ? bash : formatZsh(program, bash);
}

/** Options that take a file or a directory, and those that take another value. */
function optionsBy(command: CommandHelp, takes: (value: string) => boolean): string[] {
  return command.options.filter(({ value }) => value !== null && takes(value)).map(({ name }) => name);
}

function flagsOf({ options }: CommandHelp): string[] {
  return [
    ...options.flatMap(({ name, negatable }) => [name, ...(negatable ? [name.replace("--", "--no-")] : [])]),
    "--help",
  ];
}

function formatBash(program: string, commands: readonly CommandHelp[]): string {
  const name = `_${program.replaceAll("-", "_")}`;
  const isFile = (value: string): boolean => value === "FILE" || value === "DIR";
  const values = new Set(commands.flatMap((command) => optionsBy(command, (value) => !isFile(value))));
  const files = new Set(commands.flatMap((command) => optionsBy(command, isFile)));
  const sync = commands.find(({ isDefault }) => isDefault);
  return `${name}() {
  local cur=\${COMP_WORDS[COMP_CWORD]} prev=\${COMP_WORDS[COMP_CWORD-1]} options
  COMPREPLY=()
  case $prev in
    ${[...files].join("|")}) compopt -o default 2>/dev/null; return ;;
    ${[...values].join("|")}) return ;;
  esac
  case "\${COMP_WORDS[1]}" in
${commands.map((command) => `    ${command.name.split(" ")[0] ?? ""}) options="${flagsOf(command).join(" ")}" ;;`).join("\n")}
    *) options="${sync === undefined ? "" : flagsOf(sync).join(" ")} --version" ;;
  esac
  if [[ $cur == -* ]]; then COMPREPLY=($(compgen -W "$options" -- "$cur"))
  elif ((COMP_CWORD == 1)); then COMPREPLY=($(compgen -W "${commands.map((command) => command.name.split(" ")[0]).join(" ")}" -- "$cur")); compopt -o default 2>/dev/null
  else compopt -o default 2>/dev/null; fi
}
complete -F ${name} ${program}
`;
}

/** zsh takes bash's. Found in $fpath, the file is read at the first completion, which it has to answer itself. */
function formatZsh(program: string, bash: string): string {
  const name = `_${program.replaceAll("-", "_")}`;
  const answer = `[[ \${funcstack[1]-} != _${program} ]] || _bash_complete -F ${name}`;
  return `#compdef ${program}\nautoload -Uz bashcompinit && bashcompinit\n${bash}${answer}\n`;
}

function formatFish(program: string, commands: readonly CommandHelp[]): string {
  const quote = (text: string): string => `'${text.replaceAll("\\", "\\\\").replaceAll("'", "\\'")}'`;
  const lines = commands.flatMap((command) => {
    const word = command.name.split(" ")[0] ?? "";
    const condition = `__fish_seen_subcommand_from ${word}`;
    return [
      `complete -c ${program} -n __fish_use_subcommand -a ${word} -d ${quote(command.summary)}`,
      ...command.options.map(
        ({ name, short, value, description }) =>
          `complete -c ${program} -n ${quote(condition)} -l ${name.slice(2)}${short === null ? "" : ` -s ${short.slice(1)}`}` +
          `${value === null ? "" : " -r"} -d ${quote(description)}`,
      ),
    ];
  });
  return `${lines.join("\n")}\n`;
}

/** The manual page, in the language of man(7). */
export function formatManual(
  program: { readonly name: string; readonly version: string },
  commands: readonly CommandHelp[],
): string {
  const text = (line: string): string =>
    line
      .replaceAll("\\", "\\e")
      .replaceAll("-", "\\-")
      .replace(/^([.'])/, "\\&$1");
  const sections = commands.flatMap((command) => [
    `.SH ${text(command.name.toUpperCase())}`,
    ...command.examples.slice(0, 1).flatMap(({ line }) => [".EX", text(line), ".EE", ".PP"]),
    text(command.summary),
    ...command.details.flatMap((paragraph) => [".PP", text(paragraph)]),
    ...command.options.flatMap((option) => [".TP", `.B ${text(spell(option))}`, text(option.description)]),
    ".PP",
    "Exit codes:",
    ...command.exits.flatMap(({ code, meaning }) => [".TP", `.B ${code}`, text(meaning)]),
  ]);
  const head = [
    `.TH ${program.name.toUpperCase()} 1 "" "${program.version}"`,
    ".SH NAME",
    `${text(program.name)} \\- keep btrfs snapshots in an OpenStack Swift container`,
    ".SH SYNOPSIS",
    ...commands.flatMap(({ name, words }) => [
      `.B ${text(program.name)} ${text(name)}`,
      text(`${words} [OPTIONS]`.trim()),
      ".br",
    ]),
  ];
  return `${[...head, ...sections].join("\n")}\n`;
}
