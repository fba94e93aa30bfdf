/**
 * Does work under a signal that aborts with the caller's, and after so many milliseconds. Not AbortSignal.any with
 * AbortSignal.timeout: when nobody else holds that, Node 20 takes it for garbage, and it never comes (seen on 20.20).
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
