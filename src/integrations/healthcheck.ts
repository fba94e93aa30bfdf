// Pings of a healthcheck service, such as healthchecks.io.

import { request as httpRequest } from "node:http";
import { request as httpsRequest } from "node:https";
import { BackupError, toError } from "../errors.ts";
import { retry, type RetryOptions } from "../retry.ts";

const TIMEOUT_MS = 10_000;
const twice: RetryOptions = { leastAttempts: 2, forMs: 0, delayMs: () => 1_000 };
/** A run that was stopped reports that too. */
const neverAborted = new AbortController().signal;

/** A healthcheck service that receives the beginning and the end of a run. */
export interface Ping {
  /** Reports that the run begins; nobody waits for the answer. */
  start(): void;
  /** Reports how the run ended. Never fails, and takes no longer than about 20 s. */
  end(exitCode: number): Promise<void>;
}

/**
 * Pings as healthchecks.io expects: `URL/start`, `URL` after success, `URL/<exit code>` after failure.
 * @param warn - called when the service does not answer; the sentence omits the URL's path, which is a secret
 * @throws USAGE when it is not a URL
 */
export function openPing(text: string, warn: (sentence: string) => void): Ping {
  const base = parseUrl(text);
  let started: Promise<void> = Promise.resolve();
  const ping = async (ending: string): Promise<void> => {
    const url = new URL(base);
    if (ending !== "") url.pathname = `${url.pathname.replace(/\/$/, "")}/${ending}`;
    await retry(() => ask(url), twice, neverAborted).catch((error: unknown) =>
      warn(`the ping to the healthcheck service at ${base.host} failed: ${toError(error).message}`),
    );
  };
  return {
    start: () => {
      started = ping("start");
    },
    end: async (exitCode) => {
      await started;
      await ping(exitCode === 0 ? "" : String(exitCode));
    },
  };
}

function parseUrl(text: string): URL {
  const url = URL.canParse(text) ? new URL(text) : null;
  if (url !== null && /^https?:$/.test(url.protocol)) return url;
  throw new BackupError("USAGE", "--ping-url takes a URL of the form https://host/path");
}

/** Resolves when the service has answered well. @throws Error with the problem */
function ask(url: URL): Promise<void> {
  const open = url.protocol === "https:" ? httpsRequest : httpRequest;
  return new Promise((resolve, reject) => {
    const request = open(url, { signal: AbortSignal.timeout(TIMEOUT_MS), agent: false }, (answer) => {
      answer.resume();
      const { statusCode = 0 } = answer;
      if (statusCode >= 200 && statusCode < 300) resolve();
      else reject(new Error(`it answered ${statusCode}`));
    });
    request.on("error", (error) =>
      reject(error.name === "AbortError" || error.name === "TimeoutError" ? new Error("no answer") : error),
    );
    request.end();
  });
}
