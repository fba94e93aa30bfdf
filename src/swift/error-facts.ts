// The facts in an error of the SDK: its status, code and cause, and the questions that retries and uploads ask about
// it.

import { field, text } from "../json.ts";
import { ANOTHER_ANSWERS, isNoHttp, mayPass } from "./reach.ts";

/** The facts that show the kind of an error of the SDK or of Node's network. */
export interface ErrorFacts {
  /** S3's code; `Unknown` or `NotFound` when the answer had no body, as to a HEAD. */
  readonly name: string;
  readonly message: string;
  /** Null when there was no answer. */
  readonly status: number | null;
  /** A code of the operating system, of TLS or of the HTTP parser. */
  readonly code: string | null;
  /** The right one, in AuthorizationHeaderMalformed. */
  readonly region: string | null;
  /** The store's clock, from its answer's Date header. */
  readonly date: string | null;
  /** The hosts for which a refused certificate is valid. */
  readonly altNames: string | null;
  /** The target of a redirect. */
  readonly location: string | null;
  readonly attempts: number;
  /** The id that an S3 store gave the request; null when none did. */
  readonly requestId: string | null;
}

/** The region that the store expects; null when the error is another one. */
export function expectedRegion(error: unknown): string | null {
  const { name, region } = readErrorFacts(error);
  return name === "AuthorizationHeaderMalformed" ? region : null;
}

/** The error in a word or two, for the log. */
export function describeError(error: unknown): string {
  const { code, name, status } = readErrorFacts(error);
  return status === null ? (code ?? name) : `${name} (${String(status)})`;
}

/** True for a refusal of the first and only attempt: no attempt before it can still be at work in the store. */
export function isFinalRefusal(error: unknown): boolean {
  return isRefusal(error) && readErrorFacts(error).attempts === 1;
}

/** True for a refusal to complete an upload of these parts. */
export function refusesParts(error: unknown): boolean {
  return ["InvalidPart", "InvalidPartOrder", "EntityTooSmall", "MalformedXML"].includes(readErrorFacts(error).name);
}

/** True for an unintelligible answer of an S3 store that has carried out the request. */
export function isDamagedAnswer(error: unknown): boolean {
  return isDamaged(readErrorFacts(error));
}

export function isDamaged({ status, requestId }: ErrorFacts): boolean {
  return status !== null && status >= 200 && status < 300 && requestId !== null;
}

/** True when the store does not implement the request, so that a retry is useless. */
export function isNotImplemented(error: unknown): boolean {
  return readErrorFacts(error).status === 501;
}

/** True for a refusal of the kind that leaves the store as it was, and would be repeated. */
export function isRefusal(error: unknown): boolean {
  const facts = readErrorFacts(error);
  return facts.status !== null && facts.status >= 400 && facts.status < 500 && !passes(facts);
}

/**
 * True when the store reports that it does not know the user. Swift also reports that while it cannot ask Keystone: its
 * s3token takes every answer of Keystone but 2xx, a 429 or 503 as well, for a refusal (2.30 to 2.38). A lack of rights
 * is another error, AccessDenied.
 */
export function refusesKeys(error: unknown): boolean {
  return ["SignatureDoesNotMatch", "InvalidAccessKeyId"].includes(readErrorFacts(error).name);
}

/** True for a refusal without a reason, as a HEAD gets it: of the keys, or of the action. */
export function isMuteRefusal(error: unknown): boolean {
  const { status, name } = readErrorFacts(error);
  return status === 403 && name === "Unknown";
}

/** True when the store cannot put the parts of an object together. */
export function isBroken(error: unknown): boolean {
  return readErrorFacts(error).name === "BrokenMPU";
}

/** True when there is no such key, or no such upload. */
export function isMissing(error: unknown): boolean {
  return readErrorFacts(error).status === 404;
}

export function readErrorFacts(error: unknown): ErrorFacts {
  const metadata = field(error, "$metadata");
  const status = field(metadata, "httpStatusCode");
  const attempts = field(metadata, "attempts");
  const headers = field(field(error, "$response"), "headers");
  return {
    name: text(error, "name") ?? "Error",
    message: (text(error, "message") ?? "").split("\n", 1)[0] ?? "",
    status: typeof status === "number" ? status : null,
    code: text(error, "code"),
    region: text(error, "Region"),
    altNames: text(field(error, "cert"), "subjectaltname"),
    date: text(headers, "date"),
    location: text(headers, "location"),
    attempts: typeof attempts === "number" ? attempts : 1,
    requestId: text(metadata, "requestId"),
  };
}

/** True for an answer that is not HTTP: of a server of another kind, or damaged on its way. */
export function isUnparsable(error: unknown): boolean {
  return isNoHttp(readErrorFacts(error).code);
}

/** True for an answer that another server has given: see {@link ANOTHER_ANSWERS}. */
export function isOfAnother(error: unknown): boolean {
  return readErrorFacts(error).code === ANOTHER_ANSWERS;
}

/** True for a refusal that no S3 store words like that: it has neither its id, nor a code of S3. */
export function isNoS3Refusal(error: unknown): boolean {
  const { requestId, name } = readErrorFacts(error);
  return isRefusal(error) && requestId === null && ["Error", "Unknown", "NotFound"].includes(name);
}

/** True for an answer that says nothing against the request: the same request may be accepted a moment later. */
export function isTransient(error: unknown): boolean {
  return passes(readErrorFacts(error));
}

/** The errors about bytes that changed, were lost or came too slowly on the way; s3api answers 400 to them. */
const TRANSIENT: readonly string[] = ["BadDigest", "IncompleteBody", "RequestTimeout"];

/**
 * A completion is refused as InvalidRequest (400) when Swift could not check a part: the message then names the parts,
 * each with the status it met (`/CONTAINER/PART: 503 Service Unavailable`, Swift 2.30 to 2.38).
 */
const PART_STATUS = /: (\d{3}) [A-Z][\w ]*$/;

export function passes({ status, name, message }: ErrorFacts): boolean {
  const ofPart = name === "InvalidRequest" ? PART_STATUS.exec(message)?.[1] : undefined;
  if (TRANSIENT.includes(name) || (ofPart !== undefined && mayPass(Number(ofPart)))) return true;
  return status !== null && status !== 501 && mayPass(status);
}
