// Data that a send stream has as they lie on btrfs: compressed by zlib, zstd or LZO.

import { inflateSync } from "node:zlib";
import { decompressLzo } from "./lzo.ts";
import { ZSTD_MAGIC } from "./zstd.ts";

/** btrfs compresses at most this much at once. */
const MOST_DECODED = 128 * 1024;

/** How send streams number the methods; from 3 on LZO, in sectors of 4 KiB, 8 KiB and so on. */
const ZLIB = 1;
export const ZSTD = 2;
const LZO = { first: 3, last: 7, sector: 4096 };

/** Compressed data, and what is known of it. */
export interface Encoded {
  readonly bytes: Buffer;
  readonly compression: number;
  /** Size of what it stands for. If it holds less, zeros follow. */
  readonly decoded: number;
}

/** Memory for what encoded data stand for, full of zeros. @throws Error when no extent of btrfs is so large */
export function roomFor({ decoded }: Pick<Encoded, "decoded">): Buffer {
  if (decoded > MOST_DECODED) throw new Error(`compressed data that stand for ${decoded} bytes`);
  return Buffer.alloc(decoded);
}

/** Decodes all but zstd. @throws Error when it is damaged */
export function decode(encoded: Encoded): Buffer {
  const { bytes, compression } = encoded;
  const room = roomFor(encoded);
  if (compression === ZLIB) {
    // What follows the end is padding.
    inflateSync(bytes, { maxOutputLength: Math.max(1, room.length) }).copy(room);
    return room;
  }
  if (compression < LZO.first || compression > LZO.last)
    throw new Error(`data that are compressed in an unknown way (${compression})`);
  decodeLzo(bytes, room, LZO.sector << (compression - LZO.first));
  return room;
}

/** Size of all, then segments, each with its size; no size lies across two sectors. */
function decodeLzo(bytes: Buffer, room: Buffer, sector: number): void {
  const size = 4;
  const total = readSize(bytes, 0, bytes.length);
  let end = 0;
  for (let at = size; at < total && end < room.length;) {
    const left = (sector - (at % sector)) % sector;
    if (left < size) at += left;
    if (at >= total) break;
    const length = readSize(bytes, at, total);
    at += size;
    if (length > total - at) throw new Error("an LZO segment is cut off");
    end = decompressLzo(bytes.subarray(at, at + length), room, { at: end, limit: end + sector });
    at += length;
  }
}

function readSize(bytes: Buffer, at: number, end: number): number {
  if (at + 4 > end || end > bytes.length) throw new Error("the size of an LZO segment is cut off");
  return bytes.readUInt32LE(at);
}

/** A frame of zstd without the padding behind it, and how many bytes it holds. */
export interface ZstdFrame {
  readonly frame: Buffer;
  readonly holds: number;
}

/** The sizes of what the first byte of a frame, behind its magic number, announces. */
const DICTIONARY_BYTES = [0, 1, 2, 4];
const SIZE_BYTES = [0, 2, 4, 8];

/** Finds where a frame ends, and what its header says of its content. @throws Error when it is damaged */
export function readZstdFrame(bytes: Buffer): ZstdFrame {
  const start = ZSTD_MAGIC.length;
  if (bytes.toString("latin1", 0, start) !== ZSTD_MAGIC) throw new Error("zstd data without a beginning");
  const flags = byteAt(bytes, start);
  const isSingle = (flags & 0x20) !== 0;
  const sizeAt = start + 1 + Number(!isSingle) + (DICTIONARY_BYTES[flags & 3] ?? 0);
  const sizeBytes = Math.max(SIZE_BYTES[flags >> 6] ?? 0, Number(isSingle));
  if (sizeBytes === 0) throw new Error("zstd data that do not say how much they hold");
  byteAt(bytes, sizeAt + sizeBytes - 1);
  // Numbers of two bytes begin to count where those of one byte end.
  const holds = bytes.readUIntLE(sizeAt, Math.min(6, sizeBytes)) + (sizeBytes === 2 ? 256 : 0);
  const end = endOfBlocks(bytes, sizeAt + sizeBytes) + ((flags & 4) === 0 ? 0 : 4);
  if (end > bytes.length) throw new Error("zstd data are cut off");
  return { frame: bytes.subarray(0, end), holds };
}

function endOfBlocks(bytes: Buffer, first: number): number {
  const [header, repeated] = [3, 1];
  for (let at = first; ;) {
    byteAt(bytes, at + header - 1);
    const word = bytes.readUIntLE(at, header);
    at += header + (((word >> 1) & 3) === repeated ? 1 : word >> 3);
    if ((word & 1) !== 0) return at;
  }
}

function byteAt(bytes: Buffer, at: number): number {
  const byte = bytes[at];
  if (byte === undefined) throw new Error("zstd data are cut off");
  return byte;
}
