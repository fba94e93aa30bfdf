// Requests that are not S3's: to Keystone, and to Swift's own API. Not fetch, because authorities of one's own can be
// given to that only through the environment of the process.

import { once } from "node:events";
import { readFile } from "node:fs/promises";
import { request as httpRequest, type IncomingHttpHeaders, type IncomingMessage } from "node:http";
import { request as httpsRequest } from "node:https";
import { env } from "node:process";
import { text } from "node:stream/consumers";
import { rootCertificates } from "node:tls";
import { BackupError } from "../errors.ts";
import { withPatience } from "./patience.ts";

export interface HttpOptions {
  readonly method?: string;
  readonly headers?: Readonly<Record<string, string>>;
  /** Sent as JSON. */
  readonly body?: unknown;
  /** Null: those that Node trusts by itself. */
  readonly authorities: readonly string[] | null;
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
    ...(options.authorities === null ? {} : { ca: [...options.authorities] }),
  });
  // Of an error after the answer has begun, the answer tells too.
  request.on("error", () => undefined);
  request.end(body ?? undefined);
  const [answer] = (await once(request, "response")) as [IncomingMessage];
  return { status: answer.statusCode ?? 0, headers: answer.headers, text: await text(answer) };
}

/**
 * The certificates of these PEM files, together with those trusted anyway: naming some to Node takes the place of its
 * own. Null when there are no such files. @throws CONFIG
 */
export async function readAuthorities(files: readonly string[]): Promise<readonly string[] | null> {
  if (files.length === 0) return null;
  const extra = env["NODE_EXTRA_CA_CERTS"];
  const named = await Promise.all(files.map(readPem));
  const known = extra === undefined ? "" : await readFile(extra, "utf8").catch(() => "");
  return [...rootCertificates, ...named, ...(known === "" ? [] : [known])];
}

async function readPem(file: string): Promise<string> {
  const pem = await readFile(file, "utf8").catch((cause: unknown) => {
    const code = cause instanceof Error && "code" in cause ? String(cause.code) : String(cause);
    throw new BackupError("CONFIG", `the certificates of OS_CACERT or AWS_CA_BUNDLE cannot be read: ${file} (${code})`);
  });
  if (pem.includes("-----BEGIN CERTIFICATE-----")) return pem;
  throw new BackupError("CONFIG", `there is no certificate in ${file}`, { hint: "OS_CACERT and AWS_CA_BUNDLE name PEM files" });
}
