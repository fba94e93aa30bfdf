// The last bytes of a stream stay here until all of it has been found right.

import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { withhold } from "../../../src/stream/withhold.ts";

const letters = ["a", "bc", "", "def", "g"];

/** The bytes that a reader gets, and how the stream ended. */
async function read(leastBytes: number, finish: () => void): Promise<readonly [passed: string[], failure: string]> {
  const passed: string[] = [];
  const pieces = async function* (): AsyncGenerator<Buffer> {
    for (const each of letters) yield await Promise.resolve(Buffer.from(each));
  };
  let seen = "";
  const update = (piece: Buffer): void => void (seen += piece.toString());
  try {
    for await (const piece of withhold(pieces(), leastBytes, { update, finish })) {
      passed.push(piece.toString());
      assert.ok(seen.startsWith(passed.join("")), "was passed on before it was looked at");
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
  for (const [leastBytes, passed] of [
    [0, ["a", "bc", "def", "g"]],
    [1, ["a", "bc", "def"]],
    [3, ["a", "bc"]],
    [4, ["a", "bc"]],
    [5, ["a"]],
    [100, []],
  ] as const) {
    test(`are the last pieces with at least ${leastBytes} bytes, unless all was right`, async () => {
      assert.deepEqual(await read(leastBytes, bad), [[...passed], "bad"]);
      assert.deepEqual(await read(leastBytes, () => undefined), [["a", "bc", "def", "g"], ""]);
    });
  }
});
