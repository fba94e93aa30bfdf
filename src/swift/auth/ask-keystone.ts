// Requests to Keystone, which are retried for a while.

import { BackupError, toBackupError, toError } from "../../errors.ts";
import { retry } from "../../retry.ts";
import { diagnoseNetwork } from "../errors.ts";
import { askHttp, type HttpAnswer, type HttpOptions } from "../http.ts";
import { mayPass } from "../reach.ts";
import { describePatience, FIRST_CONTACT_MS, QUIET_MS } from "../retry-strategy.ts";

/** A request to Keystone. Failures that may pass are retried for a while. @throws CONFIG, STORE_UNAVAILABLE, ABORTED */
export async function ask(
  url: string,
  options: HttpOptions,
  signal: AbortSignal,
  patienceMs = options.network?.retryForMs ?? FIRST_CONTACT_MS,
): Promise<HttpAnswer> {
  let isQuiet = true;
  const attempt = async (): Promise<HttpAnswer> => {
    const answer = await askHttp(new URL(url), options, signal).catch((error: unknown) => {
      throw explainNetwork(error, url, options);
    });
    if (mayPass(answer.status)) throw unavailable(url, answer.status);
    return answer;
  };
  const warn = (error: unknown, untilMs: number): void => {
    if (!isQuiet || untilMs <= QUIET_MS) return;
    isQuiet = false;
    options.network?.log?.warn(
      { error: toError(error).message, patienceMs },
      `waiting for Keystone, for up to ${describePatience(patienceMs)}`,
    );
  };
  const when = (error: unknown): boolean => error instanceof BackupError && error.retryable;
  return await retry(attempt, { forMs: patienceMs, when, onWait: warn }, signal);
}

function explainNetwork(error: unknown, url: string, { network }: HttpOptions): BackupError {
  const server = new URL(url);
  const diagnosis = diagnoseNetwork(error, server, network?.describeProxy(server) ?? null);
  if (diagnosis === null) return toBackupError(error);
  return new BackupError(diagnosis.code, `Keystone cannot be reached: ${diagnosis.message}`, { hint: diagnosis.hint });
}

function unavailable(url: string, status: number): BackupError {
  return new BackupError("STORE_UNAVAILABLE", `Keystone at ${new URL(url).host} answers ${String(status)}`);
}
