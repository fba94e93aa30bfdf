// Requests that are not S3's: to Keystone, and to Swift's own API. Not fetch, because authorities of one's own can be
// given to that only through the environment of the process.

import { once } from "node:events";
import { readFile } from "node:fs/promises";
import { request as httpRequest, type IncomingHttpHeaders, type IncomingMessage } from "node:http";
import { request as httpsRequest } from "node:https";
import { text } from "node:stream/consumers";
import { createSecureContext, rootCertificates, type SecureContext } from "node:tls";
import { BackupError } from "../errors.ts";
import { withPatience } from "./patience.ts";

export interface HttpOptions {
  readonly method?: string;
  readonly headers?: Readonly<Record<string, string>>;
  /** Sent as JSON. */
  readonly body?: unknown;
  /** Absent: those that Node trusts by itself. */
  readonly authorities?: Authorities | undefined;
}

export interface HttpAnswer {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  readonly text: string;
}

const TIMEOUT_MS = 10_000;

/** One request and its answer, whatever its status; redirects are not followed. @throws what Node's network throws */
export function askHttp(url: URL, options: HttpOptions, signal: AbortSignal): Promise<HttpAnswer> {
  return withPatience(TIMEOUT_MS, signal, (patience) => ask(url, options, patience));
}

async function ask(url: URL, options: HttpOptions, signal: AbortSignal): Promise<HttpAnswer> {
  const body = options.body === undefined ? null : JSON.stringify(options.body);
  const open = url.protocol === "https:" ? httpsRequest : httpRequest;
  const request = open(url, {
    method: options.method ?? "GET",
    headers: { accept: "application/json", ...(body === null ? {} : { "content-type": "application/json" }), ...options.headers },
    signal,
    ...trusting(options.authorities, url),
  });
  // Of an error after the answer has begun, the answer tells too.
  request.on("error", () => undefined);
  request.end(body ?? undefined);
  const [answer] = (await once(request, "response")) as [IncomingMessage];
  return { status: answer.statusCode ?? 0, headers: answer.headers, text: await text(answer) };
}

/** What to trust. Made when it is first needed and only once: reading a few hundred certificates takes a tenth of a second. */
export type Authorities = () => SecureContext;

/** Where systems keep what their owner trusts; the first that there is. Node does not look there. */
const systemStores = [
  "/etc/ssl/certs/ca-certificates.crt",
  "/etc/pki/tls/certs/ca-bundle.crt",
  "/etc/ssl/ca-bundle.pem",
  "/etc/ssl/cert.pem",
];

/** The certificates of these PEM files, beside Node's own and the system's. @throws CONFIG */
export async function readAuthorities(files: readonly string[]): Promise<Authorities> {
  const [named, system] = await Promise.all([Promise.all(files.map(readPem)), readSystemStore()]);
  let context: SecureContext | null = null;
  return () => (context ??= createSecureContext({ ca: [...rootCertificates, ...named, ...system] }));
}

/** As options of a request or an agent; none where nothing is to be trusted. */
export function trusting(authorities: Authorities | undefined, { protocol }: URL): { readonly secureContext?: SecureContext } {
  return authorities === undefined || protocol !== "https:" ? {} : { secureContext: authorities() };
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
    const code = cause instanceof Error && "code" in cause ? String(cause.code) : String(cause);
    throw new BackupError("CONFIG", `certificates to trust cannot be read: ${file} (${code})`, { hint });
  });
  if (pem.includes(CERTIFICATE)) return pem;
  throw new BackupError("CONFIG", `there is no certificate in ${file}`, { hint });
}
