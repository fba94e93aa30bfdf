// Waits that end: with a signal, or in time.

import { setTimeout as sleep } from "node:timers/promises";

/** Calls back once when the signal is or becomes aborted, unless `until` settles first. */
export function onAbort(signal: AbortSignal, until: Promise<unknown>, callback: () => void): void {
  if (signal.aborted) return callback();
  signal.addEventListener("abort", callback, { once: true });
  const forget = (): void => signal.removeEventListener("abort", callback);
  until.then(forget, forget);
}

/** True when the promise settles in time, well or not. */
export async function settlesWithin(promise: Promise<unknown>, milliseconds: number): Promise<boolean> {
  const timer = new AbortController();
  const late = sleep(milliseconds, false, { signal: timer.signal }).catch(() => false);
  const settled = promise.then(
    () => true,
    () => true,
  );
  const inTime = await Promise.race([settled, late]);
  timer.abort();
  return inTime;
}
