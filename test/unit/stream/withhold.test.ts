// The last bytes of a stream stay here until all of it has been found right.

import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { withhold } from "../../../src/stream/withhold.ts";

const letters = ["a", "bc", "", "def", "g"];

/** The bytes that a reader gets, and how the stream ended. Each piece comes in the memory of the one before. */
async function read(bytes: number, finish: () => void): Promise<readonly [passed: string, failure: string]> {
  const memory = Buffer.alloc(3);
  const pieces = async function* (): AsyncGenerator<Buffer> {
    for (const each of letters) yield await Promise.resolve(memory.subarray(0, memory.write(each)));
  };
  let passed = "";
  let seen = "";
  const update = (piece: Buffer): void => void (seen += piece.toString());
  try {
    for await (const piece of withhold(pieces(), bytes, { update, finish })) {
      assert.ok(piece.length > 0);
      passed += piece.toString();
      assert.ok(seen.startsWith(passed), "was passed on before it was looked at");
    }
  } catch (error) {
    return [passed, (error as Error).message];
  }
  assert.equal(seen, letters.join(""));
  return [passed, ""];
}

describe("what is withheld", () => {
  const bad = (): never => {
    throw new Error("bad");
  };
  for (const [bytes, passed] of [
    [0, "abcdefg"],
    [1, "abcdef"],
    [3, "abcd"],
    [4, "abc"],
    [6, "a"],
    [7, ""],
    [100, ""],
  ] as const) {
    test(`are the last ${bytes} bytes, unless all was right`, async () => {
      assert.deepEqual(await read(bytes, bad), [passed, "bad"]);
      assert.deepEqual(await read(bytes, () => undefined), ["abcdefg", ""]);
    });
  }
});
