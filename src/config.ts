// Flags over environment, made into one frozen description of what to do. Pure: the environment is an argument.

import { BackupError } from "./errors.ts";
import { namesKeystone, readKeystoneLogin, said, type Environment, type KeystoneLogin } from "./openstack.ts";
import { readProxies, type Proxies } from "./proxies.ts";
import { parseBoolean } from "./words.ts";

export interface StoreFlags {
  readonly containerName: string | undefined;
  readonly endpoint: string | undefined;
  readonly region: string | undefined;
  /** Whether S3 keys may be made where a project has none. */
  readonly createCredentials: boolean;
}

export interface S3Keys {
  readonly accessKeyId: string;
  readonly secretAccessKey: string;
  readonly sessionToken?: string;
}

/** A profile of the AWS files. */
export interface AwsProfile {
  /** Null: the one that is in force there. */
  readonly profile: string | null;
  /** Null: where the AWS tools look. */
  readonly configFile: string | null;
  readonly keysFile: string | null;
}

/** Where the S3 keys come from. */
export type KeySource =
  /** Said in so many words; `variables` names which. `passedOver`: there is a login at Keystone too. */
  | { readonly kind: "keys"; readonly keys: S3Keys; readonly variables: string; readonly passedOver: boolean }
  | { readonly kind: "profile" }
  /** Those that Keystone keeps for the project. */
  | { readonly kind: "keystone" };

/** Where the container is and who asks for it. */
export interface StoreConfig {
  readonly containerName: string;
  /** URL of the S3 API; null when the AWS files or Keystone's catalog are to tell. */
  readonly endpoint: string | null;
  /** Said by a flag, so it must be right; null: the store tells. */
  readonly region: string | null;
  /** Said in passing: where to begin, until the store tells. */
  readonly likelyRegion: string | null;
  readonly source: KeySource;
  readonly aws: AwsProfile;
  /** Whom to ask for the keys, the endpoint or both; null when nothing is to be asked. */
  readonly keystone: KeystoneLogin | null;
  readonly createCredentials: boolean;
  /** PEM files of authorities to trust beside the usual ones. */
  readonly authorities: readonly string[];
  readonly proxies: Proxies;
  /** What to do when nothing says where the store is. */
  readonly nowhereHint: string;
}

const NOWHERE = "say --endpoint URL, set AWS_ENDPOINT_URL_S3, or set OS_* for a login at Keystone";

/** @throws USAGE, CONFIG */
export function readStoreConfig(flags: StoreFlags, env: Environment): StoreConfig {
  const containerName = flags.containerName ?? "";
  if (containerName === "") {
    throw new BackupError("USAGE", "no container is named", { hint: "say --container-name NAME" });
  }
  const source = chooseSource(env);
  const endpoint = flags.endpoint ?? namedEndpoint(source, env);
  const lacksEndpoint = source.kind === "keys" && endpoint === undefined;
  const asksKeystone = source.kind === "keystone" || (lacksEndpoint && namesKeystone(env));
  return Object.freeze({
    containerName,
    endpoint: endpoint === undefined ? null : parseEndpoint(endpoint),
    region: flags.region ?? null,
    likelyRegion: said(env, "AWS_REGION") ?? said(env, "AWS_DEFAULT_REGION") ?? said(env, "OS_REGION_NAME") ?? null,
    source,
    aws: readAwsProfile(env),
    keystone: asksKeystone ? readKeystoneLogin(env) : null,
    createCredentials: flags.createCredentials,
    nowhereHint:
      said(env, "SUDO_USER") === undefined ? NOWHERE : `${NOWHERE}; sudo hides variables unless it is called with -E`,
    authorities: ["OS_CACERT", "AWS_CA_BUNDLE", "NODE_EXTRA_CA_CERTS", "SSL_CERT_FILE"].flatMap(
      (name) => said(env, name) ?? [],
    ),
    proxies: readProxies(env),
  });
}

export const OPEN_PASSWORDS =
  "OS_AUTH_URL begins with http://: the password crosses the network where others can read it; use https:// if Keystone has it";

/** True where a login is not encrypted on its way, except to this machine itself. */
export function sendsPasswordsOpenly({ authUrl }: KeystoneLogin): boolean {
  const { protocol, hostname } = new URL(authUrl);
  return protocol === "http:" && !/^(localhost|127(\.\d+){3}|\[::1\])$/.test(hostname);
}

/** True when the variables that the AWS tools read name keys or a profile. */
export function namesAws(env: Environment): boolean {
  const telling = ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"];
  return telling.some((name) => said(env, name) !== undefined);
}

/** The first of them that is named at all, so that a half of one is told and not passed over. */
function chooseSource(env: Environment): KeySource {
  if (namesAws(env)) return readAwsKeys(env) ?? { kind: "profile" };
  if (namesKeystone(env)) return { kind: "keystone" };
  const namesTempAuth = ["ST_AUTH", "ST_USER", "ST_KEY"].some((name) => said(env, name) !== undefined);
  return namesTempAuth ? readTempAuth(env) : { kind: "profile" };
}

function readAwsProfile(env: Environment): AwsProfile {
  return {
    profile: said(env, "AWS_PROFILE") ?? null,
    configFile: said(env, "AWS_CONFIG_FILE") ?? null,
    keysFile: said(env, "AWS_SHARED_CREDENTIALS_FILE") ?? null,
  };
}

function readAwsKeys(env: Environment): KeySource | null {
  const accessKeyId = said(env, "AWS_ACCESS_KEY_ID");
  const secretAccessKey = said(env, "AWS_SECRET_ACCESS_KEY");
  if (accessKeyId === undefined && secretAccessKey === undefined) return null;
  if (accessKeyId === undefined || secretAccessKey === undefined) {
    throw new BackupError("CONFIG", "only one of AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY is set", {
      hint: "set both",
    });
  }
  const sessionToken = said(env, "AWS_SESSION_TOKEN");
  const keys = { accessKeyId, secretAccessKey, ...(sessionToken === undefined ? {} : { sessionToken }) };
  return {
    kind: "keys",
    keys,
    variables: "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
    passedOver: namesKeystone(env),
  };
}

const TEMPAUTH_VARIABLES = "ST_USER and ST_KEY";

/** s3api takes TempAuth's user and key for S3 keys as they are. */
function readTempAuth(env: Environment): KeySource {
  const [url, accessKeyId, secretAccessKey] = ["ST_AUTH", "ST_USER", "ST_KEY"].map((name) => said(env, name));
  if (url !== undefined && accessKeyId !== undefined && secretAccessKey !== undefined) {
    return { kind: "keys", keys: { accessKeyId, secretAccessKey }, variables: TEMPAUTH_VARIABLES, passedOver: false };
  }
  throw new BackupError("CONFIG", "only some of ST_AUTH, ST_USER and ST_KEY are set", {
    hint: "set all three, or for Keystone ST_AUTH_VERSION=3 and OS_*",
  });
}

function namedEndpoint(source: KeySource, env: Environment): string | undefined {
  const isTempAuth = source.kind === "keys" && source.variables === TEMPAUTH_VARIABLES;
  // TempAuth, and Swift's own API where swiftclient is told its URL, are served by the proxy that answers S3 too.
  const ofProxy = said(env, "OS_STORAGE_URL") ?? (isTempAuth ? said(env, "ST_AUTH") : undefined);
  return said(env, "AWS_ENDPOINT_URL_S3") ?? said(env, "AWS_ENDPOINT_URL") ?? ofProxy;
}

function parseEndpoint(text: string): string {
  const url = URL.canParse(text) ? new URL(text) : null;
  if (url !== null && (url.protocol === "http:" || url.protocol === "https:") && url.username === "") return url.origin;
  throw new BackupError("CONFIG", "the endpoint is not a URL of the form https://host[:port]", {
    hint: "say --endpoint https://host",
    context: { endpoint: url === null ? text : url.host },
  });
}

export interface EncodingFlags {
  readonly ageRecipients: readonly string[];
  readonly ageRecipientsFiles: readonly string[];
  readonly noEncryption: boolean;
  readonly requireEncryption: boolean;
  /** `zstd` or `zstd:LEVEL`; absent = not compressed. */
  readonly compress: string | undefined;
}

/** What streams are encoded with. */
export interface EncodingConfig {
  /** Null = not encrypted. */
  readonly recipients: { readonly names: readonly string[]; readonly files: readonly string[] } | null;
  /** Null = not compressed. */
  readonly zstdLevel: number | null;
  /** "undecided": no recipient is named, and nobody has declined encryption. */
  readonly encryption: "encrypt" | "declined" | "undecided";
}

const REQUIRE_ENCRYPTION = "BTRFS_SNAPSHOTS_TO_SWIFT_REQUIRE_ENCRYPTION";

/** @throws USAGE for what contradicts itself, and where encryption is required and there is nobody to encrypt for */
export function readEncodingConfig(flags: EncodingFlags, env: Environment): EncodingConfig {
  const { ageRecipients: names, ageRecipientsFiles: files, noEncryption } = flags;
  const encrypt = names.length + files.length > 0;
  const requiredBy = flags.requireEncryption ? "--require-encryption" : requiredByVariable(env);
  if (noEncryption && encrypt) {
    throw new BackupError("USAGE", "--no-encryption and recipients exclude each other", {
      hint: "leave one of them out",
    });
  }
  if (noEncryption && requiredBy !== null) {
    throw new BackupError("USAGE", `${requiredBy} forbids --no-encryption`, {
      hint: "name a recipient with --age-recipient",
    });
  }
  if (requiredBy !== null && !encrypt) {
    throw new BackupError("USAGE", `${requiredBy} requires encryption, and no recipient is named`, {
      hint: "say --age-recipient RECIPIENT, or --age-recipients-file FILE",
    });
  }
  const zstdLevel = flags.compress === undefined ? null : parseCompression(flags.compress, "--compress");
  const encryption = encrypt ? "encrypt" : noEncryption ? "declined" : "undecided";
  return { recipients: encrypt ? { names, files } : null, zstdLevel, encryption };
}

function requiredByVariable(env: Environment): string | null {
  const value = said(env, REQUIRE_ENCRYPTION);
  return value !== undefined && parseBoolean(value, REQUIRE_ENCRYPTION) ? REQUIRE_ENCRYPTION : null;
}

/** What zstd takes without more memory than every reader of its output has. */
const MAX_ZSTD_LEVEL = 19;
const USUAL_ZSTD_LEVEL = 3;

/** The level of `zstd` or `zstd:LEVEL`. @throws USAGE */
export function parseCompression(text: string, flag: string): number {
  const match = /^zstd(?::(\d{1,2}))?$/.exec(text);
  const level = match?.[1] === undefined ? USUAL_ZSTD_LEVEL : Number(match[1]);
  if (match !== null && level >= 1 && level <= MAX_ZSTD_LEVEL) return level;
  throw new BackupError(
    "USAGE",
    `${flag} takes zstd or zstd:LEVEL with a level from 1 to ${MAX_ZSTD_LEVEL}, not "${text}"`,
  );
}

/** Where to keep what is worth keeping from one run to the next; null when nobody says where. */
export function stateDirectory(env: Environment): string | null {
  const home = said(env, "HOME");
  const base = said(env, "XDG_STATE_HOME") ?? (home === undefined ? undefined : `${home}/.local/state`);
  // systemd names a directory that is the unit's own.
  return (
    said(env, "STATE_DIRECTORY")?.split(":")[0] ?? (base === undefined ? null : `${base}/btrfs-snapshots-to-swift`)
  );
}

/** Where to keep what saves work and can be lost; null when nobody says where. */
export function cacheDirectory(env: Environment): string | null {
  const home = said(env, "HOME");
  const base = said(env, "XDG_CACHE_HOME") ?? (home === undefined ? undefined : `${home}/.cache`);
  // systemd names a directory that is the unit's own.
  return (
    said(env, "CACHE_DIRECTORY")?.split(":")[0] ?? (base === undefined ? null : `${base}/btrfs-snapshots-to-swift`)
  );
}

/** Its value may stand in quotes; elsewhere what follows ` #` is a comment. */
const VALUE = /'(?<single>[^']*)'|"(?<double>(?:[^"\\]|\\.)*)"|(?<bare>[^'"\s]\S*(?:\s+[^#\s]\S*)*)/;
const ASSIGNMENT = new RegExp(`^\\s*(?:export\\s+)?(?<name>[A-Za-z_]\\w*)\\s*=\\s*(?:${VALUE.source})?\\s*(?:#.*)?$`);

/**
 * The variables of an env file: `NAME=VALUE` lines, as shells, systemd and Docker have them, without what only a shell
 * can do. @throws CONFIG with the number of the line, never with what stands there
 */
export function parseEnvFile(text: string, file: string): Environment {
  const env: Record<string, string> = {};
  for (const [index, line] of text.split(/\r?\n/).entries()) {
    if (/^\s*(#|$)/.test(line)) continue;
    const { name, single, double, bare } = ASSIGNMENT.exec(line)?.groups ?? {};
    if (name === undefined) {
      throw new BackupError("CONFIG", `line ${index + 1} of ${file} is not of the form NAME=VALUE`, {
        hint: "a script for the shell is not read as one: source it instead",
      });
    }
    env[name] = single ?? double?.replace(/\\(.)/g, "$1") ?? bare ?? "";
  }
  return env;
}
