// When the SDK tries a request again, and how long it waits. The bound is time, not a count: three attempts, the SDK's
// default, are over in a second, while a proxy that is restarted is gone for longer (measured).

import { setMaxListeners } from "node:events";
import { setTimeout as sleep } from "node:timers/promises";
import type { RetryErrorInfo, RetryStrategyV2, RetryToken } from "@smithy/types";
import { backoffMs } from "../retry.ts";
import {
  describeError,
  isDamagedAnswer,
  isNotImplemented,
  isOfAnother,
  isRefusal,
  isUnparsable,
  refusesKeys,
  isTransient,
} from "./error-facts.ts";

/** As much of a logger as is used here. */
export interface Log {
  debug(fields: object, message: string): void;
  warn(fields: object, message: string): void;
  trace?(fields: object, message: string): void;
}

/**
 * How long a server that was never reached is asked again, unless the caller wants otherwise: its name may be a typing
 * mistake.
 */
export const FIRST_CONTACT_MS = 3_000;
/** How long requests fail before that is worth a warning. */
export const QUIET_MS = 3_000;

/** For people: `15 min`, `20 s`. */
export function describePatience(milliseconds: number): string {
  const seconds = Math.round(milliseconds / 1000);
  return seconds < 120 ? `${String(seconds)} s` : `${String(Math.round(seconds / 60))} min`;
}

interface RetryOptions {
  /** How long after its first failure a request may still be tried again. */
  readonly forMs: number;
  readonly log: Log | undefined;
  /** True once the store has taken the keys in this run: that it refuses them later may pass. */
  readonly keysHaveWorked?: boolean | undefined;
  /** Ends every wait. */
  readonly signal: AbortSignal;
}

/**
 * The SDK's retry strategy, bounded by time. (Its own also counts failures of all requests together, and with several
 * parts in flight that budget is gone long before a restart of the store is over.)
 */
export function retryFor({ forMs, log, keysHaveWorked = false, signal }: RetryOptions): RetryStrategyV2 {
  // Each request that waits for its next attempt listens to it; Node takes more than ten for a leak, and says so on stderr.
  setMaxListeners(0, signal);
  const firstFailures = new WeakMap<RetryToken, number>();
  let failingSince: number | null = null;
  let warned = false;

  /** @param until - the time of the next attempt */
  function recordFailure(now: number, until: number, info: RetryErrorInfo): void {
    failingSince ??= now;
    const error = describeError(info.error);
    log?.debug({ error }, "request failed");
    if (warned || until - failingSince < QUIET_MS) return;
    warned = true;
    log?.warn({ error, patienceMs: forMs }, `waiting for the store, for up to ${describePatience(forMs)}`);
  }

  async function refresh(token: RetryToken, info: RetryErrorInfo): Promise<RetryToken> {
    const now = performance.now();
    const first = firstFailures.get(token) ?? now;
    const failures = token.getRetryCount() + 1;
    const hintMs = info.retryAfterHint === undefined ? 0 : info.retryAfterHint.getTime() - Date.now();
    const delay = Math.max(backoffMs(failures), hintMs);
    const hasAnswered = keysHaveWorked && (refusesKeys(info.error) || isUnparsable(info.error));
    const mayPass = mayRetry(info, failures) || hasAnswered;
    if (!mayPass) throw new Error("not to be tried again");
    recordFailure(now, now + delay, info);
    if (now + delay > first + forMs) throw new Error("no time left");
    await sleep(delay, undefined, { signal });
    const next = retryToken(failures);
    firstFailures.set(next, first);
    return next;
  }

  return {
    acquireInitialRetryToken: async () => Promise.resolve(retryToken(0)),
    refreshRetryTokenForRetry: refresh,
    recordSuccess() {
      failingSince = null;
      warned = false;
    },
  };
}

function retryToken(count: number): RetryToken {
  return { getRetryCount: () => count, getRetryDelay: () => 0 };
}

function mayRetry({ error, errorType }: RetryErrorInfo, failures: number): boolean {
  if (isNotImplemented(error)) return false;
  if (isDamagedAnswer(error) || isOfAnother(error)) return true;
  if (errorType === "THROTTLING" || errorType === "SERVER_ERROR" || isTransient(error)) return true;
  // The SDK has by now corrected its offset. It then calls every refusal transient, of which only one for the time was.
  if (isClockSkew(error)) return failures === 1;
  return errorType === "TRANSIENT";
}

/** Beside what Swift says, the SDK's mark on every failure while this machine's clock is four minutes off (3.1173). */
function isClockSkew(error: RetryErrorInfo["error"]): boolean {
  if (error?.name === "RequestTimeTooSkewed") return true;
  return isRefusal(error) && error !== undefined && "$metadata" in error && error.$metadata.clockSkewCorrected === true;
}
