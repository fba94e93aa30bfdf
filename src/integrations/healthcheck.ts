import { request as httpRequest } from "node:http";
import { request as httpsRequest } from "node:https";
import { setTimeout as sleep } from "node:timers/promises";
import { BackupError } from "../errors.ts";

const TIMEOUT_MS = 10_000;
const ATTEMPTS = 2;
const PAUSE_MS = 1_000;

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
    for (let attempt = 1; attempt <= ATTEMPTS; attempt += 1) {
      const problem = await ask(url).catch((error: unknown) =>
        error instanceof Error ? error.message : String(error),
      );
      if (problem === null) return;
      if (attempt === ATTEMPTS) warn(`the healthcheck service at ${base.host} was not told: ${problem}`);
      else await sleep(PAUSE_MS);
    }
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

/** Null when the service answered well, else the problem. */
function ask(url: URL): Promise<string | null> {
  const open = url.protocol === "https:" ? httpsRequest : httpRequest;
  return new Promise((resolve, reject) => {
    const request = open(url, { signal: AbortSignal.timeout(TIMEOUT_MS), agent: false }, (answer) => {
      answer.resume();
      const { statusCode = 0 } = answer;
      resolve(statusCode >= 200 && statusCode < 300 ? null : `it answered ${statusCode}`);
    });
    request.on("error", (error) =>
      reject(error.name === "AbortError" || error.name === "TimeoutError" ? new Error("no answer") : error),
    );
    request.end();
  });
}
