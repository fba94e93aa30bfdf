import assert from "node:assert/strict";
import { createHash, randomBytes } from "node:crypto";
import { describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { openPartHasher } from "../../../../src/swift/upload/part-hasher.ts";

const md5 = (bytes: Buffer): string => createHash("md5").update(bytes).digest("hex");

/** What of some promises is settled after a moment. */
async function settledSoon(promises: readonly Promise<unknown>[]): Promise<readonly boolean[]> {
  const settled = promises.map(() => false);
  promises.forEach((promise, at) => void promise.then(() => (settled[at] = true)));
  await sleep(100);
  return settled;
}

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

  test("waits until there are enough to hash together", async () => {
    const hasher = openPartHasher(3);
    const asked = [hasher.md5(randomBytes(10)), hasher.md5(randomBytes(10))];
    assert.deepEqual(await settledSoon(asked), [false, false]);
    asked.push(hasher.md5(randomBytes(10)));
    assert.deepEqual(await settledSoon(asked), [true, true, true]);
  });

  test("does not wait for what does not come", async () => {
    const hasher = openPartHasher(3);
    const part = randomBytes(1000);
    assert.equal((await hasher.md5(part)).toString("hex"), md5(part));
  });

  test("does not wait if parts are hashed alone, or no more will come", async () => {
    assert.deepEqual(await settledSoon([openPartHasher(1).md5(randomBytes(10))]), [true]);
    const hasher = openPartHasher(3);
    const asked = [hasher.md5(randomBytes(10))];
    hasher.flush();
    assert.deepEqual(await settledSoon(asked), [true]);
  });
});
