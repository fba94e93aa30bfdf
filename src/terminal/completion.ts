// Completions for bash, zsh and fish, as text.

import type { CommandHelp, OptionHelp } from "./help.ts";

export type Shell = "bash" | "zsh" | "fish";

/** The names of the program that its completions belong to; the others are aliases of the first. */
export type Names = readonly [name: string, ...others: string[]];

/** Returns the text that a shell sources to complete commands, options, and the values of options. */
export function formatCompletion(
  shell: Shell,
  names: Names,
  { commands, topics }: { readonly commands: readonly CommandHelp[]; readonly topics: readonly string[] },
): string {
  const next = wordsAfter(commands, topics);
  if (shell === "fish") return formatFish(names, commands, next);
  const bash = formatBash(names, commands, next);
  return shell === "bash" ? bash : formatZsh(names, bash);
}

/** Options with few possible values, with these. */
function choicesOf(commands: readonly CommandHelp[]): ReadonlyMap<string, string> {
  const options = commands.flatMap((command) => command.options).filter(({ words }) => words.length > 0);
  return new Map(options.map(({ name, words }) => [name, words.join(" ")]));
}

type Words = Readonly<Record<string, string>>;

/** The words that can follow these commands. */
const wordsAfter = (commands: readonly CommandHelp[], topics: readonly string[]): Words => ({
  completion: "bash zsh fish man",
  help: [...new Set([...commands.map(({ name }) => name.split(" ")[0] ?? ""), ...topics])].join(" "),
  ...Object.fromEntries(
    commands.flatMap(({ name }) => {
      const [first = "", ...rest] = name.split(" ");
      return rest.length === 0 ? [] : [[first, rest.join(" ")]];
    }),
  ),
});

/** The option whose values are the targets of the configuration file; the program itself lists them. */
const TARGET = "--use";

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

function formatBash([program, ...others]: Names, commands: readonly CommandHelp[], next: Words): string {
  const name = `_${program.replaceAll("-", "_")}`;
  const isFile = (value: string): boolean => value === "FILE" || value === "DIR";
  const values = new Set(commands.flatMap((command) => optionsBy(command, (value) => !isFile(value))));
  const choices = choicesOf(commands);
  for (const option of [TARGET, ...choices.keys()]) values.delete(option);
  const files = new Set(commands.flatMap((command) => optionsBy(command, isFile)));
  const sync = commands.find(({ isDefault }) => isDefault);
  const firsts = [...commands.map((command) => command.name.split(" ")[0] ?? ""), "help"];
  const answer = (words: string): string => `COMPREPLY=($(compgen -W "${words}" -- "$cur"))`;
  return `${name}() {
  local cur=\${COMP_WORDS[COMP_CWORD]} prev=\${COMP_WORDS[COMP_CWORD-1]} options config=() i
  COMPREPLY=()
  case $prev in
    ${[...files].join("|")}) compopt -o default 2>/dev/null; return ;;
    ${TARGET})
      for ((i = 1; i < COMP_CWORD; i++)); do [[ \${COMP_WORDS[i]} != --config ]] || config=(--config "\${COMP_WORDS[i+1]}"); done
      ${answer('$("${COMP_WORDS[0]}" completion targets "${config[@]}" 2>/dev/null)')}; return ;;
${[...choices].map(([option, words]) => `    ${option}) ${answer(words)}; return ;;`).join("\n")}
    ${[...values].join("|")}) return ;;
  esac
  case "\${COMP_WORDS[1]}" in
${commands.map((command) => `    ${command.name.split(" ")[0] ?? ""}) options="${flagsOf(command).join(" ")}" ;;`).join("\n")}
    *) options="${sync === undefined ? "" : flagsOf(sync).join(" ")} --version" ;;
  esac
  if [[ $cur == -* ]]; then ${answer("$options")}; return; fi
  if ((COMP_CWORD == 2)); then
    case $prev in
${Object.entries(next)
  .map(([word, words]) => `      ${word}) ${answer(words)}; return ;;`)
  .join("\n")}
    esac
  fi
  if ((COMP_CWORD == 1)); then ${answer(firsts.join(" "))}; fi
  compopt -o default 2>/dev/null
}
complete -F ${name} ${[program, ...others].join(" ")}
`;
}

/**
 * zsh uses the completion for bash. When zsh finds the file in $fpath, it reads the file at the first completion, which
 * the file itself has to answer.
 */
function formatZsh(names: Names, bash: string): string {
  const [program] = names;
  const name = `_${program.replaceAll("-", "_")}`;
  const answer = `[[ \${funcstack[1]-} != _${program} ]] || _bash_complete -F ${name}`;
  return `#compdef ${names.join(" ")}\nautoload -Uz bashcompinit && bashcompinit\n${bash}${answer}\n`;
}

function formatFish([program, ...others]: Names, commands: readonly CommandHelp[], following: Words): string {
  const quote = (text: string): string => `'${text.replaceAll("\\", "\\\\").replaceAll("'", "\\'")}'`;
  const seen = (word: string): string => quote(`__fish_seen_subcommand_from ${word}`);
  const values = ({ name, value, words }: OptionHelp): string => {
    if (name === TARGET) return ` -x -a ${quote(`(${program} completion targets 2>/dev/null)`)}`;
    if (words.length > 0) return ` -x -a ${quote(words.join(" "))}`;
    return value === null ? "" : " -r";
  };
  const lines = commands.flatMap((command) => {
    const word = command.name.split(" ")[0] ?? "";
    return [
      `complete -c ${program} -n __fish_use_subcommand -a ${word} -d ${quote(command.summary)}`,
      ...command.options.map(
        (option) =>
          `complete -c ${program} -n ${seen(word)} -l ${option.name.slice(2)}` +
          `${option.short === null ? "" : ` -s ${option.short.slice(1)}`}${values(option)} -d ${quote(option.description)}`,
      ),
    ];
  });
  const next = Object.entries(following).map(
    ([word, words]) => `complete -c ${program} -f -n ${seen(word)} -a ${quote(words)}`,
  );
  const help = `complete -c ${program} -n __fish_use_subcommand -a help -d 'Show the help of a command or a topic.'`;
  const aliases = others.map((other) => `complete -c ${other} -w ${program}`);
  return `${[...lines, help, ...next, ...aliases].join("\n")}\n`;
}
