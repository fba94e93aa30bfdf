import assert from "node:assert/strict";
import { test } from "node:test";
import { largestObject, planLayout } from "../../src/plan/layout.ts";

const MiB = 2 ** 20;
const GiB = 2 ** 30;
const swift = { partsPerUpload: 1000, minPartBytes: 5 * MiB, maxPartBytes: 5 * GiB };
const usual = { memoryBytes: 512 * MiB, concurrency: 4 };
const exactly = (bytes: number): { bytes: number; exact: boolean } => ({ bytes, exact: true });

test("a small stream takes the usual parts and all the concurrency", () => {
  assert.deepEqual(planLayout(exactly(1), swift, usual), { partBytes: 16 * MiB, concurrency: 4 });
});

test("parts grow so that the stream fits the parts that the store takes", () => {
  assert.deepEqual(planLayout(exactly(50 * GiB), swift, usual), { partBytes: 52 * MiB, concurrency: 4 });
});

test("where parts are large, fewer of them are in flight: memory is kept", () => {
  const layout = planLayout(exactly(100 * GiB), swift, usual);
  assert.deepEqual(layout, { partBytes: 103 * MiB, concurrency: 1 });
});

test("a stream that fits no object within the memory has no layout; the largest that does has one", () => {
  const largest = largestObject(swift, usual);
  assert.equal(largest, 128 * MiB * 1000);
  assert.notEqual(planLayout(exactly(largest), swift, usual), null);
  assert.equal(planLayout(exactly(largest + 1), swift, usual), null);
  assert.notEqual(planLayout(exactly(largest + 1), swift, { ...usual, memoryBytes: GiB }), null);
});

test("without an estimate the parts are as large as memory allows at full concurrency", () => {
  assert.deepEqual(planLayout(null, swift, usual), { partBytes: 73 * MiB, concurrency: 4 });
});

test("the store's own limits on parts hold", () => {
  assert.equal(planLayout(exactly(1), { ...swift, minPartBytes: 32 * MiB }, usual)?.partBytes, 32 * MiB);
  assert.equal(planLayout(null, { ...swift, maxPartBytes: 8 * MiB }, usual)?.partBytes, 8 * MiB);
  assert.equal(planLayout(exactly(9 * GiB), { ...swift, maxPartBytes: 8 * MiB }, usual), null);
});

test("too little memory for the smallest part has no layout", () => {
  assert.equal(planLayout(exactly(1), swift, { memoryBytes: 19 * MiB, concurrency: 4 }), null);
});
