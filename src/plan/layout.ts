// Decides how a stream is cut: into the parts of one object, or into several volumes. The decision depends on the
// estimated size, the limits of the store, and the memory for parts in flight.

import { encodedBound, plainCapacity, type EncodingCost } from "./encoding.ts";
import type { Estimate } from "./model.ts";

/** The limits of one object in a store. */
export interface StoreLimits {
  readonly partsPerUpload: number;
  readonly minPartBytes: number;
  readonly maxPartBytes: number;
}

const MEBIBYTE = 1024 * 1024;

/** Above 8 MiB a larger part saves little; below, a distant store leaves the line idle between parts. */
const USUAL_PART_BYTES = 16 * MEBIBYTE;

/** An interruption loses what is in flight: a slow line sends a part within this time. */
const PART_SECONDS = 30;

/** One part fills while others are in flight. */
const PARTS_BESIDE_FLIGHT = 1;

/** Hashing this many parts side by side costs little more than one, where nothing else needs the memory. */
export const PARTS_HASHED_TOGETHER = 4;

/** Node hashes or sends less than 2 GiB in one piece. */
const LARGEST_PART_BYTES = 1024 * MEBIBYTE;

/** The encoding around each volume takes some of its room. */
const VOLUMES_MARGIN = 0.99;

export interface TransferPolicy {
  /** Bytes that part buffers may take together. */
  readonly memoryBytes: number;
  /** Parts in flight at most. */
  readonly concurrency: number;
  /** The longest object wanted; null = the store's limit. */
  readonly volumeBytes: number | null;
}

export interface Layout {
  readonly partBytes: number;
  readonly concurrency: number;
  /** Parts that fit the memory: those in flight, and one or more besides. */
  readonly partsInMemory: number;
  /** Bytes of the stream in each object but the last, where it needs several; null = one object. */
  readonly volumeBytes: number | null;
}

/** The stream to store, with its expected length and its encoding. */
export interface Load {
  /** Null when nobody knows. */
  readonly estimate: Estimate | null;
  readonly cost: EncodingCost;
}

/** Facts beside the stream that decide the size of parts. */
export interface Circumstances {
  /** The limit for one archive; where volumes of the wanted size would exceed it, they become larger. */
  readonly mostVolumes?: number;
  /** The known rate of the line; null or absent = unknown. */
  readonly bytesPerSecond?: number | null;
  /** The part size of the open upload that can be resumed; null or absent = none. */
  readonly openPartBytes?: number | null;
}

/** The estimate for a stream of which only this is known: it is too long for one object. */
export const TOO_LONG_FOR_ONE: Estimate = { bytes: Number.MAX_SAFE_INTEGER, exact: false };

/**
 * Plans the layout: the smallest usual part size with which the stream fits one object, and as many parts in flight as
 * memory allows. A stream that does not fit one object becomes volumes of the largest parts that memory allows. Without
 * an estimate: one object of such parts. Null when memory does not even hold the smallest parts that the store accepts.
 * An open upload keeps its part size. Volumes depend on neither that nor the line: they are found again only in parts
 * of the same size.
 */
export function planLayout(
  { estimate, cost }: Load,
  limits: StoreLimits,
  policy: TransferPolicy,
  { mostVolumes = Infinity, bytesPerSecond = null, openPartBytes = null }: Circumstances = {},
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
    const range: Range = { least: Math.max(needed, limits.minPartBytes), most: largest };
    const usual = Math.min(USUAL_PART_BYTES, affordable, partBytesOf(bytesPerSecond));
    const partBytes = isWithin(openPartBytes, range) ? openPartBytes : clamp(usual, range.least, range.most);
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

interface Range {
  readonly least: number;
  readonly most: number;
}

/** The largest part that leaves within half a minute. */
function partBytesOf(bytesPerSecond: number | null): number {
  return bytesPerSecond === null ? Infinity : floorToMebibyte(bytesPerSecond * PART_SECONDS);
}

function isWithin(bytes: number | null, { least, most }: Range): bytes is number {
  return bytes !== null && bytes >= least && bytes <= most;
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
