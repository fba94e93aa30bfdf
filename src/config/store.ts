// Merges flags and environment into one frozen description of the store and the login. Flags win. Pure: the environment
// is an argument.

import { BackupError } from "../errors.ts";
import { namesKeystone, readKeystoneLogin, readVariable, type Environment, type KeystoneLogin } from "./openstack.ts";
import { readProxies, type Proxies } from "./proxies.ts";

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
  /** Null: the AWS default, or the profile that the environment selects. */
  readonly profile: string | null;
  /** Null: the usual places of the AWS tools. */
  readonly configFile: string | null;
  readonly keysFile: string | null;
}

/** Where the S3 keys come from. */
export type KeySource =
  /** Given explicitly; `variables` names where. `passedOver`: there is also a login at Keystone. */
  | { readonly kind: "keys"; readonly keys: S3Keys; readonly variables: string; readonly passedOver: boolean }
  | { readonly kind: "profile" }
  /** The keys that Keystone holds for the project. */
  | { readonly kind: "keystone" };

/** The address of the container and the login. */
export interface StoreConfig {
  readonly containerName: string;
  /** URL of the S3 API; null when it comes from the AWS files or Keystone's catalog. */
  readonly endpoint: string | null;
  /** Set by a flag, so it must be right; null: the store reports it. */
  readonly region: string | null;
  /** A hint from elsewhere: the first region to try, until the store reports its own. */
  readonly likelyRegion: string | null;
  readonly source: KeySource;
  readonly aws: AwsProfile;
  /** The Keystone login for the keys, the endpoint or both; null when Keystone is not needed. */
  readonly keystone: KeystoneLogin | null;
  readonly createCredentials: boolean;
  /** PEM files of authorities to trust in addition to the usual ones. */
  readonly authorities: readonly string[];
  readonly proxies: Proxies;
  /** The hint for the case that nothing names the store's address. */
  readonly nowhereHint: string;
}

const NOWHERE = "use --endpoint URL, set AWS_ENDPOINT_URL_S3, or set OS_* for a login at Keystone";

/** @throws USAGE, CONFIG */
export function readStoreConfig(flags: StoreFlags, env: Environment): StoreConfig {
  const containerName = flags.containerName ?? "";
  if (containerName === "") {
    throw new BackupError("USAGE", "no container given", { hint: "use --container-name NAME" });
  }
  const source = chooseSource(env);
  const endpoint = flags.endpoint ?? namedEndpoint(source, env);
  const lacksEndpoint = source.kind === "keys" && endpoint === undefined;
  const asksKeystone = source.kind === "keystone" || (lacksEndpoint && namesKeystone(env));
  return Object.freeze({
    containerName,
    endpoint: endpoint === undefined ? null : parseEndpoint(endpoint),
    region: flags.region ?? null,
    likelyRegion:
      readVariable(env, "AWS_REGION") ??
      readVariable(env, "AWS_DEFAULT_REGION") ??
      readVariable(env, "OS_REGION_NAME") ??
      null,
    source,
    aws: readAwsProfile(env),
    keystone: asksKeystone ? readKeystoneLogin(env) : null,
    createCredentials: flags.createCredentials,
    nowhereHint:
      readVariable(env, "SUDO_USER") === undefined
        ? NOWHERE
        : `${NOWHERE}; sudo hides variables unless it is called with -E`,
    authorities: ["OS_CACERT", "AWS_CA_BUNDLE", "NODE_EXTRA_CA_CERTS", "SSL_CERT_FILE"].flatMap(
      (name) => readVariable(env, name) ?? [],
    ),
    proxies: readProxies(env),
  });
}

/** Describes the login for people, as far as it is known before any request. */
export function describeLogin({ source, aws, keystone }: StoreConfig): string {
  if (source.kind === "keys") return `S3 keys of ${source.variables}`;
  if (source.kind === "profile") return aws.profile === null ? "the AWS files" : `the AWS profile '${aws.profile}'`;
  return keystone === null ? "a login at Keystone" : `a login at Keystone, ${keystone.authUrl}`;
}

/** Describes the store's address for people, as far as it is known before any request. */
export function describeEndpoint({ endpoint, keystone }: StoreConfig): string {
  return endpoint ?? (keystone === null ? "what the AWS files say" : "what Keystone's catalog says");
}

export const OPEN_PASSWORDS =
  "OS_AUTH_URL begins with http://: the password crosses the network unencrypted; use https:// if Keystone offers it";

/** True where a login travels unencrypted, except to this machine itself. */
export function sendsPasswordsOpenly({ authUrl }: KeystoneLogin): boolean {
  const { protocol, hostname } = new URL(authUrl);
  return protocol === "http:" && !/^(localhost|127(\.\d+){3}|\[::1\])$/.test(hostname);
}

/** True when the variables of the AWS tools name keys or a profile. */
export function namesAws(env: Environment): boolean {
  const variables = ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"];
  return variables.some((name) => readVariable(env, name) !== undefined);
}

/** Chooses the first source that is named at all, so that an incomplete one is an error and not skipped. */
function chooseSource(env: Environment): KeySource {
  if (namesAws(env)) return readAwsKeys(env) ?? { kind: "profile" };
  if (namesKeystone(env)) return { kind: "keystone" };
  const namesTempAuth = ["ST_AUTH", "ST_USER", "ST_KEY"].some((name) => readVariable(env, name) !== undefined);
  return namesTempAuth ? readTempAuth(env) : { kind: "profile" };
}

function readAwsProfile(env: Environment): AwsProfile {
  return {
    profile: readVariable(env, "AWS_PROFILE") ?? null,
    configFile: readVariable(env, "AWS_CONFIG_FILE") ?? null,
    keysFile: readVariable(env, "AWS_SHARED_CREDENTIALS_FILE") ?? null,
  };
}

function readAwsKeys(env: Environment): KeySource | null {
  const accessKeyId = readVariable(env, "AWS_ACCESS_KEY_ID");
  const secretAccessKey = readVariable(env, "AWS_SECRET_ACCESS_KEY");
  if (accessKeyId === undefined && secretAccessKey === undefined) return null;
  if (accessKeyId === undefined || secretAccessKey === undefined) {
    throw new BackupError("CONFIG", "only one of AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY is set", {
      hint: "set both",
    });
  }
  const sessionToken = readVariable(env, "AWS_SESSION_TOKEN");
  const keys = { accessKeyId, secretAccessKey, ...(sessionToken === undefined ? {} : { sessionToken }) };
  return {
    kind: "keys",
    keys,
    variables: "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
    passedOver: namesKeystone(env),
  };
}

/** s3api accepts TempAuth's user and key as S3 keys. */
function readTempAuth(env: Environment): KeySource {
  const [url, accessKeyId, secretAccessKey] = ["ST_AUTH", "ST_USER", "ST_KEY"].map((name) => readVariable(env, name));
  if (url !== undefined && accessKeyId !== undefined && secretAccessKey !== undefined) {
    return { kind: "keys", keys: { accessKeyId, secretAccessKey }, variables: "ST_USER and ST_KEY", passedOver: false };
  }
  throw new BackupError("CONFIG", "only some of ST_AUTH, ST_USER and ST_KEY are set", {
    hint: "set all three, or for Keystone ST_AUTH_VERSION=3 and OS_*",
  });
}

function namedEndpoint(source: KeySource, env: Environment): string | undefined {
  const isTempAuth = source.kind === "keys" && !namesAws(env);
  // The proxy that answers S3 also serves TempAuth, and Swift's own API where swiftclient has its URL.
  const ofProxy = readVariable(env, "OS_STORAGE_URL") ?? (isTempAuth ? readVariable(env, "ST_AUTH") : undefined);
  return readVariable(env, "AWS_ENDPOINT_URL_S3") ?? readVariable(env, "AWS_ENDPOINT_URL") ?? ofProxy;
}

function parseEndpoint(text: string): string {
  const url = URL.canParse(text) ? new URL(text) : null;
  if (url !== null && (url.protocol === "http:" || url.protocol === "https:") && url.username === "") return url.origin;
  throw new BackupError("CONFIG", "the endpoint is not a URL of the form https://host[:port]", {
    hint: "use --endpoint https://host",
    context: { endpoint: url === null ? text : url.host },
  });
}
