// What the store can hold in one object, by what it says of itself.

import type { Container } from "../operations/edges.ts";
import { askHttp, type Authorities } from "./http.ts";
import { field, parseJson } from "./json.ts";

type StoreLimits = Container["limits"];

const MIB = 1024 ** 2;
const GIB = 1024 ** 3;

/** S3's own limits, which hold where a store does not tell its own. */
export const s3Limits: StoreLimits = { partsPerUpload: 10_000, minPartBytes: 5 * MIB, maxPartBytes: 5 * GIB };

/** A Swift as it is installed: what to go by when the store could not be asked. */
const stockSwiftLimits: StoreLimits = { ...s3Limits, partsPerUpload: 1000 };

/**
 * The limits in the answer to `GET /info`; S3's own where it does not say.
 * @param text - the body; an operator may hide it (`expose_info = false`) or put another server in front
 */
export function parseLimits(text: string): StoreLimits {
  const info = parseJson(text);
  const parts = [readCount(info, "s3api", "max_upload_part_num"), readCount(info, "slo", "max_manifest_segments")];
  const maxFile = readCount(info, "swift", "max_file_size") ?? s3Limits.maxPartBytes;
  return {
    partsPerUpload: Math.min(...parts.filter((count) => count !== null), s3Limits.partsPerUpload),
    // s3api refuses parts under 5 MiB whatever the operator allows below it; lib-storage does too.
    minPartBytes: Math.max(readCount(info, "s3api", "min_segment_size") ?? 0, s3Limits.minPartBytes),
    maxPartBytes: Math.min(maxFile, s3Limits.maxPartBytes),
  };
}

/** Asks the store. Never fails: without an answer, the limits of a Swift as it is installed hold. */
export async function readLimits(
  endpoint: URL,
  authorities: Authorities | undefined,
  signal: AbortSignal,
): Promise<StoreLimits> {
  try {
    const { status, text } = await askHttp(new URL("/info", endpoint), { authorities }, signal);
    return status >= 500 ? stockSwiftLimits : parseLimits(text);
  } catch {
    return stockSwiftLimits;
  }
}

function readCount(info: unknown, section: string, name: string): number | null {
  const value = field(field(info, section), name);
  return typeof value === "number" && Number.isSafeInteger(value) && value > 0 ? value : null;
}
