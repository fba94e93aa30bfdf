// Diagnoses the way to a server: its name, the connection, TLS, a proxy, a redirection.

import { hostAndPort, judgeTls, type Diagnosis } from "./tls.ts";

interface NetworkError {
  readonly name: string;
  readonly message: string;
  readonly code: string | null;
  readonly altNames: string | null;
}

/**
 * True for a status that says nothing against the request: too late (408, which Swift also answers when a body came too
 * slowly), too early, too many, or a failure of the server. The same request may succeed a moment later.
 */
export function mayPass(status: number): boolean {
  return status >= 500 || status === 408 || status === 425 || status === 429;
}

/** True for the code of Node's parser, for an answer that is not HTTP. */
export function isNoHttp(code: string | null): boolean {
  return code?.startsWith("HPE_") === true;
}

/** The code of an error for an answer that another server gave, such as a load balancer that finds no store behind it. */
export const ANOTHER_ANSWERS = "ANOTHER_ANSWERS";

/** Null when the error is of another kind. `proxy`: between us and the server, for people. */
export function judgeByNetwork(
  { code, message, name, altNames }: NetworkError,
  endpoint: URL,
  proxy: string | null,
): Diagnosis | null {
  const where = hostAndPort(endpoint);
  const ofTls = code === null ? null : judgeTls({ code, message, altNames }, endpoint);
  if (ofTls !== null) return ofTls;
  const status = /^EPROXY(\d+)$/.exec(code ?? "")?.[1];
  if (status !== undefined) return judgeProxy(Number(status), where, proxy);
  if (isNoHttp(code)) return { code: "CONFIG", message: `${where} does not speak HTTP`, hint: "check the URL" };
  // The first connection is the one to the proxy.
  if (code === "ENOTFOUND") {
    const subject = proxy === null ? `the name ${endpoint.hostname}` : "the proxy's name";
    return { code: "STORE_UNAVAILABLE", message: `${subject} cannot be resolved (${proxy ?? where})` };
  }
  if (code === "ECONNREFUSED") {
    return {
      code: "STORE_UNAVAILABLE",
      message: `nothing answers at ${proxy === null ? where : `the proxy ${proxy}`}`,
    };
  }
  if (code === ANOTHER_ANSWERS) return { code: "STORE_UNAVAILABLE", message };
  const way = proxy === null ? where : `${where}, through the proxy ${proxy},`;
  // The SDK calls a reset connection a TimeoutError as well.
  if (code !== null && code !== "ABORT_ERR")
    return { code: "STORE_UNAVAILABLE", message: `the connection to ${way} failed (${code})` };
  const isLate = name === "TimeoutError" || name === "AbortError";
  return isLate ? { code: "STORE_UNAVAILABLE", message: `${way} did not answer in time` } : null;
}

/** Recognises an answer that a proxy gave by itself. */
export function judgeProxy(status: number, where: string, proxy: string | null): Diagnosis {
  if (status === 407) {
    return {
      code: "CONFIG",
      message: `the proxy ${proxy ?? ""} requires a user and a password`,
      hint: "write them into the variable: http://USER:PASSWORD@host:port",
    };
  }
  return {
    code: "CONFIG",
    message: `the proxy ${proxy ?? ""} does not let us connect to ${where} (status ${String(status)})`,
    hint: "have it allow that, or name the host in no_proxy to connect directly",
  };
}

/** Explains a redirection. It is never followed: a signature holds for one host only. Null for another answer. */
export function judgeRedirect(status: number, location: string | null, asked: URL): Diagnosis | null {
  if (![301, 302, 303, 307, 308].includes(status) || location === null || !URL.canParse(location, asked.href))
    return null;
  const { origin, protocol } = new URL(location, asked);
  const isTls = protocol === "https:" && asked.protocol === "http:";
  return {
    code: "CONFIG",
    message: `${hostAndPort(asked)} redirects to ${origin}${isTls ? ", which speaks TLS" : ""}`,
    hint: `if that is the server you mean, use ${origin}`,
  };
}
