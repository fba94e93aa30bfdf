// The limits of one object, as the store reports them.

import { askHttp, type Network } from "./http.ts";
import { field, parseJson } from "../json.ts";
import { mayPass } from "./reach.ts";
import type { Container } from "../operations/store-ports.ts";

type StoreLimits = Container["limits"];

const MIB = 1024 ** 2;
const GIB = 1024 ** 3;

/** The limits of S3, for stores that do not report their own. */
export const s3Limits: StoreLimits = { partsPerUpload: 10_000, minPartBytes: 5 * MIB, maxPartBytes: 5 * GIB };

/** The limits of a default Swift installation, to assume when the store could not be asked. */
const stockSwiftLimits: StoreLimits = { ...s3Limits, partsPerUpload: 1000 };

/**
 * The limits in the answer to `GET /info`; those of S3 where it has none.
 * @param text - the body; an operator may hide it (`expose_info = false`) or put another server in front
 */
export function parseLimits(text: string): StoreLimits {
  const info = parseJson(text);
  const parts = [readCount(info, "s3api", "max_upload_part_num"), readCount(info, "slo", "max_manifest_segments")];
  const maxFile = readCount(info, "swift", "max_file_size") ?? s3Limits.maxPartBytes;
  return {
    partsPerUpload: Math.min(...parts.filter((count) => count !== null), s3Limits.partsPerUpload),
    // s3api refuses parts under 5 MiB even where the operator allows them; lib-storage does too.
    minPartBytes: Math.max(readCount(info, "s3api", "min_segment_size") ?? 0, s3Limits.minPartBytes),
    maxPartBytes: Math.min(maxFile, s3Limits.maxPartBytes),
  };
}

/** Capabilities of a store. */
export interface StoreFeatures {
  readonly limits: StoreLimits;
  /** It supports a PUT with `If-None-Match: *`. */
  readonly conditionalPut: boolean;
}

/** Asks the store. Never fails: without an answer, it returns the capabilities of a default Swift installation. */
export async function readFeatures(
  endpoint: URL,
  network: Network | undefined,
  signal: AbortSignal,
): Promise<StoreFeatures> {
  const stock = { limits: stockSwiftLimits, conditionalPut: false };
  try {
    const { status, text } = await askHttp(new URL("/info", endpoint), { network }, signal);
    return mayPass(status) ? stock : { limits: parseLimits(text), conditionalPut: takesConditionalPut(text) };
  } catch {
    return stock;
  }
}

/**
 * Whether a store with this description creates objects by PUT only if there are none: s3api from Swift 2.36 on. Those
 * before answer 501; other stores may ignore the condition, which is worse.
 */
export function takesConditionalPut(text: string): boolean {
  const [, major, minor] = /^(\d+)\.(\d+)/.exec(swiftVersion(text) ?? "") ?? [];
  return major !== undefined && (Number(major) > 2 || (Number(major) === 2 && Number(minor) >= 36));
}

/** The version of Swift in the answer to `GET /info`; null where it has none. */
export function swiftVersion(text: string): string | null {
  const version = field(field(parseJson(text), "swift"), "version");
  return typeof version === "string" && version !== "" ? version : null;
}

function readCount(info: unknown, section: string, name: string): number | null {
  const value = field(field(info, section), name);
  return typeof value === "number" && Number.isSafeInteger(value) && value > 0 ? value : null;
}
