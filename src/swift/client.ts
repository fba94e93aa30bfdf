// The S3 client, tuned for Swift: every setting with its reason, measured on Swift 2.30 with SDK 3.117x.

import { Agent as HttpAgent } from "node:http";
import { Agent as HttpsAgent } from "node:https";
import { env } from "node:process";
import { Readable } from "node:stream";
import { S3Client, type S3ClientConfig } from "@aws-sdk/client-s3";
import { HttpRequest } from "@smithy/core/protocols";
import { NodeHttpHandler } from "@smithy/node-http-handler";
import { withDirectGets } from "./direct-get.ts";
import { trusting, type Network } from "./http.ts";
import { openRateLimiter, limitedBody, type OnSent, type RateLimiter } from "./rate-limit.ts";
import { ANOTHER_ANSWERS, mayPass } from "./reach.ts";
import { retryFor, type Log } from "./retry-strategy.ts";

/** An S3 key pair. */
export interface Credentials {
  readonly accessKeyId: string;
  readonly secretAccessKey: string;
  readonly sessionToken?: string | undefined;
}

export interface ClientOptions {
  readonly endpoint: URL;
  readonly region: string;
  /** Null: the SDK's own chain. */
  readonly credentials: Credentials | null;
  /** In the AWS files, for the SDK's chain; null or absent: the one in force there. */
  readonly profile?: string | null;
  /** Absent: no proxy, and only Node's own certificate authorities are trusted. */
  readonly network?: Network;
  /** How long after its first failure a request may still be tried again. */
  readonly retryForMs: number;
  /** True when the store has accepted the keys already: if it refuses them later, the request is still retried. */
  readonly keysHaveWorked?: boolean;
  /** True when the store's answers bear ids: a refusal without is another server's, and the request is retried. */
  readonly answersHaveIds?: boolean;
  /** A connection on which no byte has moved for this long is closed, and the request is retried. */
  readonly stallMs: number;
  /** `name/version` */
  readonly userAgent: string;
  readonly log: Log | undefined;
  /** Limit for all uploads together; null = no limit. */
  readonly uploadBytesPerSecond: number | null;
  /** Added to this machine's clock, gives the store's, as far as it is known. */
  readonly clockOffsetMs?: number;
}

/** Clients that share their connections. */
export interface Clients {
  /** Its requests have no signal of their own: pass one to each. */
  readonly client: S3Client;
  /**
   * A client whose requests end with the signal, also those that the caller cannot reach: lib-storage gives its
   * requests no signal, and waits between attempts. Creating and completing an upload end with `lateSignal`, as a lost
   * answer to them would leave us ignorant of what the store has done.
   */
  bind(signal: AbortSignal, lateSignal: AbortSignal, onSent?: OnSent): S3Client;
  /** Ends connections and waits. */
  close(): void;
}

const CONNECT_TIMEOUT_MS = 10_000;
/** Shorter bodies are sent at once. */
const LEAST_SLICED_BYTES = 64 * 1024;

export function openClients(options: ClientOptions): Clients {
  silenceSdk();
  const closing = new AbortController();
  const plain = traced(directly(openHandler(options, closing.signal), options, closing.signal), options.log);
  const handler = options.answersHaveIds === true ? rejectingOthers(plain, options.endpoint) : plain;
  const settings = clientSettings(options);
  const retry = { forMs: options.retryForMs, log: options.log, keysHaveWorked: options.keysHaveWorked };
  const client = new S3Client({
    ...settings,
    requestHandler: handler,
    retryStrategy: retryFor({ ...retry, signal: closing.signal }),
  });

  const pace = openRateLimiter(options.uploadBytesPerSecond);

  function bind(signal: AbortSignal, lateSignal: AbortSignal, onSent: OnSent = () => undefined): S3Client {
    const bound: Handler = {
      metadata: handler.metadata,
      handle: async (request, handlerOptions) =>
        handler.handle(inSlices(request, pace, onSent), {
          ...handlerOptions,
          abortSignal: request.method === "POST" ? lateSignal : signal,
        }),
      updateHttpClientConfig: () => undefined,
      httpHandlerConfigs: () => handler.httpHandlerConfigs(),
    };
    const uploader = new S3Client({
      ...settings,
      credentials: client.config.credentials,
      // Otherwise each of its first parts would be refused because of its time, and sent again.
      systemClockOffset: client.config.systemClockOffset,
      requestHandler: bound,
      retryStrategy: retryFor({ ...retry, signal: AbortSignal.any([signal, closing.signal]) }),
    });
    leavePayloadUnsigned(uploader);
    return uploader;
  }

  return {
    client,
    bind,
    close() {
      closing.abort();
      client.destroy();
    },
  };
}

/** The MD5 is signed, needed for the ETag anyway, and enough; a SHA-256 as well would cost 0.6 CPU seconds a GiB. */
function leavePayloadUnsigned({ middlewareStack }: S3Client): void {
  middlewareStack.add(
    (next) => async (args) => {
      const { request } = args;
      if (HttpRequest.isInstance(request) && "content-md5" in request.headers) {
        request.headers["x-amz-content-sha256"] = "UNSIGNED-PAYLOAD";
      }
      return next(args);
    },
    { step: "build", name: "leavePayloadUnsigned" },
  );
}

type HandledRequest = Parameters<NodeHttpHandler["handle"]>[0];

/**
 * A copy of the request, with its body in slices. The original is not changed, because it may have to be sent again.
 */
function inSlices(request: HandledRequest, pace: RateLimiter, onSent: OnSent): HandledRequest {
  const body: unknown = request.body;
  if (!(body instanceof Uint8Array) || body.length <= LEAST_SLICED_BYTES) return request;
  const sliced = HttpRequest.clone(request);
  sliced.body = limitedBody(body, pace, onSent);
  return sliced;
}

/** Logs each request, its answer, and how long that took. */
function traced(handler: NodeHttpHandler, log: Log | undefined): NodeHttpHandler {
  const handle = handler.handle.bind(handler);
  handler.handle = async (request, options) => {
    const started = performance.now();
    const asked = { method: request.method, path: request.path, query: request.query };
    const logOutcome = (outcome: object): void =>
      log?.trace?.({ ...asked, ...outcome, elapsedMs: Math.round(performance.now() - started) }, "request");
    try {
      const answer = await handle(request, options);
      logOutcome({ status: answer.response.statusCode });
      return answer;
    } catch (error) {
      logOutcome({ error: error instanceof Error ? error.name : String(error) });
      throw error;
    }
  };
  return handler;
}

/**
 * Fails for refusals that the store did not write. A load balancer or a proxy between may answer 403 or 404 while it finds
 * no store behind it, and taken for the store's that would say that an archive is gone.
 */
function rejectingOthers(handler: NodeHttpHandler, { host }: URL): NodeHttpHandler {
  const handle = handler.handle.bind(handler);
  handler.handle = async (request, options) => {
    const answer = await handle(request, options);
    const { statusCode, headers } = answer.response;
    const body: unknown = answer.response.body;
    const isRefusal = statusCode >= 400 && statusCode < 500 && statusCode !== 407;
    if (!isRefusal || mayPass(statusCode) || "x-amz-request-id" in headers) return answer;
    if (body instanceof Readable) body.resume();
    const message = `another server answers in place of ${host} (status ${String(statusCode)})`;
    throw Object.assign(new Error(message), { code: ANOTHER_ANSWERS });
  };
  return handler;
}

/** Reads large answers directly, where no proxy is between. */
function directly(handler: NodeHttpHandler, options: ClientOptions, signal: AbortSignal): NodeHttpHandler {
  const { endpoint, network, stallMs } = options;
  if ((network?.describeProxy(endpoint) ?? null) !== null) return handler;
  const direct = { endpoint, ...trusting(network, endpoint), connectTimeoutMs: CONNECT_TIMEOUT_MS, stallMs };
  return withDirectGets(handler, direct, signal);
}

type Handler = Pick<NodeHttpHandler, "metadata" | "handle" | "updateHttpClientConfig" | "httpHandlerConfigs">;

function openHandler({ endpoint, stallMs, log, network }: ClientOptions, signal: AbortSignal): NodeHttpHandler {
  // The number of simultaneous requests is decided above; a limit on sockets as well could only make them wait for each
  // other.
  const agent = { keepAlive: true, maxSockets: Infinity };
  const proxied = network?.openProxyAgent(endpoint, true, signal) ?? null;
  return new NodeHttpHandler({
    httpAgent: proxied ?? new HttpAgent(agent),
    httpsAgent: proxied ?? new HttpsAgent({ ...agent, ...trusting(network, endpoint) }),
    connectionTimeout: CONNECT_TIMEOUT_MS,
    // Not requestTimeout: a part on a slow line may take an hour, as long as its bytes move.
    socketTimeout: stallMs,
    // It would otherwise warn on the console.
    logger: handlerLog(log),
  });
}

function clientSettings(options: ClientOptions): S3ClientConfig {
  return {
    endpoint: options.endpoint.href,
    region: options.region,
    systemClockOffset: options.clockOffsetMs ?? 0,
    ...(options.credentials === null ? {} : { credentials: keyPair(options.credentials) }),
    ...(options.profile == null ? {} : { profile: options.profile }),
    customUserAgent: options.userAgent,
    // Swift answers under its own name only: <bucket>.<host> does not resolve.
    forcePathStyle: true,
    // s3api before 2.35 refuses streams with trailing checksums (501), and never looks at x-amz-checksum-*.
    requestChecksumCalculation: "WHEN_REQUIRED",
    responseChecksumValidation: "WHEN_REQUIRED",
    // The SDK would open a new connection, with a new TLS handshake, for every part.
    expectContinueHeader: false,
    // Features of Amazon's own endpoints. Named here so that neither the environment nor ~/.aws/config turns them on.
    followRegionRedirects: false,
    disableS3ExpressSessionAuth: true,
    disableMultiregionAccessPoints: true,
    useArnRegion: false,
    useDualstackEndpoint: false,
    useFipsEndpoint: false,
    defaultsMode: "standard",
  };
}

function keyPair({ accessKeyId, secretAccessKey, sessionToken }: Credentials) {
  return { accessKeyId, secretAccessKey, ...(sessionToken === undefined ? {} : { sessionToken }) };
}

function handlerLog(log: Log | undefined) {
  const debug = (...content: readonly unknown[]): void => log?.debug({ content }, "http");
  return { trace: debug, debug, info: debug, warn: debug, error: debug };
}

/**
 * On Node before 22 the SDK writes NodeVersionSupportWarning on stderr when its first client is made, unless this
 * variable is set. The version here is pinned, so the warning is not for those who run this tool.
 */
function silenceSdk(): void {
  env["AWS_SDK_JS_NODE_VERSION_SUPPORT_WARNING_DISABLED"] = "true";
}
