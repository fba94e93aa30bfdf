// The one loop that tries again, for every edge that waits for somebody else's server. What may pass, and how long that
// is worth waiting for, is the caller's decision.

import { setTimeout as sleep } from "node:timers/promises";
import { abortedError } from "./errors.ts";

const FIRST_DELAY_MS = 200;
const LONGEST_DELAY_MS = 10_000;

/** Milliseconds before the attempt after `failures` failed ones: doubling, with jitter so that parallel parts drift apart. */
export function backoffMs(failures: number): number {
  const longest = Math.min(LONGEST_DELAY_MS, FIRST_DELAY_MS * 2 ** Math.min(failures - 1, 16));
  return longest * (0.5 + Math.random() / 2);
}

export interface RetryOptions {
  /** How long after its beginning another attempt may begin. */
  readonly forMs: number;
  /** So many attempts are made however long they take; absent: one. */
  readonly leastAttempts?: number;
  /** Whether a failure may pass; absent: every one. */
  readonly when?: (error: unknown) => boolean;
  /** Milliseconds before the attempt after so many failed ones; absent: {@link backoffMs}. */
  readonly delayMs?: (failures: number) => number;
  /** Called before each wait. `untilMs`: when it ends, in milliseconds since the beginning. */
  readonly onWait?: (error: unknown, untilMs: number) => void;
}

/** Waits before the next attempt, after a failure. @throws the failure itself when there is no next attempt; ABORTED */
export type Backoff = (error: unknown) => Promise<void>;

/** The waits between the attempts at one thing, which begins now. */
export function openBackoff(options: RetryOptions, signal: AbortSignal): Backoff {
  const { forMs, leastAttempts = 1, when = () => true, delayMs = backoffMs, onWait } = options;
  const started = performance.now();
  let failures = 0;
  return async (error) => {
    if (signal.aborted) throw abortedError(signal);
    if (!when(error)) throw error;
    failures += 1;
    const delay = delayMs(failures);
    const until = performance.now() - started + delay;
    if (failures >= leastAttempts && until > forMs) throw error;
    onWait?.(error, until);
    await sleep(delay, undefined, { signal }).catch(() => {
      throw abortedError(signal);
    });
  };
}

/**
 * Does work, and does it again after a failure that may pass.
 * @param work - is given the number of the attempt, from 1
 * @throws its last failure; ABORTED
 */
export async function retry<Result>(
  work: (attempt: number) => Promise<Result>,
  options: RetryOptions,
  signal: AbortSignal,
): Promise<Result> {
  const waitAfter = openBackoff(options, signal);
  for (let attempt = 1; ; attempt += 1) {
    try {
      return await work(attempt);
    } catch (error) {
      await waitAfter(error);
    }
  }
}
