// MD5 side by side: whatever lies in the lanes beside it, a message's digest is that of node:crypto.

import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { describe, test } from "node:test";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { md5s } from "../../../src/addon/md5.ts";

/** More than any group of lanes, and one more. */
const MOST = 9;
const SIZES = Array.from({ length: 261 }, (_, size) => size);

/** In memory that threads share. */
const bytes = Buffer.from(new SharedArrayBuffer(2 ** 21 + 1024));
for (let i = 0; i < bytes.length; i++) bytes[i] = Math.imul(i, 0x9e3779b1) >>> 24;

function expected(buffer: Uint8Array): string {
  return createHash("md5").update(buffer).digest("hex");
}

/** Messages of these sizes, each of other bytes than the one before, and at an address of any remainder. */
function views(sizes: readonly number[]): readonly Buffer[] {
  return sizes.map((size, i) => bytes.subarray(67 * i, 67 * i + size));
}

async function check(buffers: readonly Uint8Array[]): Promise<void> {
  const digests = await md5s(buffers);
  const sizes = buffers.map((each) => each.byteLength).join(", ");
  assert.deepEqual(
    digests.map((digest) => digest.toString("hex")),
    buffers.map(expected),
    `of ${sizes} bytes`,
  );
}

async function checkCounts(sizeOf: (index: number) => number): Promise<void> {
  for (let count = 1; count <= MOST; count++) await check(views(Array.from({ length: count }, (_, i) => sizeOf(i))));
}

describe("the MD5s of several buffers", () => {
  test("are right for every way that the last block is filled, in lanes alike", async () => {
    for (const size of SIZES) await checkCounts(() => size);
  });
  test("are right where each lane ends elsewhere", async () => {
    for (const size of SIZES) await checkCounts((i) => (size * (2 * i + 1) + 61 * i) % SIZES.length);
  });
  test("are right for parts of an upload, the last one shorter", async () => {
    for (const large of [65536, 2 ** 20]) {
      for (const size of [large - 1, large, large + 1]) await check(views([size, size, size, size]));
      for (const last of [0, 1, 63, 64, large / 2 + 7]) {
        for (const before of [1, 2, 3]) await check(views([...Array<number>(before).fill(large), last]));
        await check(views([last, large, large, large]));
      }
    }
  });
  test("are right for memory of its own, and small views in the heap", async () => {
    await check([
      Buffer.from("abc"),
      new Uint8Array([1, 2, 3]),
      new Uint8Array(200).fill(7).subarray(3),
      Buffer.alloc(0),
    ]);
  });
  test("of nothing are nothing", async () => {
    assert.deepEqual(await md5s([]), []);
  });
  test("do not depend on the caller's keeping its list and what was in it", async () => {
    setFlagsFromString("--expose-gc");
    const collect = runInNewContext("gc") as () => void;
    for (let round = 0; round < 5; round++) {
      const buffers: Uint8Array[] = Array.from({ length: 4 }, (_, i) => Buffer.alloc(2 ** 22, round + i));
      const wanted = buffers.map(expected);
      const digests = md5s(buffers);
      buffers.length = 0;
      collect();
      assert.deepEqual(
        (await digests).map((digest) => digest.toString("hex")),
        wanted,
      );
    }
  });
  test("are of bytes alone", async () => {
    const memory = new ArrayBuffer(8);
    const wrong = [
      undefined,
      Buffer.alloc(8),
      "abc",
      ["abc"],
      [null],
      [memory],
      [new DataView(memory)],
      [new Uint16Array(memory)],
      [new Uint8ClampedArray(memory)],
      [Buffer.alloc(8), undefined],
    ];
    for (const each of wrong) await assert.rejects(md5s(each as unknown as Uint8Array[]), TypeError);
    const getter = Object.defineProperty([], 0, { get: () => assert.fail("the getter's own") }) as Uint8Array[];
    await assert.rejects(md5s(getter), /the getter's own/);
  });
});
