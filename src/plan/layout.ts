// How a stream is cut into the parts of one object: from its estimated size, what the store takes, and the memory that
// may be spent on parts in flight.

import type { Estimate, StoreLimits } from "./model.ts";

const MEBIBYTE = 1024 * 1024;

/** Above 8 MiB a larger part hardly costs less; below, a long line idles between parts. */
const USUAL_PART_BYTES = 16 * MEBIBYTE;

/** The uploader fills one part, joins another and keeps the rest of a third while others are in flight. */
const PARTS_BESIDE_FLIGHT = 3;

export interface TransferPolicy {
  /** Bytes that part buffers may take together. */
  readonly memoryBytes: number;
  /** Parts in flight at the most. */
  readonly concurrency: number;
}

export interface Layout {
  readonly partBytes: number;
  readonly concurrency: number;
}

/**
 * The smallest usual part size with which the stream fits one object, and as many parts in flight as memory allows.
 * Null when it fits no single object. Without an estimate: the largest parts that memory allows.
 */
export function planLayout(estimate: Estimate | null, limits: StoreLimits, policy: TransferPolicy): Layout | null {
  const largest = Math.min(
    limits.maxPartBytes,
    floorToMebibyte(policy.memoryBytes / (1 + PARTS_BESIDE_FLIGHT)),
  );
  const affordable = floorToMebibyte(policy.memoryBytes / (policy.concurrency + PARTS_BESIDE_FLIGHT));
  const needed =
    estimate === null ? affordable : ceilToMebibyte(estimate.bytes / limits.partsPerUpload);
  const partBytes = Math.min(
    limits.maxPartBytes,
    Math.max(limits.minPartBytes, needed, Math.min(USUAL_PART_BYTES, affordable)),
  );
  if (partBytes > largest) return null;
  if (estimate !== null && Math.ceil(estimate.bytes / partBytes) > limits.partsPerUpload) return null;
  const concurrency = Math.floor(policy.memoryBytes / partBytes) - PARTS_BESIDE_FLIGHT;
  return { partBytes, concurrency: Math.max(1, Math.min(policy.concurrency, concurrency)) };
}

/** The longest stream that one object can hold under this policy, in bytes. */
export function largestObject(limits: StoreLimits, policy: TransferPolicy): number {
  const largest = Math.min(limits.maxPartBytes, floorToMebibyte(policy.memoryBytes / (1 + PARTS_BESIDE_FLIGHT)));
  return largest * limits.partsPerUpload;
}

function floorToMebibyte(bytes: number): number {
  return Math.floor(bytes / MEBIBYTE) * MEBIBYTE;
}

function ceilToMebibyte(bytes: number): number {
  return Math.ceil(bytes / MEBIBYTE) * MEBIBYTE;
}
