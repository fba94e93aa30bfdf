// The settings in force. The values of the configuration file become words of the command line again, so that every
// value is parsed and checked in one place. Flags win over the environment, the environment over the file.

import { BackupError, toBackupError } from "../errors.ts";
import { defaultFile, readTargets, type Target } from "./file.ts";
import type { Environment } from "./openstack.ts";
import { configKeys, CONTAINER, loginVariables, type OptionDefinition } from "./options.ts";
import { nearest } from "./suggest.ts";

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

/**
 * Reads the words that the configuration file adds to the command line.
 * @param known - the flags of the command; others are left out
 * @throws CONFIG, USAGE
 */
export function readSettings(argv: readonly string[], known: readonly string[], env: Environment): Settings {
  const { file, name, target, skipped } = findTarget(argv, known, env);
  const words: string[] = [];
  const inForce: InForce[] = name === null ? [] : [{ key: "target", value: name, from: file ?? "" }];
  for (const [key, option] of configKeys) {
    const { flag, takes, secret = false } = option;
    const found = find(option, target.values.get(key) ?? [], { argv, env });
    if (found === null) continue;
    inForce.push({
      key,
      value: secret ? "[redacted]" : withoutPassword(found.values.join(", ")),
      from: found.from ?? file ?? "",
    });
    if (found.from !== null || !known.includes(flag)) continue;
    if (takes === "nothing") words.push(found.values[0] === "true" ? flag : flag.replace("--", "--no-"));
    else words.push(...found.values.map((value) => `${flag}=${value}`));
  }
  return { words, paths: target.paths, inForce: [...inForce, ...loginInForce(env)], target: name, skipped };
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
const loginKeys = [...configKeys].flatMap(([key, { group, flag }]) =>
  group === CONTAINER && flag !== "--container-name" ? key : [],
);

function findTarget(argv: readonly string[], known: readonly string[], env: Environment): FoundTarget {
  const name = typed(argv, "--use").at(-1);
  const named = typed(argv, "--config").at(-1);
  const file = named ?? defaultFile(env);
  if (file === null && name !== undefined) {
    throw new BackupError("CONFIG", "there is no configuration file", { hint: "name one with --config FILE" });
  }
  if (file === null) return NO_TARGET;
  const isAsked = named !== undefined || name !== undefined || typed(argv, "--container-name").length === 0;
  if (isAsked) {
    const targets = readTargets(file, env);
    // A command that needs no container needs no target either.
    if (named === undefined && name === undefined && targets.size > 1 && !known.includes("--container-name"))
      return { ...NO_TARGET, skipped: `${file} has several targets, and none is used: choose one with --use NAME` };
    return { file, ...chooseTarget(targets, name, file), skipped: null };
  }
  return namesLogin(argv, env) ? NO_TARGET : findLogin(file, env);
}

function namesLogin(argv: readonly string[], env: Environment): boolean {
  return (
    ["--endpoint", "--env-file", "--os-cloud"].some((flag) => typed(argv, flag).length > 0) ||
    loginVariables.some((name) => (env[name] ?? "") !== "")
  );
}

/** Finds the file's login for a typed container. An error in a file that nobody named stops nothing. */
function findLogin(file: string, env: Environment): FoundTarget {
  const skip = (reason: string): FoundTarget => ({
    ...NO_TARGET,
    skipped: `${file} is ignored because --container-name is given: ${reason}`,
  });
  try {
    const all = [...readTargets(file, env).values()].map(({ values }) =>
      [...values].filter(([key]) => loginKeys.includes(key)),
    );
    const [login = []] = all;
    if (new Set(all.map((each) => JSON.stringify(each.toSorted()))).size > 1) {
      return skip("its targets log in differently; choose one with --use NAME");
    }
    return { file, name: null, target: { values: new Map(login), paths: [] }, skipped: null };
  } catch (error) {
    return skip(toBackupError(error).message);
  }
}

/** The login variables that are set, without the secret ones. */
function loginInForce(env: Environment): InForce[] {
  const isShown =
    /^(AWS_(ACCESS_KEY_ID|PROFILE|(DEFAULT_)?REGION|ENDPOINT_URL(_S3)?|CA_BUNDLE|CONFIG_FILE|SHARED_CREDENTIALS_FILE)|OS_(AUTH_URL|CLOUD|USERNAME|PROJECT_(NAME|ID)|REGION_NAME|INTERFACE|CACERT|STORAGE_URL|\w+_DOMAIN_(NAME|ID))|ST_(AUTH|USER)|\w+_FILE)$/;
  const logins = Object.entries(env).filter(([name, value]) => /^(AWS|OS|ST)_/.test(name) && (value ?? "") !== "");
  return logins.map(([name, value = ""]) => ({
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
  { flag, takes, rivals = [], variables = [], isLogin = false }: OptionDefinition,
  ofFile: readonly string[],
  { argv, env }: { readonly argv: readonly string[]; readonly env: Environment },
): { readonly values: readonly string[]; readonly from: string | null } | null {
  const switched = takes === "nothing" ? [flag, flag.replace("--", "--no-")].filter((each) => argv.includes(each)) : [];
  const typedValues = takes === "nothing" ? switched.map((each) => String(each === flag)) : typed(argv, flag);
  if (typedValues.length > 0) return { values: typedValues, from: "flag" };
  if (rivals.some((rival) => argv.some((word) => word === rival || word.startsWith(`${rival}=`)))) return null;
  const variable = variables.find((each) => (env[each] ?? "") !== "");
  // A login is not a value of this setting, but replaces it.
  if (variable !== undefined) return isLogin ? null : { values: [env[variable] ?? ""], from: variable };
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
