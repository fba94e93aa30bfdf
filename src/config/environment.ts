// Reads everything that the environment refers to: an env file, secrets kept in files, a cloud of clouds.yaml. The
// result is again a plain environment, which store.ts can read without touching the world.

import { readdir, readFile, stat } from "node:fs/promises";
import { join } from "node:path";
import { readCloud } from "./clouds-yaml.ts";
import { namesAws } from "./store.ts";
import { BackupError, describeReadError } from "../errors.ts";
import { readVariable, type Environment } from "./openstack.ts";

export interface EnvironmentFlags {
  readonly envFile: string | undefined;
  readonly osCloud: string | undefined;
  /** True when Node, treating the option as its own, read the env file before this program. */
  readonly readByNode?: boolean;
}

/**
 * Variables that can be kept in a file: named by the variable with `_FILE`, or by its own name in
 * $CREDENTIALS_DIRECTORY.
 */
export const secretVariables = [
  "AWS_ACCESS_KEY_ID",
  "AWS_SECRET_ACCESS_KEY",
  "AWS_SESSION_TOKEN",
  "OS_PASSWORD",
  "OS_TOKEN",
  "OS_APPLICATION_CREDENTIAL_ID",
  "OS_APPLICATION_CREDENTIAL_SECRET",
  "ST_KEY",
];

/** Variables that combine with any cloud: choices and secrets, but nothing that identifies a user or project. */
const besideCloud = [
  "OS_REGION_NAME",
  "OS_INTERFACE",
  "OS_CACERT",
  "OS_PASSWORD",
  "OS_TOKEN",
  "OS_APPLICATION_CREDENTIAL_SECRET",
];

/** Variables that may be set for one run, and win over the cloud's own values. */
const overCloud = ["OS_REGION_NAME", "OS_INTERFACE", "OS_CACERT"];

/**
 * Reads the environment. A flag stands alone: beside an env file or a cloud named by a flag, the credentials that
 * happen to be in the environment are ignored.
 * @throws CONFIG for what cannot be read
 */
export async function readEnvironment(env: Environment, flags: EnvironmentFlags): Promise<Environment> {
  const { envFile, osCloud, readByNode = false } = flags;
  const chosen =
    envFile === undefined ? env : { ...without(env, /^(AWS|OS|ST)_/), ...(await readEnvFile(envFile, readByNode)) };
  const complete = { ...chosen, ...(await readSecrets(chosen)) };
  if (osCloud !== undefined) return withCloud(without(complete, /^(AWS|ST)_/), osCloud);
  const cloud = readVariable(complete, "OS_CLOUD");
  return cloud === undefined || namesAws(complete) ? complete : withCloud(complete, cloud);
}

/** @throws CONFIG where Node has emptied a pipe, or has taken options from the file */
async function readEnvFile(file: string, readByNode: boolean): Promise<Environment> {
  const isPipe =
    readByNode &&
    (await stat(file).then(
      (found) => !found.isFile(),
      () => false,
    ));
  const variables = isPipe ? {} : parseEnvFile(await readText(file, "the env file"), file);
  if (!readByNode || (!isPipe && variables["NODE_OPTIONS"] === undefined)) return variables;
  const what = isPipe
    ? `Node has read ${file} before this program, and a pipe can be read only once`
    : `Node has taken NODE_OPTIONS from ${file}`;
  throw new BackupError("CONFIG", what, { hint: "start the program by its name, or as `node -- main.js`" });
}

/** Warns of a file with secrets that others than its owner can read. */
export async function warnOfReaders(file: string, warn: (sentence: string) => void): Promise<void> {
  const found = await stat(file).catch(() => null);
  if (found === null || !found.isFile() || (found.mode & 0o044) === 0) return;
  warn(`${file} holds credentials and can be read by others besides its owner: chmod 600 ${file}`);
}

function without(env: Environment, names: RegExp): Environment {
  return Object.fromEntries(Object.entries(env).filter(([name]) => !names.test(name)));
}

async function readSecrets(env: Environment): Promise<Environment> {
  const read: Record<string, string> = {};
  const directory = readVariable(env, "CREDENTIALS_DIRECTORY") ?? "";
  const files = directory === "" ? [] : await readdir(directory).catch(() => []);
  for (const name of secretVariables) {
    const file = readVariable(env, `${name}_FILE`);
    if (readVariable(env, name) !== undefined) continue;
    if (file !== undefined) read[name] = (await readText(file, `the file of ${name}_FILE,`)).trimEnd();
    else if (files.includes(name))
      read[name] = (await readText(join(directory, name), `the credential ${name},`)).trimEnd();
  }
  return read;
}

async function withCloud(env: Environment, name: string): Promise<Environment> {
  const cloud = await readCloud(name, env);
  const pick = (names: readonly string[]): Environment =>
    Object.fromEntries(
      names.flatMap((variable) => (readVariable(env, variable) === undefined ? [] : [[variable, env[variable]]])),
    );
  return { ...without(env, /^(OS|ST)_/), ...pick(besideCloud), ...cloud, ...pick(overCloud) };
}

/** @throws CONFIG */
export async function readText(file: string, what: string): Promise<string> {
  try {
    return await readFile(file, "utf8");
  } catch (cause) {
    throw new BackupError("CONFIG", `cannot read ${what} ${file}: ${describeReadError(cause)}`, { cause });
  }
}

/** Its value may stand in quotes; without quotes, text after ` #` is a comment. */
const VALUE = /'(?<single>[^']*)'|"(?<double>(?:[^"\\]|\\.)*)"|(?<bare>[^'"\s]\S*(?:\s+[^#\s]\S*)*)/;
const ASSIGNMENT = new RegExp(`^\\s*(?:export\\s+)?(?<name>[A-Za-z_]\\w*)\\s*=\\s*(?:${VALUE.source})?\\s*(?:#.*)?$`);

/**
 * Parses the variables of an env file: `NAME=VALUE` lines, as in shells, systemd and Docker, without anything that only
 * a shell can do. @throws CONFIG with the number of the line, never with its text
 */
export function parseEnvFile(text: string, file: string): Environment {
  const env: Record<string, string> = {};
  for (const [index, line] of text.split(/\r?\n/).entries()) {
    if (/^\s*(#|$)/.test(line)) continue;
    const { name, single, double, bare } = ASSIGNMENT.exec(line)?.groups ?? {};
    if (name === undefined) {
      throw new BackupError("CONFIG", `line ${index + 1} of ${file} is not of the form NAME=VALUE`, {
        hint: "shell scripts are not understood: source the file instead",
      });
    }
    env[name] = single ?? double?.replace(/\\(.)/g, "$1") ?? bare ?? "";
  }
  return env;
}
