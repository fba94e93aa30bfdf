// How a stream is cut: into the parts of one object, or into volumes of several; from its estimated size, what the store
// takes, and the memory that may be spent on parts in flight.

import { encodedBound, plainCapacity, type EncodingCost } from "./encoding.ts";
import type { Estimate, StoreLimits } from "./model.ts";

const MEBIBYTE = 1024 * 1024;

/** Above 8 MiB a larger part hardly costs less; below, a long line idles between parts. */
const USUAL_PART_BYTES = 16 * MEBIBYTE;

/** One part fills while others are in flight. */
const PARTS_BESIDE_FLIGHT = 1;

/** So many parts are hashed side by side for hardly more than one costs, where memory is not wanted otherwise. */
export const PARTS_HASHED_TOGETHER = 4;

/** More than Node hashes or sends in one piece would be 2 GiB. */
const LARGEST_PART_BYTES = 1024 * MEBIBYTE;

/** What stands around each volume takes some of its room. */
const VOLUMES_MARGIN = 0.99;

export interface TransferPolicy {
  /** Bytes that part buffers may take together. */
  readonly memoryBytes: number;
  /** Parts in flight at the most. */
  readonly concurrency: number;
  /** The longest object wanted; null = as long as the store takes. */
  readonly volumeBytes: number | null;
}

export interface Layout {
  readonly partBytes: number;
  readonly concurrency: number;
  /** Parts that there is memory for: those in flight, and one or more besides. */
  readonly partsInMemory: number;
  /** Bytes of the stream in each object but the last where it needs several; null = one object. */
  readonly volumeBytes: number | null;
}

/** What is to be stored: a stream, as long as it is thought to be, and what stands around it. */
export interface Load {
  /** Null when nobody knows. */
  readonly estimate: Estimate | null;
  readonly cost: EncodingCost;
}

/** What is planned with where nothing is known but that the stream is too long for one object. */
export const TOO_LONG_FOR_ONE: Estimate = { bytes: Number.MAX_SAFE_INTEGER, exact: false };

/**
 * The smallest usual part size with which the stream fits one object, and as many parts in flight as memory allows; where
 * it fits none, volumes of the largest parts that memory allows. Without an estimate: one object of such parts.
 * Null when memory does not even hold the smallest parts that the store takes.
 * @param mostVolumes - that one archive can have; where volumes of the size wanted would be more, they become larger
 */
export function planLayout(
  { estimate, cost }: Load,
  limits: StoreLimits,
  policy: TransferPolicy,
  mostVolumes = Infinity,
): Layout | null {
  const affordable = floorToMebibyte(policy.memoryBytes / (policy.concurrency + PARTS_BESIDE_FLIGHT));
  const largest = Math.min(
    limits.maxPartBytes,
    LARGEST_PART_BYTES,
    floorToMebibyte(policy.memoryBytes / (1 + PARTS_BESIDE_FLIGHT)),
  );
  if (largest < limits.minPartBytes) return null;
  const wanted = policy.volumeBytes ?? Infinity;
  const bytes = estimate === null ? affordable * limits.partsPerUpload : encodedBound(estimate.bytes, cost);
  const needed = ceilToMebibyte(bytes / limits.partsPerUpload);
  if (bytes <= wanted && needed <= largest) {
    const partBytes = clamp(Math.max(needed, Math.min(USUAL_PART_BYTES, affordable)), limits.minPartBytes, largest);
    return { partBytes, ...parallelism(partBytes, policy), volumeBytes: null };
  }
  const isKnown = estimate !== null && estimate !== TOO_LONG_FOR_ONE;
  const least = isKnown ? Math.ceil(bytes / (mostVolumes * VOLUMES_MARGIN)) : 0;
  const usual = Math.max(Math.min(affordable, ceilToMebibyte(wanted)), ceilToMebibyte(least / limits.partsPerUpload));
  const partBytes = clamp(usual, limits.minPartBytes, largest);
  const objectBytes = Math.min(partBytes * limits.partsPerUpload, Math.max(partBytes, wanted, least));
  return { partBytes, ...parallelism(partBytes, policy), volumeBytes: plainCapacity(objectBytes, cost) };
}

function parallelism(partBytes: number, policy: TransferPolicy): Pick<Layout, "concurrency" | "partsInMemory"> {
  const affordable = Math.floor(policy.memoryBytes / partBytes);
  const concurrency = clamp(affordable - PARTS_BESIDE_FLIGHT, 1, policy.concurrency);
  return { concurrency, partsInMemory: Math.min(affordable, concurrency + PARTS_HASHED_TOGETHER) };
}

function clamp(value: number, least: number, most: number): number {
  return Math.max(least, Math.min(most, value));
}

function floorToMebibyte(bytes: number): number {
  return Math.floor(bytes / MEBIBYTE) * MEBIBYTE;
}

function ceilToMebibyte(bytes: number): number {
  return Math.ceil(bytes / MEBIBYTE) * MEBIBYTE;
}
