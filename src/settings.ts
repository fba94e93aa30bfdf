// The configuration file: named targets, each with what would otherwise stand on the command line. What it says becomes
// words of the command line again, so that every value is parsed and checked in one place. Flags win over the
// environment, the environment over the file.

import { existsSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import type * as Yaml from "yaml";
import { BackupError } from "./errors.ts";
import { nearest } from "./nearest.ts";

type Environment = Readonly<Record<string, string | undefined>>;

/** A key of a target and the flag that it stands for. */
interface Key {
  readonly flag: string;
  /** `list`: text or several; `switch`: true or false. */
  readonly takes: "text" | "list" | "switch";
  /** What else on the command line says the same thing, or its contrary. */
  readonly rivals?: readonly string[];
  /** Variables that win over the file. */
  readonly variables?: readonly string[];
  readonly secret?: boolean;
}

const logins = ["AWS_ACCESS_KEY_ID", "AWS_PROFILE", "OS_AUTH_URL", "OS_CLOUD", "OS_TOKEN", "ST_AUTH"];
const encryption = ["--age-recipient", "--age-recipients-file", "--no-encryption"];

const keys: Readonly<Record<string, Key>> = {
  container: { flag: "--container-name", takes: "text" },
  endpoint: { flag: "--endpoint", takes: "text", variables: ["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "OS_STORAGE_URL"] },
  region: { flag: "--region", takes: "text", variables: ["AWS_REGION", "AWS_DEFAULT_REGION"] },
  "env-file": { flag: "--env-file", takes: "text", rivals: ["--os-cloud"], variables: logins },
  "os-cloud": { flag: "--os-cloud", takes: "text", rivals: ["--env-file"], variables: logins },
  "create-credentials": { flag: "--create-credentials", takes: "switch" },
  recipients: { flag: "--age-recipient", takes: "list", rivals: encryption },
  "recipients-file": { flag: "--age-recipients-file", takes: "list", rivals: encryption },
  "require-encryption": { flag: "--require-encryption", takes: "switch" },
  identity: { flag: "--identity", takes: "list" },
  compress: { flag: "--compress", takes: "text" },
  "work-dir": { flag: "--work-dir", takes: "text" },
  "send-proto": { flag: "--send-proto", takes: "text" },
  "wait-lock": { flag: "--wait-lock", takes: "text" },
  "metrics-file": { flag: "--metrics-file", takes: "text" },
  "ping-url": { flag: "--ping-url", takes: "text", secret: true },
};

const limits: Readonly<Record<string, Key>> = {
  memory: { flag: "--memory", takes: "text" },
  concurrency: { flag: "--concurrency", takes: "text" },
  upload: { flag: "--limit-upload", takes: "text" },
  "volume-size": { flag: "--volume-size", takes: "text" },
  "retry-for": { flag: "--retry-for", takes: "text" },
};

/** One setting as it is in force, for people. */
export interface InForce {
  readonly key: string;
  readonly value: string;
  /** `flag`, a variable, or the file. */
  readonly from: string;
}

export interface Settings {
  /** To be put before what was typed. */
  readonly words: readonly string[];
  /** Subvolumes of the target. */
  readonly paths: readonly string[];
  readonly inForce: readonly InForce[];
}

/** A target as it stands in the file: values by their key, and the paths. */
export interface Target {
  readonly values: ReadonlyMap<string, readonly string[]>;
  readonly paths: readonly string[];
}

/**
 * What the configuration file adds to what was typed.
 * @param known - the flags of the command that was typed; what it does not have is left out
 * @throws CONFIG, USAGE
 */
export function readSettings(argv: readonly string[], known: readonly string[], env: Environment): Settings {
  const name = typed(argv, "--use").at(-1);
  const file = typed(argv, "--config").at(-1) ?? (name !== undefined || typed(argv, "--container-name").length === 0 ? defaultFile(env) : null);
  const target = file === null ? { values: new Map<string, readonly string[]>(), paths: [] } : chooseTarget(readTargets(file), name, file);
  if (file === null && name !== undefined) throw new BackupError("CONFIG", "there is no configuration file", { hint: "name one with --config FILE" });
  const words: string[] = [];
  const inForce: InForce[] = [];
  for (const [key, definition] of [...Object.entries(keys), ...Object.entries(limits).map(([key, each]) => [`limits.${key}`, each] as const)]) {
    const { flag, takes, secret = false } = definition;
    const found = find(definition, target.values.get(key) ?? [], { argv, env });
    if (found === null) continue;
    inForce.push({ key, value: secret ? "[redacted]" : withoutPassword(found.values.join(", ")), from: found.from ?? file ?? "" });
    if (found.from !== null || !known.includes(flag)) continue;
    if (takes === "switch") words.push(found.values[0] === "true" ? flag : flag.replace("--", "--no-"));
    else words.push(...found.values.map((value) => `${flag}=${value}`));
  }
  return { words, paths: target.paths, inForce: [...inForce, ...showLogin(env)] };
}

/** The variables by which somebody logs in, what is secret in them left out. */
function showLogin(env: Environment): InForce[] {
  const isShown = /^(AWS_(ACCESS_KEY_ID|PROFILE)|OS_(AUTH_URL|CLOUD|USERNAME|PROJECT_NAME)|ST_(AUTH|USER))$/;
  const said = Object.entries(env).filter(([name, value]) => /^(AWS|OS|ST)_/.test(name) && (value ?? "") !== "");
  return said.map(([name, value = ""]) => ({ key: name, value: isShown.test(name) ? withoutPassword(value) : "[redacted]", from: "environment" }));
}

function withoutPassword(value: string): string {
  return value.replace(/(\/\/)[^/@]*@/, "$1[redacted]@");
}

/** The value that wins, and where it is from; null = the file. */
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
  // A login is not a value of this setting, but takes its place.
  if (variable !== undefined) return variables === logins ? null : { values: [env[variable] ?? ""], from: variable };
  return ofFile.length === 0 ? null : { values: ofFile, from: null };
}

/** Every value that was typed for a flag. */
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
  return folders.map((folder) => join(folder, "btrfs-snapshots-to-swift/config.yaml")).find((file) => existsSync(file)) ?? null;
}

function readTargets(file: string): ReadonlyMap<string, Target> {
  let text: string;
  try {
    text = readFileSync(file, "utf8");
  } catch (cause) {
    const code = cause instanceof Error && "code" in cause ? String(cause.code) : String(cause);
    throw new BackupError("CONFIG", `the configuration file cannot be read: ${file} (${code})`, { cause });
  }
  return parseTargets(text, file);
}

/** @throws CONFIG, for unknown keys with the one that may have been meant */
export function parseTargets(text: string, file: string): ReadonlyMap<string, Target> {
  let document: unknown;
  // Loaded at the first use: most runs have no such file.
  const { parse } = createRequire(import.meta.url)("yaml") as typeof Yaml;
  try {
    document = parse(text);
  } catch (cause) {
    const [line = ""] = (cause instanceof Error ? cause.message : String(cause)).split("\n");
    throw new BackupError("CONFIG", `${file} is no YAML: ${line.replace(/:$/, "")}`, { cause });
  }
  const root = toMap(document, file);
  refuseUnknown(root, ["targets"], file);
  const targets = Object.entries(toMap(root["targets"], `targets of ${file}`));
  return new Map(targets.map(([name, value]) => [name, parseTarget(toMap(value, `target ${name} of ${file}`), `target ${name} of ${file}`)]));
}

function parseTarget(raw: Readonly<Record<string, unknown>>, where: string): Target {
  const { paths = [], limits: limited = {}, ...rest } = raw;
  refuseUnknown(rest, [...Object.keys(keys), "paths", "limits"], where);
  const ofLimits = toMap(limited, `limits of ${where}`);
  refuseUnknown(ofLimits, Object.keys(limits), `limits of ${where}`);
  const values = new Map<string, readonly string[]>();
  for (const [key, value] of Object.entries(rest)) values.set(key, toValues(value, keys[key]?.takes ?? "text", `${key} of ${where}`));
  for (const [key, value] of Object.entries(ofLimits)) values.set(`limits.${key}`, toValues(value, "text", `limits.${key} of ${where}`));
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
  if (typeof value === "object" && value !== null && !Array.isArray(value)) return value as Readonly<Record<string, unknown>>;
  throw new BackupError("CONFIG", `${where} must be keys with values`, { hint: "the README shows a configuration file" });
}

function refuseUnknown(map: Readonly<Record<string, unknown>>, known: readonly string[], where: string): void {
  const unknown = Object.keys(map).find((key) => !known.includes(key));
  if (unknown === undefined) return;
  const meant = nearest(unknown, known);
  const hint = meant === null ? `there are ${known.join(", ")}` : `did you mean ${meant}?`;
  throw new BackupError("CONFIG", `there is no key ${unknown} in ${where}`, { hint });
}

function chooseTarget(targets: ReadonlyMap<string, Target>, name: string | undefined, file: string): Target {
  const names = [...targets.keys()];
  const only = names.length === 1 ? names[0] : undefined;
  const target = targets.get(name ?? only ?? "");
  if (target !== undefined) return target;
  if (name === undefined) throw new BackupError("USAGE", `${file} has several targets`, { hint: `say --use ${names.join(" or --use ")}` });
  const meant = nearest(name, names);
  throw new BackupError("USAGE", `there is no target ${name} in ${file}`, {
    hint: meant === null ? `there are ${names.join(", ")}` : `did you mean ${meant}?`,
  });
}
