// Reads clouds.yaml and secure.yaml, at the places and with the precedence of the OpenStack clients. Returns one cloud
// of them as the equivalent OS_* variables.

import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { BackupError, describeReadError, errnoOf } from "../errors.ts";
import { isRecord } from "../json.ts";
import { readVariable, type Environment } from "./openstack.ts";

type Mapping = Readonly<Record<string, unknown>>;

/** @throws CONFIG when there is no such cloud, or a file is not YAML */
export async function readCloud(name: string, env: Environment): Promise<Environment> {
  const clouds = await readFirst("clouds", readVariable(env, "OS_CLIENT_CONFIG_FILE"), env);
  const open = child(clouds?.content, "clouds");
  const cloud = child(open, name);
  if (clouds === null || cloud === null) {
    const known = Object.keys(open ?? {}).join(", ");
    throw new BackupError("CONFIG", `there is no cloud '${name}' in ${clouds?.file ?? "any clouds.yaml"}`, {
      hint: clouds === null ? `it may be in ${searchDirectories(env).join(", ")}` : `there is ${known || "none"}`,
    });
  }
  const secure = await readFirst("secure", readVariable(env, "OS_CLIENT_SECURE_FILE"), env);
  const secret = child(child(secure?.content, "clouds"), name);
  const profile = await readProfile(merge(cloud, secret), env);
  return toVariables(inRegion(merge(merge(profile, cloud), secret), readVariable(env, "OS_REGION_NAME") ?? null));
}

/** Reads the provider's profile of the cloud, from a file beside clouds.yaml. */
async function readProfile(cloud: Mapping, env: Environment): Promise<Mapping> {
  const name = text(cloud["profile"]) ?? text(cloud["cloud"]);
  if (name === null) return {};
  const vendors = await readFirst("clouds-public", readVariable(env, "OS_CLIENT_VENDOR_FILE"), env);
  const profile = child(child(vendors?.content, "public-clouds"), name);
  if (profile === null && child(cloud, "auth")?.["auth_url"] === undefined) {
    throw new BackupError("CONFIG", `the profile '${name}' is in no clouds-public.yaml`, {
      hint: "write its auth_url into clouds.yaml",
    });
  }
  return profile ?? {};
}

/** Settings under `auth` and beside it, each with the rest of the `OS_` variable that means the same. */
const names: Readonly<Record<string, string>> = {
  auth_token: "TOKEN",
  tenant_id: "PROJECT_ID",
  tenant_name: "PROJECT_NAME",
  auth_plugin: "AUTH_TYPE",
  endpoint_type: "INTERFACE",
};

/** Merges the settings of the wanted region, or of the first in the list, into the cloud. */
function inRegion(cloud: Mapping, wanted: string | null): Mapping {
  const { regions } = cloud;
  const known: readonly unknown[] = Array.isArray(regions) ? regions : [];
  const nameOf = (region: unknown): string | null => text(region) ?? text(mapping(region)?.["name"]);
  const name = wanted ?? text(cloud["region_name"]) ?? nameOf(known[0]);
  if (name === null) return cloud;
  const values = child(
    known.find((region) => nameOf(region) === name),
    "values",
  );
  return { ...merge(cloud, values), region_name: name };
}

function toVariables(cloud: Mapping): Environment {
  const variables: Record<string, string> = {};
  for (const [key, value] of Object.entries({ ...cloud, ...child(cloud, "auth") })) {
    const word = text(value);
    const name = key.replaceAll("-", "_").toLowerCase();
    if (word !== null) variables[`OS_${names[name] ?? name.toUpperCase()}`] = word;
  }
  return variables;
}

function searchDirectories(env: Environment): string[] {
  const home = readVariable(env, "HOME") ?? "/root";
  return [".", join(readVariable(env, "XDG_CONFIG_HOME") ?? join(home, ".config"), "openstack"), "/etc/openstack"];
}

function searchPath(base: string, env: Environment): string[] {
  return searchDirectories(env).flatMap((directory) =>
    ["yaml", "yml", "json"].map((ending) => join(directory, `${base}.${ending}`)),
  );
}

/** Reads the first file that exists; JSON is YAML too. Null when there is none. @throws CONFIG */
async function readFirst(
  base: string,
  named: string | undefined,
  env: Environment,
): Promise<{ readonly file: string; readonly content: Mapping } | null> {
  for (const file of [...(named === undefined ? [] : [named]), ...searchPath(base, env)]) {
    const source = await readFile(file, "utf8").catch((error: unknown) => absent(file, error));
    if (source !== null) return { file, content: await parseYaml(source, file) };
  }
  return null;
}

function absent(file: string, cause: unknown): null {
  const code = errnoOf(cause);
  if (code === "ENOENT" || code === "ENOTDIR") return null;
  throw new BackupError("CONFIG", `cannot read ${file}: ${describeReadError(cause)}`, { cause });
}

/**
 * Parses every value as text: a password of digits is not a number. The parser's own error quotes the line, which may
 * contain a password, so only the kind of error and its position are reported.
 */
async function parseYaml(source: string, file: string): Promise<Mapping> {
  const { parseDocument } = await import("yaml");
  const document = parseDocument(source, { schema: "failsafe", merge: true, logLevel: "silent" });
  const [error] = document.errors;
  if (error !== undefined) {
    throw new BackupError("CONFIG", `${file} is not valid YAML: ${error.code} in line ${error.linePos?.[0].line ?? 1}`);
  }
  return mapping(document.toJS()) ?? {};
}

/** Merges two mappings: `over` wins where it has a value, and `auth` is merged entry by entry. */
function merge(under: Mapping, over: Mapping | null): Mapping {
  if (over === null) return under;
  return { ...under, ...over, auth: { ...child(under, "auth"), ...child(over, "auth") } };
}

function child(value: unknown, key: string): Mapping | null {
  return mapping(mapping(value)?.[key]);
}

function mapping(value: unknown): Mapping | null {
  return isRecord(value) ? value : null;
}

function text(value: unknown): string | null {
  return typeof value === "string" ? value : null;
}
