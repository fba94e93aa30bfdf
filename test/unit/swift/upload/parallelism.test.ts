// How many parts are in flight, and how large the slices of a body are.

import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { nextSliceBytes } from "../../../../src/swift/rate-limit.ts";
import { chooseParallelism, openParallelism, type Rates } from "../../../../src/swift/upload/parallelism.ts";

const MIB = 1024 ** 2;
const limits = { partBytes: 16 * MIB, most: 4 };

describe("the number of parts in flight", () => {
  const cases: readonly [string, number, Readonly<Record<number, number>>, number][] = [
    ["stays while nothing is measured", 3, {}, 3],
    ["rises at once to what a fast line sends in half a minute", 1, { 1: 100 * MIB }, 4],
    ["is tried higher, as each connection may have a limit of its own", 1, { 1: 0.1 * MIB }, 2],
    ["rises on while the line gets faster by it", 2, { 1: 0.1 * MIB, 2: 0.2 * MIB }, 3],
    ["sinks again where the line gets no faster by it", 2, { 1: 0.1 * MIB, 2: 0.11 * MIB }, 1],
    ["is not tried higher where that has brought nothing", 1, { 1: 0.1 * MIB, 2: 0.11 * MIB }, 1],
    ["sinks when a line has become slow", 4, { 4: 0.2 * MIB }, 3],
    ["stays where fewer were slower and more are not allowed", 4, { 3: 0.15 * MIB, 4: 0.2 * MIB }, 4],
    ["stays where it is what the line sends in half a minute", 2, { 1: MIB, 2: 1.1 * MIB, 3: 1.2 * MIB }, 2],
  ];
  for (const [name, current, rates, chosen] of cases) {
    test(name, () => {
      const known: Rates = new Map(Object.entries(rates).map(([parts, rate]) => [Number(parts), rate]));
      assert.equal(chooseParallelism(current, known, limits), chosen);
    });
  }

  /** Sends parts over a line for so long; gives the most that were in flight, by minutes. */
  async function sendOver(line: (inFlight: number) => number, minutes: number): Promise<number[]> {
    let now = 0;
    let inFlight = 0;
    const most: number[] = [];
    const parallelism = openParallelism(() => now);
    const left = new Map<object, { bytes: number; done: () => void }>();
    const send = (): void => {
      void parallelism.withPart(limits, async () => {
        inFlight += 1;
        const part = {};
        await new Promise<void>((done) => left.set(part, { bytes: limits.partBytes, done }));
        inFlight -= 1;
        left.delete(part);
        send();
      });
    };
    for (let i = 0; i < 5; i += 1) send();
    for (; now < minutes * 60_000; now += 500) {
      for (let i = 0; i < 5; i += 1) await Promise.resolve();
      const minute = Math.floor(now / 60_000);
      most[minute] = Math.max(most[minute] ?? 0, inFlight);
      const bytes = line(inFlight) / 2 / Math.max(1, inFlight);
      for (const part of [...left.values()]) {
        part.bytes -= bytes;
        parallelism.moved(bytes);
        if (part.bytes <= 0) part.done();
      }
    }
    return most;
  }

  test("reaches the limit within the first second of a fast line", async () => {
    assert.deepEqual(await sendOver(() => 50 * MIB, 1 / 60), [4]);
  });
  test("is one on a slow line, except for an occasional probe", async () => {
    const most = await sendOver(() => 0.1 * MIB, 60);
    assert.ok(Math.max(...most) <= 2, most.join());
    assert.ok(most.filter((parts) => parts === 1).length >= 45, most.join());
  });
  test("reaches the limit if each connection has a limit of its own", async () => {
    const most = await sendOver((inFlight) => inFlight * 0.1 * MIB, 10);
    assert.deepEqual(most.slice(3), Array(7).fill(4), most.join());
  });
});

test("a slice of a body grows while the socket accepts it fast, and shrinks on a slow line", () => {
  assert.deepEqual(
    [1, 100, 1000].map((elapsedMs) => nextSliceBytes(64 * 1024, elapsedMs)),
    [128 * 1024, 64 * 1024, 32 * 1024],
  );
  assert.equal(nextSliceBytes(MIB, 0), MIB);
  assert.equal(nextSliceBytes(16 * 1024, 10_000), 16 * 1024);
});
