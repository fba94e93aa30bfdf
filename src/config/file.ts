// Reads the configuration file: named targets, each with options that would otherwise be on the command line.

import { existsSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { userInfo } from "node:os";
import { dirname, join, resolve } from "node:path";
import type * as Yaml from "yaml";
import { BackupError, describeReadError } from "../errors.ts";
import { isRecord } from "../json.ts";
import { nearest } from "./suggest.ts";
import { configKeys, takesPath } from "./options.ts";

type Environment = Readonly<Record<string, string | undefined>>;

/** Keys with keys of their own below them. */
const NESTED = ["limits", "keep"] as const;

/** A target as it stands in the file: values by their key, and the paths. */
export interface Target {
  readonly values: ReadonlyMap<string, readonly string[]>;
  readonly paths: readonly string[];
}

/** The configuration file that is used unless another one is named; null when there is none. */
export function defaultFile(env: Environment): string | null {
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

/** @throws CONFIG */
export function readTargets(file: string, env: Environment): ReadonlyMap<string, Target> {
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
    throw new BackupError("CONFIG", `${file} is not valid YAML: ${line.replace(/:$/, "")}`, { cause });
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
  const complete = [...values].map(([key, texts]) => [key, isPathKey(key) ? texts.map(toPath) : texts] as const);
  return { values: new Map(complete), paths: paths.map(toPath) };
}

function parseTarget(raw: Readonly<Record<string, unknown>>, where: string): Target {
  const { paths = [], ...rest } = raw;
  const names = [...configKeys.keys()];
  const values = new Map<string, readonly string[]>();
  const add = (key: string, value: unknown): void =>
    void values.set(key, toValues(value, kindOf(key), `${key} of ${where}`));
  for (const nested of NESTED) {
    const value = rest[nested];
    // Keep rules may also be one text.
    if (value === undefined || (names.includes(nested) && !isRecord(value))) continue;
    const inside = toMap(value, `${nested} of ${where}`);
    const known = names.flatMap((key) => (key.startsWith(`${nested}.`) ? key.slice(nested.length + 1) : []));
    assertKnown(inside, known, `${nested} of ${where}`);
    for (const [name, each] of Object.entries(inside)) add(`${nested}.${name}`, each);
  }
  const flat = Object.entries(rest).filter(([key]) => !NESTED.some((nested) => nested === key) || !isRecord(rest[key]));
  const known = [...names.filter((key) => !key.includes(".")), "paths", ...NESTED];
  assertKnown(rest, known, where);
  for (const [key, value] of flat) if (value !== undefined && names.includes(key)) add(key, value);
  return { values, paths: toValues(paths, "list", `paths of ${where}`) };
}

function kindOf(key: string): "text" | "list" | "switch" {
  const takes = configKeys.get(key)?.takes;
  return takes === "values" ? "list" : takes === "nothing" ? "switch" : "text";
}

function isPathKey(key: string): boolean {
  const option = configKeys.get(key);
  return option !== undefined && takesPath(option);
}

function toValues(value: unknown, takes: "text" | "list" | "switch", where: string): readonly string[] {
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
  throw new BackupError("CONFIG", `unknown key ${unknown} in ${where}`, { hint });
}
