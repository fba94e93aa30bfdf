// Turns the configuration into S3 keys and an endpoint. Keys are kept in memory only.

import { env } from "node:process";
import { loadSharedConfigFiles } from "@smithy/core/config";
import type { AwsProfile, StoreConfig } from "../../config/store.ts";
import type { Credentials } from "../client.ts";
import type { Log } from "../retry-strategy.ts";
import { openNetwork, type Network } from "../http.ts";
import { BackupError } from "../../errors.ts";
import { findAccount, findS3, logIn, subject, type Session } from "./keystone.ts";
import { createKeys, findKeys } from "./ec2-credentials.ts";

/** Everything that a request to the store needs, and the advice for when it is refused. */
export interface Access {
  readonly endpoint: string;
  /** As configured; the store must agree. Null when it is not configured. */
  readonly region: string | null;
  /** Probably the store's: the first attempt, until the store reports its region. */
  readonly likelyRegion: string | null;
  /** Null: the SDK's own chain of files, for the profile. */
  readonly credentials: Credentials | null;
  readonly profile: string | null;
  readonly network: Network;
  /** Where the keys come from, for people. */
  readonly source: string;
  /** The proxy to the endpoint, for people; null: none. */
  readonly proxy: string | null;
  /** True where HTTP_PROXY would be used if curl read it. */
  readonly ignoresProxy: boolean;
  /** Advice for when the store refuses the keys. */
  readonly refusalHint: string;
  /** Swift's own API, as far as a login gave it: the account's URL and a token. */
  readonly native: { readonly accountUrl: string; readonly token: string } | null;
}

/** The part of a logger that is used here. */
interface InfoLog extends Pick<Log, "warn"> {
  info(fields: object, message: string): void;
}

/** @throws CONFIG, ACCESS_DENIED, STORE_UNAVAILABLE, ABORTED */
export async function openAccess(
  config: StoreConfig & Pick<Network, "retryForMs">,
  log: InfoLog,
  signal: AbortSignal,
): Promise<Access> {
  const { authorities, proxies, retryForMs } = config;
  const network = { ...(await openNetwork(authorities, proxies)), retryForMs, log };
  const session = config.keystone === null ? null : await logIn(config.keystone, network, signal);
  const files = session === null ? await readAwsFiles(config.aws) : null;
  const catalog = session === null || config.endpoint !== null ? null : findS3(session);
  const endpoint = config.endpoint ?? catalog?.endpoint ?? files?.endpoint;
  if (endpoint === undefined) {
    throw new BackupError("CONFIG", "no endpoint given: the address of the store's S3 API is unknown", {
      hint: config.nowhereHint,
    });
  }
  return {
    endpoint,
    region: config.region,
    likelyRegion: config.likelyRegion ?? catalog?.region ?? files?.region ?? null,
    profile: config.source.kind === "profile" ? config.aws.profile : null,
    network,
    proxy: URL.canParse(endpoint) ? network.describeProxy(new URL(endpoint)) : null,
    ignoresProxy: config.proxies.ignoresUpperCase && endpoint.startsWith("http:"),
    native: session === null ? null : nativeApi(session),
    ...(await chooseKeys(config, session, log, signal)),
  };
}

async function chooseKeys(
  { source, aws, createCredentials }: StoreConfig,
  session: Session | null,
  log: InfoLog,
  signal: AbortSignal,
): Promise<Pick<Access, "credentials" | "source" | "refusalHint">> {
  if (source.kind === "keys") {
    const { keys, variables, passedOver } = source;
    const refusalHint = `check ${variables}${passedOver ? ", which come before OS_*; unset them to log in at Keystone" : ""}`;
    return { credentials: keys, source: variables, refusalHint };
  }
  if (source.kind === "profile" || session === null) {
    const profile = aws.profile === null ? "the AWS files" : `the AWS profile '${aws.profile}'`;
    return { credentials: null, source: profile, refusalHint: `check ${profile}` };
  }
  const credentials = (await findKeys(session, signal)) ?? (await makeKeys(session, createCredentials, log, signal));
  const { project, login, network } = session;
  const url = new URL(login.authUrl);
  const proxy = network.describeProxy(url);
  return {
    credentials,
    source: `Keystone at ${url.host}${proxy === null ? "" : `, through the proxy ${proxy}`}: the S3 keys of ${subject(login)} for project '${project.name}'`,
    refusalHint: "they are those that Keystone keeps for the project; is the endpoint of the same cloud?",
  };
}

async function makeKeys(session: Session, mayCreate: boolean, log: InfoLog, signal: AbortSignal): Promise<Credentials> {
  const { project, login } = session;
  if (!mayCreate) {
    throw new BackupError(
      "CONFIG",
      `${subject(login)} has no S3 keys for project '${project.name}', and none may be created`,
      { hint: "make them with `openstack ec2 credentials create`, or leave --no-create-credentials out" },
    );
  }
  const keys = await createKeys(session, signal);
  if (keys !== null) {
    log.info(
      { accessKeyId: keys.accessKeyId },
      `created S3 keys for project '${project.name}' with Keystone, for this and later runs`,
    );
    return keys;
  }
  const made = await findKeys(session, signal);
  if (made !== null) return made;
  throw new BackupError(
    "ACCESS_DENIED",
    `the S3 keys of ${subject(login)} for project '${project.name}' cannot be read`,
    {
      hint: "make others with `openstack ec2 credentials create`, and set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
    },
  );
}

function nativeApi(session: Session): Access["native"] {
  const accountUrl = findAccount(session, session.login.region);
  return accountUrl === null ? null : { accountUrl, token: session.token };
}

/** Reads the store's settings, other than keys, in ~/.aws/config. */
async function readAwsFiles(
  aws: AwsProfile,
): Promise<{ readonly endpoint: string | undefined; readonly region: string | undefined }> {
  // The SDK looks nowhere else for them; they may come from an env file.
  if (aws.configFile !== null) env["AWS_CONFIG_FILE"] = aws.configFile;
  if (aws.keysFile !== null) env["AWS_SHARED_CREDENTIALS_FILE"] = aws.keysFile;
  const { configFile, credentialsFile } = await loadSharedConfigFiles();
  const name = aws.profile ?? "default";
  const settings = { ...credentialsFile[name], ...configFile[name] };
  const services = settings["services"] === undefined ? undefined : configFile[`services.${settings["services"]}`];
  return { endpoint: services?.["s3.endpoint_url"] ?? settings["endpoint_url"], region: settings["region"] };
}
