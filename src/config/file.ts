// The configuration file: named targets, each with the options that would otherwise be on the command line. Its values
// become words of the command line again, so that every value is parsed and checked in one place. Flags win over the
// environment, the environment over the file.

import { existsSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { userInfo } from "node:os";
import { dirname, join, resolve } from "node:path";
import { isDeepStrictEqual } from "node:util";
import type * as Yaml from "yaml";
import { BackupError, describeReadError, toBackupError } from "../errors.ts";
import { isRecord } from "../json.ts";
import { nearest } from "./suggest.ts";

type Environment = Readonly<Record<string, string | undefined>>;

/** A key of a target and the flag that it stands for. */
interface Key {
  readonly flag: string;
  /** `list`: text or several; `switch`: true or false. */
  readonly takes: "text" | "list" | "switch";
  /** Other flags with the same or the contrary meaning. */
  readonly rivals?: readonly string[];
  /** Variables that win over the file. */
  readonly variables?: readonly string[];
  readonly secret?: boolean;
  /** True for the path of a file or directory. */
  readonly isPath?: boolean;
}

const logins = ["AWS_ACCESS_KEY_ID", "AWS_PROFILE", "OS_AUTH_URL", "OS_CLOUD", "OS_TOKEN", "ST_AUTH"];
const encryption = ["--age-recipient", "--age-recipients-file", "--no-encryption"];

const keys: Readonly<Record<string, Key>> = {
  container: { flag: "--container-name", takes: "text" },
  endpoint: {
    flag: "--endpoint",
    takes: "text",
    variables: ["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "OS_STORAGE_URL"],
  },
  region: { flag: "--region", takes: "text", variables: ["AWS_REGION", "AWS_DEFAULT_REGION"] },
  "env-file": { flag: "--env-file", takes: "text", isPath: true, rivals: ["--os-cloud"], variables: logins },
  "os-cloud": { flag: "--os-cloud", takes: "text", rivals: ["--env-file"], variables: logins },
  "create-credentials": { flag: "--create-credentials", takes: "switch" },
  recipients: { flag: "--age-recipient", takes: "list", rivals: encryption },
  "recipients-file": { flag: "--age-recipients-file", takes: "list", isPath: true, rivals: encryption },
  "require-encryption": { flag: "--require-encryption", takes: "switch" },
  identity: { flag: "--identity", takes: "list", isPath: true },
  compress: { flag: "--compress", takes: "text" },
  "work-dir": { flag: "--work-dir", takes: "text", isPath: true },
  received: { flag: "--received", takes: "switch" },
  "send-proto": { flag: "--send-proto", takes: "text" },
  "wait-lock": { flag: "--wait-lock", takes: "text" },
  "metrics-file": { flag: "--metrics-file", takes: "text", isPath: true },
  "ping-url": { flag: "--ping-url", takes: "text", secret: true },
};

const limits: Readonly<Record<string, Key>> = {
  memory: { flag: "--memory", takes: "text" },
  concurrency: { flag: "--concurrency", takes: "text" },
  upload: { flag: "--limit-upload", takes: "text" },
  "volume-size": { flag: "--volume-size", takes: "text" },
  "retry-for": { flag: "--retry-for", takes: "text" },
  "leftover-age": { flag: "--leftover-age", takes: "text" },
};

/** One setting that is in force, for people. */
export interface InForce {
  readonly key: string;
  readonly value: string;
  /** `flag`, a variable, or the file. */
  readonly from: string;
}

export interface Settings {
  /** Words to put before the typed ones. */
  readonly words: readonly string[];
  /** Subvolumes of the target. */
  readonly paths: readonly string[];
  readonly inForce: readonly InForce[];
  /** The name of the target in the configuration file; null without one. */
  readonly target: string | null;
  /** Why the configuration file was not read, in one sentence; null when it was, or there is none. */
  readonly skipped: string | null;
}

/** A target as it stands in the file: values by their key, and the paths. */
export interface Target {
  readonly values: ReadonlyMap<string, readonly string[]>;
  readonly paths: readonly string[];
}

/**
 * Reads the words that the configuration file adds to the command line.
 * @param known - the flags of the command; others are left out
 * @throws CONFIG, USAGE
 */
export function readSettings(argv: readonly string[], known: readonly string[], env: Environment): Settings {
  const { file, name, target, skipped } = findTarget(argv, env);
  const words: string[] = [];
  const inForce: InForce[] = name === null ? [] : [{ key: "target", value: name, from: file ?? "" }];
  for (const [key, definition] of [
    ...Object.entries(keys),
    ...Object.entries(limits).map(([key, each]) => [`limits.${key}`, each] as const),
  ]) {
    const { flag, takes, secret = false } = definition;
    const found = find(definition, target.values.get(key) ?? [], { argv, env });
    if (found === null) continue;
    inForce.push({
      key,
      value: secret ? "[redacted]" : withoutPassword(found.values.join(", ")),
      from: found.from ?? file ?? "",
    });
    if (found.from !== null || !known.includes(flag)) continue;
    if (takes === "switch") words.push(found.values[0] === "true" ? flag : flag.replace("--", "--no-"));
    else words.push(...found.values.map((value) => `${flag}=${value}`));
  }
  return { words, paths: target.paths, inForce: [...inForce, ...showLogin(env)], target: name, skipped };
}

interface FoundTarget {
  readonly file: string | null;
  /** Null where no target was chosen. */
  readonly name: string | null;
  readonly target: Target;
  readonly skipped: string | null;
}

const NO_TARGET: FoundTarget = { file: null, name: null, target: { values: new Map(), paths: [] }, skipped: null };

/** The keys that a typed container takes from the file: the address of the store and the login, nothing else. */
const loginKeys = ["endpoint", "region", "env-file", "os-cloud", "create-credentials"];

function findTarget(argv: readonly string[], env: Environment): FoundTarget {
  const name = typed(argv, "--use").at(-1);
  const named = typed(argv, "--config").at(-1);
  const file = named ?? defaultFile(env);
  if (file === null && name !== undefined) {
    throw new BackupError("CONFIG", "there is no configuration file", { hint: "name one with --config FILE" });
  }
  if (file === null) return NO_TARGET;
  const isAsked = named !== undefined || name !== undefined || typed(argv, "--container-name").length === 0;
  if (isAsked) return { file, ...chooseTarget(readTargets(file, env), name, file), skipped: null };
  return namesLogin(argv, env) ? NO_TARGET : findLogin(file, env);
}

function namesLogin(argv: readonly string[], env: Environment): boolean {
  return (
    ["--endpoint", "--env-file", "--os-cloud"].some((flag) => typed(argv, flag).length > 0) ||
    logins.some((name) => (env[name] ?? "") !== "")
  );
}

/** Finds the file's login for a typed container. An error in a file that nobody named stops nothing. */
function findLogin(file: string, env: Environment): FoundTarget {
  const skip = (reason: string): FoundTarget => ({
    ...NO_TARGET,
    skipped: `${file} is not read beside --container-name: ${reason}`,
  });
  try {
    const all = [...readTargets(file, env).values()].map(({ values }) =>
      [...values].filter(([key]) => loginKeys.includes(key)),
    );
    const [login = []] = all;
    if (all.some((other) => !isDeepStrictEqual(other.toSorted(), login.toSorted()))) {
      return skip("its targets log in differently; choose one with --use NAME");
    }
    return { file, name: null, target: { values: new Map(login), paths: [] }, skipped: null };
  } catch (error) {
    return skip(toBackupError(error).message);
  }
}

/** The login variables that are set, without the secret ones. */
function showLogin(env: Environment): InForce[] {
  const isShown =
    /^(AWS_(ACCESS_KEY_ID|PROFILE|(DEFAULT_)?REGION|ENDPOINT_URL(_S3)?|CA_BUNDLE|CONFIG_FILE|SHARED_CREDENTIALS_FILE)|OS_(AUTH_URL|CLOUD|USERNAME|PROJECT_(NAME|ID)|REGION_NAME|INTERFACE|CACERT|STORAGE_URL|\w+_DOMAIN_(NAME|ID))|ST_(AUTH|USER)|\w+_FILE)$/;
  const said = Object.entries(env).filter(([name, value]) => /^(AWS|OS|ST)_/.test(name) && (value ?? "") !== "");
  return said.map(([name, value = ""]) => ({
    key: name,
    value: isShown.test(name) ? withoutPassword(value) : "[redacted]",
    from: "environment",
  }));
}

function withoutPassword(value: string): string {
  return value.replace(/(\/\/)[^/@]*@/, "$1[redacted]@");
}

/** Finds the value that wins, and its origin; null = the file. */
function find(
  { flag, takes, rivals = [], variables = [] }: Key,
  ofFile: readonly string[],
  { argv, env }: { readonly argv: readonly string[]; readonly env: Environment },
): { readonly values: readonly string[]; readonly from: string | null } | null {
  const switched = takes === "switch" ? [flag, flag.replace("--", "--no-")].filter((each) => argv.includes(each)) : [];
  const said = takes === "switch" ? switched.map((each) => String(each === flag)) : typed(argv, flag);
  if (said.length > 0) return { values: said, from: "flag" };
  if (rivals.some((rival) => argv.some((word) => word === rival || word.startsWith(`${rival}=`)))) return null;
  const variable = variables.find((each) => (env[each] ?? "") !== "");
  // A login is not a value of this setting, but replaces it.
  if (variable !== undefined) return variables === logins ? null : { values: [env[variable] ?? ""], from: variable };
  return ofFile.length === 0 ? null : { values: ofFile, from: null };
}

/** Returns every value that was typed for a flag. */
function typed(argv: readonly string[], flag: string): string[] {
  const end = argv.indexOf("--");
  const words = end === -1 ? argv : argv.slice(0, end);
  return words.flatMap((word, index) => {
    if (word.startsWith(`${flag}=`)) return word.slice(flag.length + 1);
    return word === flag ? (words[index + 1] ?? []) : [];
  });
}

function defaultFile(env: Environment): string | null {
  const home = env["XDG_CONFIG_HOME"] ?? (env["HOME"] === undefined ? null : join(env["HOME"], ".config"));
  const folders = [...(home === null || home === "" ? [] : [home]), "/etc"];
  return (
    folders.map((folder) => join(folder, "btrfs-snapshots-to-swift/config.yaml")).find((file) => existsSync(file)) ??
    null
  );
}

/** Reads the targets of the named file, else of the one that is found; null when there is none. @throws CONFIG */
export function readAllTargets(named: string | undefined, env: Environment): ReadonlyMap<string, Target> | null {
  const file = named ?? defaultFile(env);
  return file === null ? null : readTargets(file, env);
}

function readTargets(file: string, env: Environment): ReadonlyMap<string, Target> {
  let text: string;
  try {
    text = readFileSync(file, "utf8");
  } catch (cause) {
    const message = `cannot read the configuration file ${file}: ${describeReadError(cause)}`;
    throw new BackupError("CONFIG", message, { cause });
  }
  return parseTargets(text, file, env["HOME"] ?? userInfo().homedir);
}

/**
 * Parses the targets. Paths in the file are relative to its directory, and `~` is the home directory.
 * @throws CONFIG; for an unknown key it names the most similar known one
 */
export function parseTargets(text: string, file: string, home: string): ReadonlyMap<string, Target> {
  let document: unknown;
  // Loaded on first use: most runs have no such file.
  const { parse } = createRequire(import.meta.url)("yaml") as typeof Yaml;
  try {
    document = parse(text);
  } catch (cause) {
    const [line = ""] = (cause instanceof Error ? cause.message : String(cause)).split("\n");
    throw new BackupError("CONFIG", `${file} is no YAML: ${line.replace(/:$/, "")}`, { cause });
  }
  const root = toMap(document, file);
  assertKnown(root, ["targets"], file);
  const targets = Object.entries(toMap(root["targets"], `targets of ${file}`));
  const toPath = (path: string): string =>
    resolve(
      dirname(file),
      path.replace(/^~(?=\/|$)/, () => home),
    );
  return new Map(
    targets.map(([name, value]) => {
      const where = `target ${name} of ${file}`;
      return [name, withPaths(parseTarget(toMap(value, where), where), toPath)];
    }),
  );
}

function withPaths({ values, paths }: Target, toPath: (path: string) => string): Target {
  const complete = [...values].map(
    ([key, texts]) => [key, keys[key]?.isPath === true ? texts.map(toPath) : texts] as const,
  );
  return { values: new Map(complete), paths: paths.map(toPath) };
}

function parseTarget(raw: Readonly<Record<string, unknown>>, where: string): Target {
  const { paths = [], limits: limited = {}, ...rest } = raw;
  assertKnown(rest, [...Object.keys(keys), "paths", "limits"], where);
  const ofLimits = toMap(limited, `limits of ${where}`);
  assertKnown(ofLimits, Object.keys(limits), `limits of ${where}`);
  const values = new Map<string, readonly string[]>();
  for (const [key, value] of Object.entries(rest))
    values.set(key, toValues(value, keys[key]?.takes ?? "text", `${key} of ${where}`));
  for (const [key, value] of Object.entries(ofLimits))
    values.set(`limits.${key}`, toValues(value, "text", `limits.${key} of ${where}`));
  return { values, paths: toValues(paths, "list", `paths of ${where}`) };
}

function toValues(value: unknown, takes: Key["takes"], where: string): readonly string[] {
  const isText = (each: unknown): each is string | number => typeof each === "string" || typeof each === "number";
  if (takes === "switch" && typeof value === "boolean") return [String(value)];
  if (takes !== "switch" && isText(value)) return [String(value)];
  if (takes === "list" && Array.isArray(value) && value.every(isText)) return value.map(String);
  const expected = { switch: "true or false", list: "a text or a list of them", text: "a text" }[takes];
  throw new BackupError("CONFIG", `${where} must be ${expected}`);
}

function toMap(value: unknown, where: string): Readonly<Record<string, unknown>> {
  if (isRecord(value)) return value;
  throw new BackupError("CONFIG", `${where} must be keys with values`, {
    hint: "src/config/README.md and the manual page show a configuration file",
  });
}

function assertKnown(map: Readonly<Record<string, unknown>>, known: readonly string[], where: string): void {
  const unknown = Object.keys(map).find((key) => !known.includes(key));
  if (unknown === undefined) return;
  const meant = nearest(unknown, known);
  const hint = meant === null ? `there are ${known.join(", ")}` : `did you mean ${meant}?`;
  throw new BackupError("CONFIG", `there is no key ${unknown} in ${where}`, { hint });
}

function chooseTarget(
  targets: ReadonlyMap<string, Target>,
  name: string | undefined,
  file: string,
): { readonly name: string; readonly target: Target } {
  const names = [...targets.keys()];
  const only = names.length === 1 ? names[0] : undefined;
  const chosen = name ?? only ?? "";
  const target = targets.get(chosen);
  if (target !== undefined) return { name: chosen, target };
  if (name === undefined)
    throw new BackupError("USAGE", `${file} has several targets`, { hint: `use --use ${names.join(" or --use ")}` });
  const meant = nearest(name, names);
  throw new BackupError("USAGE", `there is no target ${name} in ${file}`, {
    hint: meant === null ? `there are ${names.join(", ")}` : `did you mean ${meant}?`,
  });
}
