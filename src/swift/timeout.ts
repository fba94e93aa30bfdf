// A time limit for work that obeys a signal.

/**
 * Does work under a signal that aborts with the caller's, or after this many milliseconds. Not AbortSignal.any with
 * AbortSignal.timeout: when nothing else references that, Node 20 collects it as garbage, and it never fires (seen on
 * 20.20).
 */
export async function withTimeout<Result>(
  milliseconds: number,
  signal: AbortSignal,
  work: (signal: AbortSignal) => Promise<Result>,
): Promise<Result> {
  const late = new AbortController();
  const timer = setTimeout(() => late.abort(), milliseconds);
  const stop = (): void => late.abort();
  signal.addEventListener("abort", stop, { once: true });
  if (signal.aborted) stop();
  try {
    return await work(late.signal);
  } finally {
    clearTimeout(timer);
    signal.removeEventListener("abort", stop);
  }
}
