// Which parts are hashed together, and which ones wait for others.

import assert from "node:assert/strict";
import { createHash, randomBytes } from "node:crypto";
import { describe, test } from "node:test";
import { openPartHasher } from "../../../src/swift/part-hasher.ts";

const md5 = (bytes: Buffer): string => createHash("md5").update(bytes).digest("hex");

/** Longer than a test may take: a part that waits for others waits in vain. */
const FOREVER_MS = 600_000;

describe("the hasher of parts", () => {
  test("answers in order, whatever their sizes and however they come together", async () => {
    const hasher = openPartHasher(3);
    const order: number[] = [];
    const asked = [10, 3_000_000, 0, 2_000_000, 1, 64, 10, 9].map(async (bytes, at) => {
      const part = randomBytes(bytes);
      const found = await hasher.md5(part);
      order.push(at);
      assert.equal(found.toString("hex"), md5(part));
    });
    hasher.flush();
    await Promise.all(asked);
    assert.deepEqual(order, [0, 1, 2, 3, 4, 5, 6, 7]);
  });

  test("waits until there are enough to hash together", { timeout: 30_000 }, async () => {
    const hasher = openPartHasher(2, FOREVER_MS);
    const settled: string[] = [];
    const first = hasher.md5(randomBytes(10)).then(() => settled.push("first"));
    // Another hasher has an answer at once; this one waits.
    await openPartHasher(1, FOREVER_MS).md5(randomBytes(10));
    settled.push("alone");
    await Promise.all([first, hasher.md5(randomBytes(10))]);
    assert.deepEqual(settled, ["alone", "first"]);
  });

  test("hashes a part alone when no others come in time", async () => {
    const hasher = openPartHasher(3);
    const part = randomBytes(1000);
    assert.equal((await hasher.md5(part)).toString("hex"), md5(part));
  });

  test("does not wait if parts are hashed alone, or no more will come", { timeout: 30_000 }, async () => {
    await openPartHasher(1, FOREVER_MS).md5(randomBytes(10));
    const hasher = openPartHasher(3, FOREVER_MS);
    const asked = hasher.md5(randomBytes(10));
    hasher.flush();
    await asked;
  });
});
