// Requests that are not S3's: to Keystone, and to Swift's own API. Not fetch, because authorities of one's own can be
// given to that only through the environment of the process.

import { once } from "node:events";
import { readFile } from "node:fs/promises";
import { request as httpRequest, type Agent, type IncomingHttpHeaders, type IncomingMessage } from "node:http";
import { request as httpsRequest } from "node:https";
import { text } from "node:stream/consumers";
import { createSecureContext, rootCertificates, type SecureContext } from "node:tls";
import { BackupError, describeReadError } from "../errors.ts";
import { chooseProxy, describeProxy, type Proxies } from "../config/proxies.ts";
import type { Log } from "./retry-strategy.ts";
import { withTimeout } from "./timeout.ts";

export interface HttpOptions {
  readonly method?: string;
  readonly headers?: Readonly<Record<string, string>>;
  /** Sent as JSON. */
  readonly body?: unknown;
  /** Absent: no proxy, and only Node's own certificate authorities are trusted. */
  readonly network?: Network | undefined;
}

export interface HttpAnswer {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  readonly text: string;
}

const TIMEOUT_MS = 10_000;

/** One request and its answer, with any status; redirects are not followed. @throws errors of Node's network */
export function askHttp(url: URL, options: HttpOptions, signal: AbortSignal): Promise<HttpAnswer> {
  return withTimeout(TIMEOUT_MS, signal, (patience) => ask(url, options, patience));
}

async function ask(url: URL, options: HttpOptions, signal: AbortSignal): Promise<HttpAnswer> {
  const body = options.body === undefined ? null : JSON.stringify(options.body);
  const open = url.protocol === "https:" ? httpsRequest : httpRequest;
  const agent = options.network?.openProxyAgent(url, false, signal) ?? null;
  const request = open(url, {
    method: options.method ?? "GET",
    headers: {
      accept: "application/json",
      ...(body === null ? {} : { "content-type": "application/json" }),
      ...options.headers,
    },
    signal,
    ...trusting(options.network, url),
    ...(agent === null ? {} : { agent }),
  });
  // After the answer has begun, the answer reports an error too.
  request.on("error", () => undefined);
  request.end(body ?? undefined);
  const [answer] = (await once(request, "response")) as [IncomingMessage];
  return { status: answer.statusCode ?? 0, headers: answer.headers, text: await text(answer) };
}

/** How servers are reached: which certificates to trust, and which proxy to use. */
export interface Network {
  /** Made when it is first needed and only once: reading a few hundred certificates takes a tenth of a second. */
  readonly secureContext: () => SecureContext;
  /** The proxy between us and the server, for people; null when there is none. */
  describeProxy(server: URL): string | null;
  /** For requests to this server; `signal` ends connections. Null where there is no proxy. */
  openProxyAgent(server: URL, keepAlive: boolean, signal: AbortSignal): Agent | null;
  /** How long requests to Keystone are retried when it does not answer; absent: seconds. */
  readonly retryForMs?: number | undefined;
  /** Gets a warning when the program waits for Keystone. */
  readonly log?: Pick<Log, "warn"> | undefined;
}

/** Where systems keep their certificate authorities; the first that exists is used. Node does not read them. */
const systemStores = [
  "/etc/ssl/certs/ca-certificates.crt",
  "/etc/pki/tls/certs/ca-bundle.crt",
  "/etc/ssl/ca-bundle.pem",
  "/etc/ssl/cert.pem",
];

/** Trusts the certificates of these PEM files, beside Node's own and the system's. @throws CONFIG */
export async function openNetwork(files: readonly string[], proxies: Proxies): Promise<Network> {
  const isProxied = proxies.http !== null || proxies.https !== null;
  const [named, system, agents] = await Promise.all([
    Promise.all(files.map(readPem)),
    readSystemStore(),
    isProxied ? import("./proxy.ts") : null,
  ]);
  let context: SecureContext | null = null;
  const secureContext = (): SecureContext =>
    (context ??= createSecureContext({ ca: [...rootCertificates, ...named, ...system] }));
  return {
    secureContext,
    describeProxy(server) {
      const proxy = chooseProxy(proxies, server);
      return proxy === null ? null : describeProxy(proxy);
    },
    openProxyAgent(server, keepAlive, signal) {
      const proxy = chooseProxy(proxies, server);
      if (agents === null || proxy === null) return null;
      const isTls = server.protocol === "https:" || proxy.url.protocol === "https:";
      return agents.openProxyAgent(proxy.url, server, {
        keepAlive,
        signal,
        secureContext: isTls ? secureContext() : undefined,
      });
    },
  };
}

/** As options of a request or an agent; none without certificates to trust. */
export function trusting(network: Network | undefined, { protocol }: URL): { readonly secureContext?: SecureContext } {
  return network === undefined || protocol !== "https:" ? {} : { secureContext: network.secureContext() };
}

async function readSystemStore(): Promise<readonly string[]> {
  for (const file of systemStores) {
    const pem = await readFile(file, "utf8").catch(() => "");
    if (pem.includes(CERTIFICATE)) return [pem];
  }
  return [];
}

const CERTIFICATE = "-----BEGIN CERTIFICATE-----";

async function readPem(file: string): Promise<string> {
  const hint = "OS_CACERT, AWS_CA_BUNDLE, NODE_EXTRA_CA_CERTS and SSL_CERT_FILE name PEM files";
  const pem = await readFile(file, "utf8").catch((cause: unknown) => {
    throw new BackupError("CONFIG", `cannot read the certificates of ${file}: ${describeReadError(cause)}`, { hint });
  });
  if (pem.includes(CERTIFICATE)) return pem;
  throw new BackupError("CONFIG", `there is no certificate in ${file}`, { hint });
}
