// Requests to Keystone, which are retried for a while.

import { setTimeout as sleep } from "node:timers/promises";
import { abortedError, BackupError, toBackupError } from "../../errors.ts";
import { networkVerdict } from "../errors.ts";
import { askHttp, type HttpAnswer, type HttpOptions } from "../http.ts";
import { mayPass } from "../reach.ts";
import { backoffMs, describePatience, FIRST_CONTACT_MS, QUIET_MS } from "../retry.ts";

/** A request to Keystone. Failures that may pass are retried for a while. @throws CONFIG, STORE_UNAVAILABLE, ABORTED */
export async function ask(
  url: string,
  options: HttpOptions,
  signal: AbortSignal,
  patienceMs = options.network?.retryForMs ?? FIRST_CONTACT_MS,
): Promise<HttpAnswer> {
  const started = performance.now();
  let isQuiet = true;
  for (let failures = 1; ; failures += 1) {
    const outcome = await askHttp(new URL(url), options, signal).catch((error: unknown) =>
      explainNetwork(error, url, { ...options, signal }),
    );
    const passes = outcome instanceof BackupError ? outcome.retryable : mayPass(outcome.status);
    const delay = backoffMs(failures);
    if (!passes) {
      if (outcome instanceof BackupError) throw outcome;
      return outcome;
    }
    const failure = outcome instanceof BackupError ? outcome : unavailable(url, outcome.status);
    if (performance.now() + delay > started + patienceMs) throw failure;
    if (isQuiet && performance.now() + delay > started + QUIET_MS) {
      isQuiet = false;
      options.network?.log?.warn(
        { error: failure.message, patienceMs },
        `waiting for Keystone, for up to ${describePatience(patienceMs)}`,
      );
    }
    await sleep(delay, undefined, { signal }).catch(() => undefined);
    if (signal.aborted) throw abortedError(signal);
  }
}

function explainNetwork(
  error: unknown,
  url: string,
  { network, signal }: HttpOptions & { readonly signal: AbortSignal },
): BackupError {
  if (signal.aborted) throw abortedError(signal);
  const server = new URL(url);
  const verdict = networkVerdict(error, server, network?.describeProxy(server) ?? null);
  if (verdict === null) return toBackupError(error);
  return new BackupError(verdict.code, `Keystone cannot be reached: ${verdict.message}`, { hint: verdict.hint });
}

function unavailable(url: string, status: number): BackupError {
  return new BackupError("STORE_UNAVAILABLE", `Keystone at ${new URL(url).host} answers ${String(status)}`);
}
