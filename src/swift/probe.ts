// The answers of a store outside of S3: that it is reachable, its time, and the limits that its operator sets.

import { abortedError, BackupError } from "../errors.ts";
import type { Greeting } from "../operations/ports.ts";
import type { Quota } from "../plan/quota.ts";
import type { Access } from "./auth/credentials.ts";
import { diagnoseNetwork } from "./errors.ts";
import { askHttp } from "./http.ts";
import { judgeRedirect } from "./reach.ts";
import { swiftVersion } from "./server-info.ts";

/** Finds out whether a server answers, which Swift it is, and how far this machine's clock is ahead. @throws CONFIG, STORE_UNAVAILABLE */
export async function greetStore({ endpoint, network }: Access, signal: AbortSignal): Promise<Greeting> {
  const url = new URL(endpoint);
  try {
    const { status, headers, text } = await askHttp(new URL("/info", url), { network }, signal);
    const redirect = judgeRedirect(status, headers.location ?? null, url);
    if (redirect !== null) throw new BackupError(redirect.code, redirect.message, { hint: redirect.hint });
    const date = Date.parse(headers.date ?? "");
    return { aheadMs: Number.isNaN(date) ? null : Date.now() - date, swift: swiftVersion(text) };
  } catch (error) {
    if (signal.aborted) throw abortedError(signal);
    if (error instanceof BackupError) throw error;
    const diagnosis = diagnoseNetwork(error, url, network.describeProxy(url));
    if (diagnosis === null) throw error;
    throw new BackupError(diagnosis.code, diagnosis.message, { hint: diagnosis.hint });
  }
}

/**
 * Usage and quota of the account, of the container, and of the container in which Swift's S3 API keeps the parts of
 * multipart uploads, hence nearly all bytes (s3api: `MULTIUPLOAD_SUFFIX`). Null where a login gave no access to Swift's
 * own API: S3 has no request for it.
 */
export async function readQuotas(
  { native, network }: Access,
  container: string,
  signal: AbortSignal,
): Promise<Quota[] | null> {
  if (native === null) return null;
  const quotas: Quota[] = [];
  for (const name of [null, container, `${container}+segments`]) {
    const of = name === null ? "account" : "container";
    const url = new URL(`${native.accountUrl}${name === null ? "" : `/${encodeURIComponent(name)}`}`);
    const asked = { method: "HEAD", headers: { "x-auth-token": native.token }, network };
    const answer = await askHttp(url, asked, signal).catch(() => null);
    if (answer === null || answer.status >= 300) continue;
    const number = (header: string): number | null => readCount(answer.headers[header]);
    quotas.push({
      of,
      name,
      usedBytes: number(`x-${of}-bytes-used`) ?? 0,
      quotaBytes: number(`x-${of}-meta-quota-bytes`),
      usedObjects: number(`x-${of}-object-count`) ?? 0,
      quotaObjects: number(`x-${of}-meta-quota-count`),
    });
  }
  return quotas;
}

function readCount(header: string | string[] | undefined): number | null {
  return typeof header === "string" && /^\d+$/.test(header) ? Number(header) : null;
}
