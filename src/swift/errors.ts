// The meaning of a failed request: the one place where the SDK's names, HTTP status and errno become a BackupError.
// Messages and contexts carry only facts that the caller may read in a log; the SDK's errors, which hold entire
// responses, stay out.

import { abortedError, BackupError } from "../errors.ts";
import { isNoHttp, judgeByNetwork, judgeProxy, judgeRedirect } from "./reach.ts";
import type { Diagnosis } from "./tls.ts";
import { isDamaged, readErrorFacts, passes, type ErrorFacts } from "./error-facts.ts";

/** The subject of a request, and the server that it went to. */
export interface Request {
  readonly endpoint: URL;
  readonly container: string;
  /** Absent when the container itself was asked for. */
  readonly key?: string | undefined;
  /** Advice for when the keys are refused; depends on where they come from. */
  readonly refusalHint?: string | undefined;
  /** Through which it was asked, for people; null or absent: none. */
  readonly proxy?: string | null | undefined;
  /** True once this run has had an answer to a request that they signed. */
  readonly keysHaveWorked?: boolean | undefined;
  readonly signal: AbortSignal;
}

/** The error itself when it is ours; ABORTED when the signal has ended the request. */
export function translate(error: unknown, request: Request): BackupError {
  if (error instanceof BackupError) return error;
  if (request.signal.aborted) return abortedError(request.signal);
  const facts = readErrorFacts(error);
  const { code, message, hint } = judge(facts, request);
  const { container, key, endpoint } = request;
  return new BackupError(code, message, {
    hint,
    context: {
      endpoint: endpoint.host,
      container,
      key,
      error: facts.name,
      status: facts.status,
      attempts: facts.attempts,
    },
    // The SDK's error is not kept: loggers print every field of a cause, and it holds the request's answer.
    cause: new Error(`${facts.code ?? facts.name}: ${facts.message}`),
  });
}

/** An error for an answer that came from an S3 store and was damaged on its way. */
export function damagedAnswer(endpoint: URL): BackupError {
  return new BackupError("STORE_UNAVAILABLE", `an answer of ${endpoint.host} was damaged on its way`, {
    context: { endpoint: endpoint.host },
  });
}

/** By S3's code. */
const diagnoses: Readonly<Record<string, (facts: ErrorFacts, request: Request) => Diagnosis>> = {
  NoSuchBucket: (_, { container, endpoint }) => ({
    code: "CONTAINER_MISSING",
    message: `there is no container '${container}' at ${endpoint.host}`,
    hint: `check the name, or make it with \`openstack container create ${container}\` or \`swift post ${container}\``,
  }),
  NoSuchKey: (_, { container, key = "" }) => ({
    code: "ARCHIVE_MISSING",
    message: `there is no object '${key}' in container '${container}'`,
  }),
  // An object whose segments these credentials can read: see segments.ts.
  BrokenMPU: (_, { key = "" }) => ({
    code: "ARCHIVE_DAMAGED",
    message: `segments of '${key}' are missing in the store`,
  }),
  PreconditionFailed: (_, { key = "" }) => ({
    code: "ARCHIVE_DAMAGED",
    message: `'${key}' was changed while it was read`,
  }),
  InvalidBucketName: (_, { container }) => ({
    code: "CONFIG",
    message: `the store does not accept '${container}' as a container name`,
    hint:
      "use a container named with 3 to 63 lower-case letters, digits, dots and dashes; or ask the operator of the store" +
      " to set dns_compliant_bucket_names = false for s3api, which allows upper case and underscores too",
  }),
  // Swift's answer to a wrong access key too.
  SignatureDoesNotMatch: refusedCredentials,
  InvalidAccessKeyId: refusedCredentials,
  AccessDenied: (_, { container }) => ({
    code: "ACCESS_DENIED",
    message: `these credentials have no right to use container '${container}'`,
    hint: "the user needs read and write access to the project's containers",
  }),
  AuthorizationHeaderMalformed: ({ region }) => ({
    code: "CONFIG",
    message: region === null ? "the store expects another region" : `the store's region is '${region}'`,
    hint: `use --region ${region ?? "NAME"}`,
  }),
  RequestTimeTooSkewed: ({ date }) => ({
    code: "CONFIG",
    message: `this machine's clock is ${skew(date)}`,
    hint: "set it right, by NTP for example",
  }),
  // From other stores with an S3 API, such as Ceph.
  QuotaExceeded: (_, request) => overQuota(request),
  // From Swift's quotas (of an account or a container, in bytes or in objects), and for single objects that are too
  // long.
  EntityTooLarge: ({ message }, request) => (/quota/i.test(message) ? overQuota(request) : tooLarge(message, request)),
  CredentialsProviderError: (_, { refusalHint }) => ({
    code: "CONFIG",
    message: "there are no credentials for the store",
    hint: `${refusalHint ?? "check the AWS files"}; or set OS_* for a login at Keystone, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY`,
  }),
};

function refusedCredentials(_: ErrorFacts, { endpoint, refusalHint, keysHaveWorked = false }: Request): Diagnosis {
  if (keysHaveWorked) {
    return {
      code: "STORE_UNAVAILABLE",
      message: `${endpoint.host} refuses credentials that it accepted before in this run`,
      hint: "either it cannot ask Keystone at the moment, or the keys were deleted in the meantime: try again later",
    };
  }
  return {
    code: "ACCESS_DENIED",
    message: `${endpoint.host} refuses these credentials`,
    hint: refusalHint ?? "check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
  };
}

function overQuota({ container, endpoint }: Request): Diagnosis {
  return {
    code: "QUOTA_EXCEEDED",
    message: `${endpoint.host} accepts no more: a quota of the account or of container '${container}' is used up`,
    hint: "have the quota raised, or delete archives that nobody needs",
  };
}

function tooLarge(message: string, { key = "" }: Request): Diagnosis {
  return { code: "STREAM_TOO_LONG", message: `the store does not accept '${key}': ${message}` };
}

function judge(facts: ErrorFacts, request: Request): Diagnosis {
  const { endpoint, proxy = null, keysHaveWorked = false } = request;
  if (keysHaveWorked && isNoHttp(facts.code))
    return { code: "STORE_UNAVAILABLE", message: damagedAnswer(endpoint).message };
  return (
    diagnoses[facts.name]?.(facts, request) ?? judgeByNetwork(facts, endpoint, proxy) ?? judgeByStatus(facts, request)
  );
}

/** Diagnoses the way to a server; null when the error is of another kind. */
export function diagnoseNetwork(error: unknown, endpoint: URL, proxy: string | null): Diagnosis | null {
  return judgeByNetwork(readErrorFacts(error), endpoint, proxy);
}

function judgeByStatus(facts: ErrorFacts, { container, key, endpoint, proxy = null, signal }: Request): Diagnosis {
  const { status, name, message, location } = facts;
  const host = endpoint.host;
  if (status === 407) return judgeProxy(status, host, proxy);
  const redirect = status === null ? null : judgeRedirect(status, location, endpoint);
  if (redirect !== null) return redirect;
  if (status === null) return { code: "INTERNAL", message: `${name}: ${message}` };
  if (isDamaged(facts)) return { code: "STORE_UNAVAILABLE", message: damagedAnswer(endpoint).message };
  if (status === 413) return overQuota({ container, key, endpoint, signal });
  if (status === 501 || passes(facts)) {
    return {
      code: "STORE_UNAVAILABLE",
      message: `${host} answers ${String(status)} (${name === "Error" ? "no S3 error" : name})`,
    };
  }
  // Answers to a HEAD have no body, so the status is all there is.
  if (key !== undefined && status === 403) {
    return {
      code: "ACCESS_DENIED",
      message: `these credentials have no right to use '${key}' in container '${container}'`,
    };
  }
  if (key !== undefined && status === 404) {
    return { code: "ARCHIVE_MISSING", message: `there is no object '${key}' in container '${container}'` };
  }
  if (["Error", "Unknown", "NotFound"].includes(name)) {
    return {
      code: "CONFIG",
      message: `${host} does not answer like an S3 API (status ${String(status)})`,
      hint: `check the endpoint; Swift needs s3api in its proxy's pipeline${proxy === null ? "" : `; or the proxy ${proxy} answers`}`,
    };
  }
  return { code: "INTERNAL", message: `${host} refuses a request: ${name} (${message})` };
}

function skew(date: string | null): string {
  const store = date === null ? NaN : Date.parse(date);
  if (Number.isNaN(store)) return "more than 15 minutes off the store's";
  return describeClockSkew(Date.now() - store);
}

/** The end of a sentence about this machine's clock, from how far it is ahead. */
export function describeClockSkew(aheadMs: number): string {
  const minutes = Math.round(aheadMs / 60_000);
  return `${String(Math.abs(minutes))} minutes ${minutes < 0 ? "behind" : "ahead of"} the store's`;
}
