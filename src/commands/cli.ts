import { existsSync } from "node:fs";
import { userInfo } from "node:os";
import { toBackupError } from "../errors.ts";
import { nearest } from "../nearest.ts";
import { printable, printableLines } from "../terminal/format.ts";
import { withOwnDirectories } from "../own-directories.ts";
import { formatHelp, formatOverview, type HelpStyle } from "../terminal/help.ts";
import type { Context } from "./base.ts";
import { joinLegacyFlags } from "./legacy.ts";
import { registry, type Registered } from "./registry.ts";

/** Runs what was typed; gives the exit code. Loads only what that needs. */
export async function runCommandLine(argv: readonly string[], given: Context): Promise<number> {
  const context = { ...given, env: withOwnDirectories(given.env, userInfo().uid) };
  const [first = ""] = argv;
  if (argv.some(holdsSecretKey)) return refuseSecretKey(context);
  if (argv.length === 0 || /^(-h|--help)$/.test(first)) return showOverview(argv.length === 0 ? 2 : 0, context);
  if (/^(-V|--version)$/.test(first)) return await (await import("./version.ts")).printVersion(context);
  const registered = registry.find(({ name }) => name.split(" ")[0] === first) ?? meantBySync(first);
  if (typeof registered === "string") return refuse(registered, "--help", context);
  return await runCommand(registered, joinLegacyFlags(argv), context);
}

/** What begins with no command is a sync, unless its first word is a command misspelt: then the reason to refuse it. */
function meantBySync(first: string): Registered | string {
  const [sync] = registry;
  const names = registry.map(({ name }) => name);
  const meant = /^[a-z-]+$/.test(first) && !first.startsWith("-") && !existsSync(first) ? nearest(first, names) : null;
  if (sync === undefined || meant !== null) return `there is no command ${first}; did you mean ${meant ?? ""}`;
  return sync;
}

async function runCommand({ name, load }: Registered, argv: string[], context: Context): Promise<number> {
  const [type, { Cli }] = await Promise.all([load(), import("clipanion")]);
  const binaryName = context.tool.split("/")[0] ?? "";
  if (wantsHelp(argv)) {
    const { describeCommand } = await import("./describe.ts");
    context.stdout.write(formatHelp(describeCommand(type, binaryName), binaryName, styleOf(context)));
    return 0;
  }
  const cli = Cli.from([type], { binaryName, enableColors: false });
  const known = cli.definitions().flatMap(({ options }) => options.flatMap(({ definition }) => spellings(definition)));
  try {
    cli.process(argv, context);
  } catch (error) {
    return refuse(explainUsage(error, argv, known), `${name} --help`, context);
  }
  const path = name.split(" ");
  const begins = path.every((word, index) => argv[index] === word) ? path.length : 0;
  try {
    const settings = known.includes("--use") ? await readFile(argv, known, context) : context.settings;
    if (settings.words.some(holdsSecretKey)) return refuseSecretKey(context);
    const configured = [...argv.slice(0, begins), ...settings.words, ...argv.slice(begins)];
    const complete = { ...context, settings };
    return await cli.run(cli.process(configured, complete), complete);
  } catch (error) {
    const { message, hint, exitCode } = toBackupError(error);
    context.stderr.write(`error: ${printableLines(`${message}${hint === null ? "" : `: ${hint}`}`)}\n`);
    return exitCode;
  }
}

/** YAML is not loaded where no file can be meant. */
async function readFile(argv: readonly string[], known: readonly string[], { env }: Context): Promise<Context["settings"]> {
  return (await import("../settings.ts")).readSettings(argv, known, env);
}

function wantsHelp(argv: readonly string[]): boolean {
  const end = argv.indexOf("--");
  return (end === -1 ? argv : argv.slice(0, end)).some((word) => word === "--help" || word === "-h");
}

function showOverview(code: number, context: Context): number {
  const [name = "", version = ""] = context.tool.split("/");
  context.stdout.write(formatOverview({ name, version }, registry, styleOf(context)));
  return code;
}

function styleOf({ stdout, colorDepth }: Context): HelpStyle {
  return { coloured: colorDepth > 1, columns: Math.max(60, Math.min(stdout.columns ?? 80, 100)) };
}

/** Every way to write an option: `-v,--verbose` is two, and `--no-verbose` a third. */
function spellings(definition: string): string[] {
  const names = (definition.split(" ")[0] ?? "").split(",");
  return [...names, ...names.filter((name) => name.startsWith("--")).map((name) => name.replace("--", "--no-"))];
}

/**
 * An option that there is not, else the first line of what the parser has to say; the rest is usage, which `--help` tells
 * better. Of commands that take any number of words, the parser does not name the option.
 */
function explainUsage(error: unknown, argv: readonly string[], known: readonly string[]): string {
  const end = argv.indexOf("--");
  const flags = (end === -1 ? argv : argv.slice(0, end)).map((word) => word.split("=")[0] ?? "");
  const unknown = flags.find((flag) => /^--[a-z]/.test(flag) && !known.includes(flag));
  if (unknown !== undefined) {
    const meant = nearest(unknown, known);
    return `there is no option ${unknown}${meant === null ? "" : `; did you mean ${meant}`}`;
  }
  const [line = ""] = (error instanceof Error ? error.message : String(error)).split("\n");
  return line.startsWith("Command not found") ? "these words make no command" : line.replace(/\.$/, "");
}

/** What age takes as an identity, where a recipient or a file is named. */
function holdsSecretKey(word: string): boolean {
  return /AGE-(SECRET-KEY|PLUGIN-[A-Z0-9-]+)-1/i.test(word);
}

/** Before anything could write the word into a log, a lock or an error. */
function refuseSecretKey({ stderr }: Context): number {
  stderr.write("error: a secret key of age is given where a recipient or a file is meant: use what `age-keygen -y FILE` prints (age1…)\n");
  stderr.write("others may have seen the key on the command line: make a new one with age-keygen\n");
  return 2;
}

function refuse(reason: string, help: string, { stderr, tool }: Context): number {
  stderr.write(`error: ${printable(reason)}: ${tool.split("/")[0] ?? ""} ${help} shows what there is\n`);
  return 2;
}
