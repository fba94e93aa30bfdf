// Compressed data of send streams: decoded right, and whatever damage they have, never more than an error.

import assert from "node:assert/strict";
import { test } from "node:test";
import { deflateSync } from "node:zlib";
import { decode, readZstdFrame } from "../../../src/stream/encoded-data.ts";
import { decompressLzo } from "../../../src/stream/lzo.ts";

const LZO_4K = 3;

/** A block of LZO1X, made by hand: literals, a match of each kind, runs with long lengths. */
const BLOCK = Buffer.concat([
  // 4 literals, then 3 bytes from 4 back (01LDDDSS), with one literal behind.
  Buffer.from([17 + 4, ...Buffer.from("abcd"), 0b0100_1101, 0, ...Buffer.from("X")]),
  // 2 bytes from 1 back after a literal (0000DDSS).
  Buffer.from([0b0000_0000, 0]),
  // 33 + 10 bytes from 2 back (001LLLLL), a length that goes on in a byte, two literals behind.
  Buffer.from([0b0010_0000, 10, (1 << 2) | 2, 0, ...Buffer.from("YZ")]),
  // 6 bytes from 3 back (1LLDDDSS).
  Buffer.from([0b1010_1000, 0]),
  // A run of 18 + 255 + 5 literals.
  Buffer.concat([Buffer.from([0, 0, 5]), Buffer.alloc(278, "r")]),
  Buffer.from([17, 0, 0]),
]);
const EXPECTED = Buffer.from(`abcdabcXXX${"XX".repeat(21)}XYZXYZXYZ${"r".repeat(278)}`);

function blockIn(room: number, block: Uint8Array = BLOCK): Buffer {
  const target = Buffer.alloc(room);
  return target.subarray(0, decompressLzo(block, target, { at: 0, limit: room }));
}

test("LZO has literals and matches of every length", () => {
  assert.equal(blockIn(1000).toString(), EXPECTED.toString());
});

test("LZO takes no more room than there is", () => {
  assert.equal(blockIn(EXPECTED.length).length, EXPECTED.length);
  assert.throws(() => blockIn(EXPECTED.length - 1), /hold more than they should/);
  assert.throws(() => blockIn(1000, BLOCK.subarray(0, -1)), /cut off/);
  assert.throws(() => blockIn(1000, Buffer.concat([BLOCK, Buffer.alloc(1)])), /go on behind their end/);
  assert.throws(() => blockIn(1000, Buffer.from([18, 97, 0b0100_1100, 9])), /refer to what is not there/);
});

test("damaged LZO is an error or other bytes, and it ends", () => {
  let failed = 0;
  for (let seed = 1; seed <= 3000; seed++) {
    const damaged = Buffer.from(BLOCK);
    damaged[(seed * 7919) % 40] = (seed * 104_729) >> 3;
    const target = Buffer.alloc(3000, 0xee);
    try {
      assert.ok(decompressLzo(damaged, target, { at: 0, limit: 2000 }) <= 2000);
    } catch (error) {
      assert.match(String(error), /^Error: LZO data/);
      failed++;
    }
    assert.ok(target.subarray(2000).every((byte) => byte === 0xee));
  }
  assert.ok(failed > 500, `${failed} of 3000`);
});

function segments(...blocks: readonly Buffer[]): Buffer {
  const size = (value: number): Buffer => {
    const bytes = Buffer.alloc(4);
    bytes.writeUInt32LE(value);
    return bytes;
  };
  let all = Buffer.alloc(4);
  for (const block of blocks) {
    const left = (4096 - (all.length % 4096)) % 4096;
    all = Buffer.concat([all, Buffer.alloc(left < 4 ? left : 0), size(block.length), block]);
  }
  all.writeUInt32LE(all.length);
  return Buffer.concat([all, Buffer.alloc(100)]);
}

test("the segments of LZO follow each other, and no size lies across two sectors", () => {
  // 18 + 15 * 255 + 223 literals: the second size would begin 2 bytes before the end of a sector.
  const literals = 4066;
  const first = Buffer.concat([Buffer.alloc(16), Buffer.from([223]), Buffer.alloc(literals, "q"), BLOCK.subarray(-3)]);
  assert.equal(4 + 4 + first.length, 4096 - 2);
  const bytes = segments(first, BLOCK);
  const decoded = decode({ bytes, compression: LZO_4K, decoded: 8192 });
  assert.equal(decoded.toString("latin1", 0, literals), "q".repeat(literals));
  const end = literals + EXPECTED.length;
  assert.equal(decoded.subarray(literals, end).toString(), EXPECTED.toString());
  assert.ok(decoded.subarray(end).every((byte) => byte === 0));
  assert.throws(() => decode({ bytes: bytes.subarray(0, 50), compression: LZO_4K, decoded: 8192 }), /cut off/);
});

test("zlib fills what is left with zeros, and may hold no more than was said", () => {
  const bytes = Buffer.concat([deflateSync(Buffer.alloc(5000, "z")), Buffer.alloc(300)]);
  const decoded = decode({ bytes, compression: 1, decoded: 8192 });
  assert.equal(decoded.toString(), "z".repeat(5000) + "\0".repeat(3192));
  assert.throws(() => decode({ bytes, compression: 1, decoded: 4096 }));
  assert.throws(() => decode({ bytes, compression: 9, decoded: 4096 }), /unknown way \(9\)/);
  assert.throws(() => decode({ bytes, compression: 1, decoded: 2 ** 40 }), /stand for 1099511627776 bytes/);
});

test("a frame of zstd ends where its last block ends", () => {
  // 256 + 44 bytes announced; a raw block of 3 bytes, then one that repeats a byte 297 times; a checksum.
  const head = [0x28, 0xb5, 0x2f, 0xfd, 0b0110_0100, 44, 0];
  const raw = [3 << 3, 0, 0, 1, 2, 3];
  const repeated = [((297 << 3) | 3) & 0xff, (297 << 3) >> 8, 0, 7];
  const frame = Buffer.from([...head, ...raw, ...repeated, 9, 9, 9, 9]);
  const padded = Buffer.concat([frame, Buffer.alloc(500)]);
  assert.deepEqual(readZstdFrame(padded), { frame, holds: 300 });
  for (let length = 0; length < frame.length; length++)
    assert.throws(() => readZstdFrame(frame.subarray(0, length)), /zstd data/);
});
