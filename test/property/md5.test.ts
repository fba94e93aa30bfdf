// MD5 digests side by side are those of node:crypto, for any buffers.

import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { describe, test } from "node:test";
import fc from "fast-check";
import { md5s } from "../../src/addon/md5.ts";

/** At any address: each a part of memory of its own. */
const buffers = fc
  .tuple(fc.uint8Array({ maxLength: 2000, size: "max" }), fc.nat({ max: 20 }))
  .map(([bytes, from]) => bytes.subarray(Math.min(from, bytes.length)));

describe("the MD5s of several buffers", () => {
  test("are those that each has by itself", async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(buffers, { maxLength: 12 }), async (list) => {
        const alone = list.map((each) => createHash("md5").update(each).digest("hex"));
        assert.deepEqual(
          (await md5s(list)).map((digest) => digest.toString("hex")),
          alone,
        );
      }),
    );
  });
});
