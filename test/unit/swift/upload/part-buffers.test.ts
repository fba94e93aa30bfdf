// Cutting a body into parts, and the memory of the parts.

import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { Readable } from "node:stream";
import { describe, test } from "node:test";
import { openBufferPool, openPartMemory, partsOf, type Part } from "../../../../src/swift/upload/part-buffers.ts";

function streamed(body: Buffer, pieceBytes: number): Readable {
  const count = Math.ceil(body.length / pieceBytes);
  const pieces = Array.from({ length: count }, (_, at) => body.subarray(at * pieceBytes, (at + 1) * pieceBytes));
  return Readable.from(pieces, { objectMode: false });
}

describe("parts of a body", () => {
  for (const [bytes, sizes] of [
    [0, [0]],
    [1, [1]],
    [999, [999]],
    [1000, [1000]],
    [1001, [1000, 1]],
    [3000, [1000, 1000, 1000]],
    [3500, [1000, 1000, 1000, 500]],
  ] as const) {
    test(`of ${bytes} bytes are ${sizes.join(" + ")}, whatever pieces it comes in`, async () => {
      const body = randomBytes(bytes);
      for (const pieceBytes of [1, 7, 999, 1000, 1001, 4000]) {
        const read: Buffer[] = [];
        for await (const { number, data, isLast, release } of partsOf(
          streamed(body, pieceBytes),
          openPartMemory(1000, 1),
        )) {
          read.push(Buffer.from(data));
          assert.deepEqual([number, isLast], [read.length, read.length === sizes.length]);
          release();
        }
        assert.deepEqual(
          read.map(({ length }) => length),
          sizes,
        );
        assert.ok(Buffer.concat(read).equals(body));
      }
    });
  }

  test("stay as they are until they are released, in any order", async () => {
    const body = randomBytes(20_000);
    const inFlight: Part[] = [];
    for await (const part of partsOf(streamed(body, 777), openPartMemory(1000, 4))) {
      inFlight.push(part);
      for (const { number, data } of inFlight)
        assert.ok(data.equals(body.subarray((number - 1) * 1000, number * 1000)));
      if (inFlight.length === 3) inFlight.splice(part.number % 3, 1)[0]?.release();
    }
  });

  test("that are never released end the reading, instead of using more memory", async () => {
    const body = streamed(randomBytes(5000), 500);
    const read: number[] = [];
    await assert.rejects(async () => {
      for await (const { number } of partsOf(body, openPartMemory(1000, 2))) read.push(number);
    }, /more parts at once than were planned/);
    assert.deepEqual(read, [1, 2]);
    assert.ok(body.destroyed);
  });
});

describe("the memory of parts", () => {
  test("is reused by the next upload, and released for one that needs more", () => {
    const memories = openBufferPool();
    const first = memories.acquire(1000, 3);
    first.take();
    memories.release(first);
    const again = memories.acquire(1000, 2);
    assert.equal(again, first);
    for (let part = 0; part < 3; part += 1) again.take();
    assert.throws(() => again.take());
    const second = memories.acquire(1000, 2);
    assert.notEqual(second, first);
    memories.release(second);
    assert.notEqual(memories.acquire(1000, 3), second);
  });
});
