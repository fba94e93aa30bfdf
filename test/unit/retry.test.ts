// The loop that tries again: what ends it, and with which failure.

import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { retry, type RetryOptions } from "../../src/retry.ts";

const signal = new AbortController().signal;
const soon = { delayMs: () => 1 };

/** Fails with its number until it has done so many attempts. */
function failing(until: number): (attempt: number) => Promise<string> {
  return async (attempt) => {
    if (attempt < until) throw new Error(`attempt ${attempt}`);
    return `done by attempt ${attempt}`;
  };
}

describe("retry", () => {
  const endings: readonly (readonly [what: string, options: RetryOptions, outcome: string])[] = [
    ["gives the first result", { ...soon, forMs: 60_000 }, "done by attempt 4"],
    ["ends at once when a failure cannot pass", { ...soon, forMs: 60_000, when: () => false }, "attempt 1"],
    ["ends with the last failure when no time is left", { forMs: 50, delayMs: () => 60 }, "attempt 1"],
    ["does not end before so many attempts", { ...soon, forMs: 0, leastAttempts: 3 }, "attempt 3"],
  ];
  for (const [what, options, outcome] of endings) {
    test(what, async () => {
      const ended = await retry(failing(4), options, signal).catch((error: unknown) => (error as Error).message);
      assert.equal(ended, outcome);
    });
  }

  test("reports each wait, and when it ends", async () => {
    const waits: [message: string, isLater: boolean][] = [];
    const onWait = (error: unknown, untilMs: number): void =>
      void waits.push([(error as Error).message, untilMs >= 1 && untilMs < 60_000]);
    await retry(failing(3), { ...soon, forMs: 60_000, onWait }, signal);
    assert.deepEqual(waits, [
      ["attempt 1", true],
      ["attempt 2", true],
    ]);
  });

  test("is stopped by the signal, in a wait or in the work, and reports that", async () => {
    const stop = new AbortController();
    const waiting = retry(
      failing(9),
      { forMs: 60_000, delayMs: () => 30_000, onWait: () => stop.abort() },
      stop.signal,
    );
    await assert.rejects(waiting, { code: "ABORTED" });
    await assert.rejects(retry(failing(9), { ...soon, forMs: 60_000 }, stop.signal), { code: "ABORTED" });
  });
});
