// Reads the OS_* and ST_* variables as the OpenStack clients do. Pure: words in, a login out.

import { BackupError } from "../errors.ts";

export type Environment = Readonly<Record<string, string | undefined>>;

/** A domain, user or project, by its id or its name. */
export type Named = { readonly id: string } | { readonly name: string };

/** A user or project; a name is unique only within its domain. */
export type InDomain = { readonly id: string } | { readonly name: string; readonly domain: Named };

/** The identity that we present to Keystone. */
export type Identity =
  /** `passedOver`: variables of another login that are set too. */
  | { readonly kind: "password"; readonly user: InDomain; readonly password: string; readonly passedOver?: string }
  | { readonly kind: "token"; readonly token: string }
  | { readonly kind: "application credential"; readonly credential: ApplicationCredential; readonly secret: string };

/** A name is unique only among the credentials of its user. */
export type ApplicationCredential = { readonly id: string } | { readonly name: string; readonly user: InDomain };

/** Everything that a login at Keystone needs, and the wanted entry of its catalog. */
export interface KeystoneLogin {
  /** URL of the version 3 API, without a trailing slash. */
  readonly authUrl: string;
  readonly identity: Identity;
  /** Null: the project of the application credential or token, or the user's default project in Keystone. */
  readonly project: InDomain | null;
  /** Null: the only one there is. */
  readonly region: string | null;
  readonly interface: string;
}

/** Returns a variable's value; an empty variable counts as unset. */
export function readVariable(env: Environment, name: string): string | undefined {
  const value = env[name];
  return value === "" ? undefined : value;
}

const keystoneVariables = [
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

/** True when a variable is set that only makes sense for a login at Keystone. */
export function namesKeystone(env: Environment): boolean {
  if (speaksVersion1(env)) return false;
  return keystoneVariables.some((name) => readVariable(env, name) !== undefined);
}

/** True when version 1 of Swift's own authentication is requested explicitly. */
function speaksVersion1(env: Environment): boolean {
  return /^1(\.0)?$/.test(readVariable(env, "ST_AUTH_VERSION") ?? "");
}

/** @throws CONFIG for what is missing or contradictory */
export function readKeystoneLogin(env: Environment): KeystoneLogin {
  const identity = readIdentity(env);
  return {
    authUrl: readAuthUrl(env),
    identity,
    // An application credential is bound to its project: Keystone refuses a request that names one.
    project: identity.kind === "application credential" ? null : readProject(env),
    region: readVariable(env, "OS_REGION_NAME") ?? null,
    interface: (readVariable(env, "OS_INTERFACE") ?? readVariable(env, "OS_ENDPOINT_TYPE") ?? "public").replace(
      /URL$/,
      "",
    ),
  };
}

/**
 * Uses version 3, whichever the URL names: Keystone has dropped the versions before it, but configurations still name
 * them.
 */
function readAuthUrl(env: Environment): string {
  const text = readVariable(env, "OS_AUTH_URL") ?? readVariable(env, "ST_AUTH");
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
  const type = readVariable(env, "OS_AUTH_TYPE") ?? guessType(env);
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
 * Chooses as openstackclient does (6.0): a user's name wins over a token. openstackclient uses an application
 * credential only when OS_AUTH_TYPE requests it. Here the credential alone is enough, but a password beside it wins, as
 * the credential may be a leftover.
 */
function guessType(env: Environment): string {
  const has = (...names: string[]): boolean => names.some((name) => readVariable(env, name) !== undefined);
  if (has("OS_USERNAME", "OS_USER_ID") && has("OS_PASSWORD")) return "password";
  if (has(...credentialNames)) return "applicationcredential";
  if (has("OS_USERNAME", "OS_USER_ID", "OS_PASSWORD")) return "password";
  return has("OS_TOKEN", "OS_AUTH_TOKEN") ? "token" : "password";
}

const credentialNames = ["OS_APPLICATION_CREDENTIAL_ID", "OS_APPLICATION_CREDENTIAL_NAME"];

/** True when only the guess above chose the password. */
function passesOverCredential(env: Environment): boolean {
  return (
    readVariable(env, "OS_AUTH_TYPE") === undefined &&
    credentialNames.some((name) => readVariable(env, name) !== undefined)
  );
}

function readApplicationCredential(env: Environment): Identity {
  const kind = "application credential";
  const secret = need(
    env,
    "its secret",
    ["OS_APPLICATION_CREDENTIAL_SECRET"],
    " or OS_APPLICATION_CREDENTIAL_SECRET_FILE",
  );
  const id = readVariable(env, "OS_APPLICATION_CREDENTIAL_ID");
  if (id !== undefined) return { kind, credential: { id }, secret };
  const name = need(env, "its name", ["OS_APPLICATION_CREDENTIAL_NAME"]);
  return { kind, credential: { name, user: readUser(env) }, secret };
}

function readUser(env: Environment): InDomain {
  const id = readVariable(env, "OS_USER_ID");
  if (id !== undefined) return { id };
  // swiftclient accepts `project:user` in ST_USER.
  const name = readVariable(env, "OS_USERNAME") ?? readVariable(env, "ST_USER")?.replace(/^.*:/, "");
  if (name === undefined) throw missing("the user", "OS_USERNAME or OS_USER_ID");
  return { name, domain: readDomain(env, "USER") };
}

function readProject(env: Environment): InDomain | null {
  const id = readVariable(env, "OS_PROJECT_ID") ?? readVariable(env, "OS_TENANT_ID");
  if (id !== undefined) return { id };
  const beforeColon = /^(.+):/.exec(readVariable(env, "ST_USER") ?? "")?.[1];
  const name = readVariable(env, "OS_PROJECT_NAME") ?? readVariable(env, "OS_TENANT_NAME") ?? beforeColon;
  return name === undefined ? null : { name, domain: readDomain(env, "PROJECT") };
}

/**
 * Finds the domain as openstackclient does: the specific variable, the one for both, or the domain whose id is
 * `default`.
 */
function readDomain(env: Environment, whose: "USER" | "PROJECT"): Named {
  for (const prefix of [`OS_${whose}_DOMAIN`, "OS_DOMAIN"]) {
    const id = readVariable(env, `${prefix}_ID`);
    if (id !== undefined) return { id };
    const name = readVariable(env, `${prefix}_NAME`);
    if (name !== undefined) return { name };
  }
  return { id: readVariable(env, "OS_DEFAULT_DOMAIN") ?? "default" };
}

function need(env: Environment, what: string, names: readonly string[], otherwise = ""): string {
  for (const name of names) {
    const value = readVariable(env, name);
    if (value !== undefined) return value;
  }
  throw missing(what, `${names[0] ?? ""}${otherwise}`);
}

function missing(what: string, names: string): BackupError {
  return new BackupError("CONFIG", `for a login at Keystone ${what} is missing`, { hint: `set ${names}` });
}
