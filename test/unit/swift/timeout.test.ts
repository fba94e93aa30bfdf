// Time limits for work.

import assert from "node:assert/strict";
import { once } from "node:events";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { withTimeout } from "../../../src/swift/timeout.ts";

const { signal } = new AbortController();

/** Work that only its signal ends. */
const endless = async (stop: AbortSignal): Promise<string> => {
  if (!stop.aborted) await once(stop, "abort");
  return "stopped";
};

test("a timeout ends also after garbage collection", async () => {
  setFlagsFromString("--expose-gc");
  const collectGarbage = runInNewContext("gc") as () => void;
  const ended = withTimeout(300, signal, endless);
  await sleep(50);
  collectGarbage();
  assert.equal(await Promise.race([ended, sleep(3000, "forgotten")]), "stopped");
});

test("a timeout ends with the caller's signal, aborted before or during it", async () => {
  assert.equal(await withTimeout(60_000, AbortSignal.abort(), endless), "stopped");
  const caller = new AbortController();
  setTimeout(() => caller.abort(), 20);
  assert.equal(await withTimeout(60_000, caller.signal, endless), "stopped");
});
