// From a command line to an exit code: settings, the choice of the command, and errors that come before its log is
// open.

import type { Command } from "clipanion";
import { existsSync } from "node:fs";
import { userInfo } from "node:os";
import { toBackupError } from "../errors.ts";
import { nearest } from "../config/suggest.ts";
import { withOwnDirectories } from "../state/own-directories.ts";
import { formatHelp, formatOverview, type HelpStyle } from "../terminal/help.ts";
import { printLine, printOwnText } from "../terminal/print.ts";
import { isJournal } from "./journal.ts";
import type { Context } from "./session.ts";
import { joinLegacyFlags } from "./python-flags.ts";
import { registry, type Registered } from "./registry.ts";
import { spellings } from "./spellings.ts";
import { summaryOf, topicNames, type TopicName } from "./summaries.ts";

/** Runs a command line and returns its exit code. Loads only the modules which that command needs. */
export async function runCommandLine(argv: readonly string[], given: Context): Promise<number> {
  const context = { ...given, env: withOwnDirectories(given.env, userInfo().uid) };
  const [first = "", ...rest] = argv;
  if (argv.some(holdsSecretKey)) return rejectSecretKey(context);
  const topic = first === "help" && rest.length === 1 ? topicNames.find((name) => name === rest[0]) : undefined;
  if (topic !== undefined) return await printTopic(topic, context);
  if (first === "help") return await runCommandLine([...rest, "--help"], given);
  if (argv.length === 0 || /^(-h|--help)$/.test(first)) return printOverview(argv.length === 0 ? 2 : 0, context);
  if (/^(-V|--version)$/.test(first)) return printVersion(context);
  const registered = registry.find(({ name }) => name.split(" ")[0] === first) ?? meantBySync(first);
  if (typeof registered === "string") return refuse(registered, context);
  return await runCommand(registered, joinLegacyFlags(argv), context);
}

/** Command names of similar programs, each with the command that does the same here. */
const otherWords: Readonly<Record<string, string>> = {
  backup: "`sync` archives snapshots",
  archive: "`sync` archives snapshots",
  send: "`sync` archives snapshots",
  check: "`verify` checks archives",
  snapshots: "`list` shows archives",
  receive: "`restore` brings snapshots back",
  extract: "`restore` brings snapshots back",
  forget: "`prune` deletes archives, by keep rules",
  delete: "`prune` deletes archives, by keep rules",
};

/**
 * Returns `sync` for a command line that begins with no command, if its first word can be a path; else the reason to
 * refuse it.
 */
function meantBySync(first: string): Registered | string {
  const [sync] = registry;
  if (sync === undefined || !/^[\w-]+$/.test(first) || first.startsWith("-") || existsSync(first)) return sync ?? "";
  const names = registry.map(({ name }) => name.split(" ")[0] ?? "");
  const meant = nearest(first, names);
  const instead =
    otherWords[first] ?? (meant === null ? `the commands are ${names.join(", ")}` : `did you mean ${meant}?`);
  return `${first} is neither a command nor a path: ${instead}`;
}

async function runCommand({ name, load }: Registered, argv: string[], context: Context): Promise<number> {
  const [type, { Cli }] = await Promise.all([load(), import("clipanion")]);
  const binaryName = context.tool.split("/")[0] ?? "";
  if (wantsHelp(argv)) {
    const { describeCommand } = await import("./usage.ts");
    printOwnText(context.stdout, formatHelp(describeCommand(type, binaryName), binaryName, styleOf(context)));
    return 0;
  }
  const path = name.split(" ");
  if (argv[0] === path[0] && path.some((word, at) => argv[at] !== word))
    return refuse(`unknown command ${argv.slice(0, path.length).join(" ")}: did you mean ${name}?`, context);
  const cli = Cli.from([type], { binaryName, enableColors: false });
  const definitions = cli.definitions().flatMap(({ options }) => options.map(({ definition }) => definition));
  const known = definitions.flatMap(spellings);
  let command: Command<Context>;
  try {
    command = cli.process(argv, context);
  } catch (error) {
    const { explainUsage } = await import("./explain-usage.ts");
    const problem = explainUsage(error, argv.slice(path.length), { path, options: definitions });
    return refuse(`${problem}: ${binaryName} ${name} --help shows the usage`, context);
  }
  const begins = path.every((word, index) => argv[index] === word) ? path.length : 0;
  try {
    const settings = known.includes("--use") ? await readFile(argv, known, context) : context.settings;
    if (settings.words.some(holdsSecretKey)) return rejectSecretKey(context);
    const complete = { ...context, settings };
    const configured = [...argv.slice(0, begins), ...settings.words, ...argv.slice(begins)];
    // Each time, clipanion builds its machine of all options.
    if (settings.words.length > 0) command = cli.process(configured, complete);
    return await cli.run(command, complete);
  } catch (error) {
    const { message, hint, exitCode } = toBackupError(error);
    printError(`${message}${hint === null ? "" : `: ${hint}`}`, context);
    return exitCode;
  }
}

/** Loads the YAML parser only where the command line can use a configuration file. */
async function readFile(
  argv: readonly string[],
  known: readonly string[],
  { env }: Context,
): Promise<Context["settings"]> {
  return (await import("../config/settings.ts")).readSettings(argv, known, env);
}

function wantsHelp(argv: readonly string[]): boolean {
  const end = argv.indexOf("--");
  return (end === -1 ? argv : argv.slice(0, end)).some((word) => word === "--help" || word === "-h");
}

function printOverview(code: number, context: Context): number {
  const summaries = registry.map(({ name }) => ({ name, summary: summaryOf(name) }));
  const [name = "", version = ""] = context.tool.split("/");
  printOwnText(
    context.stdout,
    formatOverview({ name, version }, { commands: summaries, topics: topicNames }, styleOf(context)),
  );
  return code;
}

/** Without the versions of anything else, so that it is as fast as Node starts: `version` prints those. */
function printVersion({ stdout, tool }: Context): number {
  printLine(stdout, tool.replace("/", " "));
  return 0;
}

async function printTopic(name: TopicName, context: Context): Promise<number> {
  const [{ topics }, { formatTopic }] = await Promise.all([import("./topics.ts"), import("../terminal/manual.ts")]);
  printOwnText(context.stdout, formatTopic(topics[name], styleOf(context)));
  return 0;
}

function styleOf({ stdout, colorDepth }: Context): HelpStyle {
  return { coloured: colorDepth > 1, columns: Math.max(60, Math.min(stdout.columns ?? 80, 100)) };
}

/** True for a word that holds a secret key: age also accepts one in place of a recipient or a file. */
function holdsSecretKey(word: string): boolean {
  return /AGE-(SECRET-KEY|PLUGIN-[A-Z0-9-]+)-1/i.test(word);
}

/** Refuses the command line before anything can write the word into a log, a lock or an error. */
function rejectSecretKey({ stderr }: Context): number {
  printLine(
    stderr,
    "error: a secret age key is given where a recipient or a file is expected: use what `age-keygen -y FILE` prints (age1…)",
  );
  printLine(stderr, "others may have seen the key on the command line: make a new one with age-keygen");
  return 2;
}

function refuse(reason: string, context: Context): number {
  printError(reason, context);
  return 2;
}

/** Prints an error in one line before the log is open; in the journal it still has the priority of an error. */
function printError(text: string, { stderr, env }: Context): void {
  printLine(stderr, `${isJournal(env) ? "<3>" : "error: "}${text}`);
}
