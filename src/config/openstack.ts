// What OS_* and ST_* variables mean, as the OpenStack clients read them. Pure: words in, a login out.

import { BackupError } from "../errors.ts";

export type Environment = Readonly<Record<string, string | undefined>>;

/** A domain, user or project, by the one thing that tells which. */
export type Named = { readonly id: string } | { readonly name: string };

/** A user or project; by its name it is known only within its domain. */
export type InDomain = { readonly id: string } | { readonly name: string; readonly domain: Named };

/** By what Keystone is to know us. */
export type Identity =
  /** `passedOver`: variables of another login that are set too. */
  | { readonly kind: "password"; readonly user: InDomain; readonly password: string; readonly passedOver?: string }
  | { readonly kind: "token"; readonly token: string }
  | { readonly kind: "application credential"; readonly credential: ApplicationCredential; readonly secret: string };

/** By its name it is known only among its user's. */
export type ApplicationCredential = { readonly id: string } | { readonly name: string; readonly user: InDomain };

/** All that a login at Keystone takes, and what is wanted of its catalog. */
export interface KeystoneLogin {
  /** Of version 3, without a slash at its end. */
  readonly authUrl: string;
  readonly identity: Identity;
  /** Null: that of the application credential or token, or the one that Keystone keeps as the user's own. */
  readonly project: InDomain | null;
  /** Null: the only one there is. */
  readonly region: string | null;
  readonly interface: string;
}

/** An empty variable says nothing. */
export function said(env: Environment, name: string): string | undefined {
  const value = env[name];
  return value === "" ? undefined : value;
}

const telling = [
  "OS_AUTH_URL",
  "OS_USERNAME",
  "OS_USER_ID",
  "OS_PASSWORD",
  "OS_TOKEN",
  "OS_AUTH_TOKEN",
  "OS_APPLICATION_CREDENTIAL_ID",
  "OS_APPLICATION_CREDENTIAL_NAME",
  "ST_AUTH_VERSION",
];

/** True when a variable is set that only a login at Keystone can be meant by. */
export function namesKeystone(env: Environment): boolean {
  if (speaksVersion1(env)) return false;
  return telling.some((name) => said(env, name) !== undefined);
}

/** True when version 1 of Swift's own authentication is asked for in so many words. */
function speaksVersion1(env: Environment): boolean {
  return /^1(\.0)?$/.test(said(env, "ST_AUTH_VERSION") ?? "");
}

/** @throws CONFIG for what is missing or cannot be meant */
export function readKeystoneLogin(env: Environment): KeystoneLogin {
  const identity = readIdentity(env);
  return {
    authUrl: readAuthUrl(env),
    identity,
    // An application credential is bound to its project: Keystone refuses to be told one.
    project: identity.kind === "application credential" ? null : readProject(env),
    region: said(env, "OS_REGION_NAME") ?? null,
    interface: (said(env, "OS_INTERFACE") ?? said(env, "OS_ENDPOINT_TYPE") ?? "public").replace(/URL$/, ""),
  };
}

/**
 * Version 3, whichever the URL names: the versions before it are gone from Keystone, but not from configurations.
 */
function readAuthUrl(env: Environment): string {
  const text = said(env, "OS_AUTH_URL") ?? said(env, "ST_AUTH");
  if (text === undefined) throw missing("Keystone's URL", "OS_AUTH_URL");
  const url = URL.canParse(text) ? new URL(text) : null;
  if (url === null || !/^https?:$/.test(url.protocol) || url.username !== "") {
    throw new BackupError("CONFIG", "OS_AUTH_URL is not a URL of the form https://host[:port]/v3");
  }
  const path = url.pathname
    .replace(/\/auth\/tokens\/?$/, "")
    .replace(/\/+$/, "")
    .replace(/\/v\d+(\.\d+)?$/, "");
  return `${url.origin}${path}/v3`;
}

function readIdentity(env: Environment): Identity {
  const type = said(env, "OS_AUTH_TYPE") ?? guessType(env);
  switch (type.replace(/^v[23]/, "")) {
    case "password":
      return {
        kind: "password",
        user: readUser(env),
        password: need(env, "the password", ["OS_PASSWORD", "ST_KEY"], " or OS_PASSWORD_FILE"),
        ...(passesOverCredential(env) ? { passedOver: "OS_APPLICATION_CREDENTIAL_*" } : {}),
      };
    case "token":
      return { kind: "token", token: need(env, "the token", ["OS_TOKEN", "OS_AUTH_TOKEN"]) };
    case "applicationcredential":
      return readApplicationCredential(env);
    default:
      throw new BackupError("CONFIG", `the authentication type '${type}' is not understood`, {
        hint: "OS_AUTH_TYPE may be v3password, v3token or v3applicationcredential",
      });
  }
}

/**
 * As openstackclient chooses (6.0): a user's name comes before a token. That takes an application credential only where
 * OS_AUTH_TYPE says so; here one is enough by itself, and a password beside it comes first, as the other may be a leftover.
 */
function guessType(env: Environment): string {
  const has = (...names: string[]): boolean => names.some((name) => said(env, name) !== undefined);
  if (has("OS_USERNAME", "OS_USER_ID") && has("OS_PASSWORD")) return "password";
  if (has(...credentialNames)) return "applicationcredential";
  if (has("OS_USERNAME", "OS_USER_ID", "OS_PASSWORD")) return "password";
  return has("OS_TOKEN", "OS_AUTH_TOKEN") ? "token" : "password";
}

const credentialNames = ["OS_APPLICATION_CREDENTIAL_ID", "OS_APPLICATION_CREDENTIAL_NAME"];

/** True when nobody but the guess above has chosen the password. */
function passesOverCredential(env: Environment): boolean {
  return said(env, "OS_AUTH_TYPE") === undefined && credentialNames.some((name) => said(env, name) !== undefined);
}

function readApplicationCredential(env: Environment): Identity {
  const kind = "application credential";
  const secret = need(
    env,
    "its secret",
    ["OS_APPLICATION_CREDENTIAL_SECRET"],
    " or OS_APPLICATION_CREDENTIAL_SECRET_FILE",
  );
  const id = said(env, "OS_APPLICATION_CREDENTIAL_ID");
  if (id !== undefined) return { kind, credential: { id }, secret };
  const name = need(env, "its name", ["OS_APPLICATION_CREDENTIAL_NAME"]);
  return { kind, credential: { name, user: readUser(env) }, secret };
}

function readUser(env: Environment): InDomain {
  const id = said(env, "OS_USER_ID");
  if (id !== undefined) return { id };
  // swiftclient takes `project:user` in ST_USER.
  const name = said(env, "OS_USERNAME") ?? said(env, "ST_USER")?.replace(/^.*:/, "");
  if (name === undefined) throw missing("the user", "OS_USERNAME or OS_USER_ID");
  return { name, domain: readDomain(env, "USER") };
}

function readProject(env: Environment): InDomain | null {
  const id = said(env, "OS_PROJECT_ID") ?? said(env, "OS_TENANT_ID");
  if (id !== undefined) return { id };
  const beforeColon = /^(.+):/.exec(said(env, "ST_USER") ?? "")?.[1];
  const name = said(env, "OS_PROJECT_NAME") ?? said(env, "OS_TENANT_NAME") ?? beforeColon;
  return name === undefined ? null : { name, domain: readDomain(env, "PROJECT") };
}

/** As openstackclient has it: what is said of the one, of both, or the domain whose id is `default`. */
function readDomain(env: Environment, whose: "USER" | "PROJECT"): Named {
  for (const prefix of [`OS_${whose}_DOMAIN`, "OS_DOMAIN"]) {
    const id = said(env, `${prefix}_ID`);
    if (id !== undefined) return { id };
    const name = said(env, `${prefix}_NAME`);
    if (name !== undefined) return { name };
  }
  return { id: said(env, "OS_DEFAULT_DOMAIN") ?? "default" };
}

function need(env: Environment, what: string, names: readonly string[], otherwise = ""): string {
  for (const name of names) {
    const value = said(env, name);
    if (value !== undefined) return value;
  }
  throw missing(what, `${names[0] ?? ""}${otherwise}`);
}

function missing(what: string, names: string): BackupError {
  return new BackupError("CONFIG", `for a login at Keystone ${what} is missing`, { hint: `set ${names}` });
}
