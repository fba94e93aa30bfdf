// Flags over environment, made into one frozen description of what to do. Pure: the environment is an argument.

import { BackupError } from "../errors.ts";
import { namesKeystone, readKeystoneLogin, said, type Environment, type KeystoneLogin } from "./openstack.ts";
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

const NOWHERE = "use --endpoint URL, set AWS_ENDPOINT_URL_S3, or set OS_* for a login at Keystone";

/** @throws USAGE, CONFIG */
export function readStoreConfig(flags: StoreFlags, env: Environment): StoreConfig {
  const containerName = flags.containerName ?? "";
  if (containerName === "") {
    throw new BackupError("USAGE", "no container is named", { hint: "use --container-name NAME" });
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

/** Who asks, for people, as far as it is known before anybody is asked. */
export function describeLogin({ source, aws, keystone }: StoreConfig): string {
  if (source.kind === "keys") return `S3 keys of ${source.variables}`;
  if (source.kind === "profile") return aws.profile === null ? "the AWS files" : `the AWS profile '${aws.profile}'`;
  return keystone === null ? "a login at Keystone" : `a login at Keystone, ${keystone.authUrl}`;
}

/** Where the store is, for people, as far as it is known before anybody is asked. */
export function describeEndpoint({ endpoint, keystone }: StoreConfig): string {
  return endpoint ?? (keystone === null ? "what the AWS files say" : "what Keystone's catalog says");
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
    hint: "use --endpoint https://host",
    context: { endpoint: url === null ? text : url.host },
  });
}
