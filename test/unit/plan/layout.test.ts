// How streams are cut into parts and volumes.

import assert from "node:assert/strict";
import { test } from "node:test";
import { encryptionChange, PLAIN, type EncryptionChange, type EncryptionIntent } from "../../../src/plan/encoding.ts";
import type { Encoding } from "../../../src/plan/model.ts";
import { planLayout, TOO_LONG_FOR_ONE, type Load } from "../../../src/plan/layout.ts";

const MiB = 2 ** 20;
const GiB = 2 ** 30;
const swift = { partsPerUpload: 1000, minPartBytes: 5 * MiB, maxPartBytes: 5 * GiB };
const usual = { memoryBytes: 512 * MiB, concurrency: 4, volumeBytes: null };
const exactly = (bytes: number): Load => ({ estimate: { bytes, exact: true }, cost: PLAIN });
const tooLong: Load = { estimate: TOO_LONG_FOR_ONE, cost: PLAIN };
const unknown: Load = { estimate: null, cost: PLAIN };

test("a small stream uses the usual parts and all the concurrency", () => {
  assert.deepEqual(planLayout(exactly(1), swift, usual), {
    partBytes: 16 * MiB,
    concurrency: 4,
    partsInMemory: 8,
    volumeBytes: null,
  });
});

test("parts grow so that the stream fits the parts that the store accepts", () => {
  assert.deepEqual(planLayout(exactly(50 * GiB), swift, usual), {
    partBytes: 52 * MiB,
    concurrency: 4,
    partsInMemory: 8,
    volumeBytes: null,
  });
});

test("where parts are large, fewer of them are in flight: memory is kept", () => {
  const layout = planLayout(exactly(100 * GiB), swift, usual);
  assert.deepEqual(layout, { partBytes: 103 * MiB, concurrency: 3, partsInMemory: 4, volumeBytes: null });
});

test("a stream that fits no object within the memory is cut into volumes of the largest parts at full concurrency", () => {
  const largest = 256 * MiB * 1000;
  assert.equal(planLayout(exactly(largest), swift, usual)?.volumeBytes, null);
  const volumes = { partBytes: 102 * MiB, concurrency: 4, partsInMemory: 5, volumeBytes: 102 * MiB * 1000 };
  assert.deepEqual(planLayout(exactly(largest + 1), swift, usual), volumes);
  assert.deepEqual(planLayout(tooLong, swift, usual), volumes);
  assert.equal(planLayout(exactly(largest + 1), swift, { ...usual, memoryBytes: GiB })?.volumeBytes, null);
});

test("volumes are as long as wanted, and what is shorter stays one object", () => {
  const wanted = { ...usual, volumeBytes: 100 * MiB };
  assert.equal(planLayout(exactly(100 * MiB), swift, wanted)?.volumeBytes, null);
  assert.deepEqual(planLayout(exactly(101 * MiB), swift, wanted), {
    partBytes: 100 * MiB,
    concurrency: 4,
    partsInMemory: 5,
    volumeBytes: 100 * MiB,
  });
  assert.equal(planLayout(exactly(101 * MiB), swift, { ...usual, volumeBytes: 1 })?.volumeBytes, 5 * MiB);
});

test("without an estimate the parts are as large as memory allows at full concurrency", () => {
  assert.deepEqual(planLayout(unknown, swift, usual), {
    partBytes: 102 * MiB,
    concurrency: 4,
    partsInMemory: 5,
    volumeBytes: null,
  });
});

test("the store's own limits on parts hold", () => {
  assert.equal(planLayout(exactly(1), { ...swift, minPartBytes: 32 * MiB }, usual)?.partBytes, 32 * MiB);
  assert.equal(planLayout(unknown, { ...swift, maxPartBytes: 8 * MiB }, usual)?.partBytes, 8 * MiB);
  assert.equal(planLayout(exactly(9 * GiB), { ...swift, maxPartBytes: 8 * MiB }, usual)?.volumeBytes, 8000 * MiB);
});

test("parts are no larger than can be handled in one piece, however much memory there is", () => {
  const plenty = { ...usual, memoryBytes: 64 * GiB };
  assert.equal(planLayout(exactly(1000 * GiB), swift, plenty)?.partBytes, GiB);
  assert.equal(planLayout(exactly(1000 * GiB + 1), swift, plenty)?.volumeBytes, 1000 * GiB);
});

test("too little memory for the smallest part has no layout", () => {
  assert.equal(planLayout(exactly(1), swift, { ...usual, memoryBytes: 9 * MiB }), null);
});

test("volumes grow where those of the size wanted would be more than one archive can have", () => {
  const wanted = { ...usual, volumeBytes: 5 * MiB };
  for (const bytes of [GiB, 100 * GiB, 10_000 * GiB]) {
    const layout = planLayout(exactly(bytes), swift, wanted, { mostVolumes: 100 });
    const [partBytes, volumeBytes] = [layout?.partBytes ?? 0, layout?.volumeBytes ?? 0];
    assert.ok(Math.ceil(bytes / volumeBytes) <= 100 && volumeBytes <= partBytes * 1000, String(bytes));
    assert.ok(partBytes * (layout?.partsInMemory ?? 0) <= usual.memoryBytes);
  }
  assert.equal(planLayout(exactly(400 * MiB), swift, wanted, { mostVolumes: 100 })?.volumeBytes, 5 * MiB);
});

test("on a slow line parts are what is sent in half a minute, if the store accepts that and the stream still fits", () => {
  const partBytes = (bytesPerSecond: number | null, bytes = GiB, limits = swift): number =>
    (planLayout(exactly(bytes), limits, usual, { bytesPerSecond })?.partBytes ?? 0) / MiB;
  assert.deepEqual(
    [null, 100 * MiB, MiB, 0.3 * MiB, 0.2 * MiB, 0.01 * MiB].map((rate) => partBytes(rate)),
    [16, 16, 16, 9, 6, 5],
  );
  assert.equal(partBytes(0.01 * MiB, GiB, { ...swift, minPartBytes: 1 }), 2);
  assert.equal(partBytes(0.2 * MiB, 50 * GiB), 52);
  assert.equal(planLayout(unknown, swift, usual, { bytesPerSecond: 1 })?.partBytes, 102 * MiB);
});

test("an open upload is resumed in the parts that it has, where the stream fits them and memory holds them", () => {
  const partBytes = (openPartBytes: number, bytes = GiB): number =>
    (planLayout(exactly(bytes), swift, usual, { openPartBytes, bytesPerSecond: MiB / 4 })?.partBytes ?? 0) / MiB;
  assert.deepEqual(
    [5, 6, 16, 102].map((open) => partBytes(open * MiB)),
    [5, 6, 16, 102],
  );
  assert.deepEqual(
    [4, 257].map((open) => partBytes(open * MiB)),
    [7, 7],
  );
  assert.equal(partBytes(5 * MiB, 50 * GiB), 52);
  const layout = planLayout(exactly(GiB), swift, usual, { openPartBytes: 200 * MiB });
  assert.deepEqual([layout?.concurrency, layout?.partsInMemory], [1, 2]);
});

test("volumes are the same whatever is known of the line: only so they are found again", () => {
  const wanted = { ...usual, volumeBytes: 100 * MiB };
  const known = { bytesPerSecond: 1, openPartBytes: 5 * MiB };
  assert.deepEqual(planLayout(exactly(GiB), swift, wanted, known), planLayout(exactly(GiB), swift, wanted));
});

test("recognises that encryption is dropped without a request, or begun over archives that are known to be readable", () => {
  const cases: [EncryptionIntent, (Encoding | null)[], EncryptionChange][] = [
    ["undecided", ["age"], "dropped"],
    ["undecided", ["zstd+age"], "dropped"],
    ["undecided", ["identity", "age"], "dropped"],
    ["undecided", ["zstd"], "none"],
    ["undecided", [null], "none"],
    ["undecided", [], "none"],
    ["declined", ["age"], "none"],
    ["encrypt", ["age"], "none"],
    ["encrypt", ["identity"], "begun"],
    ["encrypt", ["zstd"], "begun"],
    ["encrypt", [null], "none"],
    ["encrypt", [], "none"],
  ];
  for (const [intent, newest, change] of cases)
    assert.equal(encryptionChange(intent, newest), change, `${intent} ${newest.join()}`);
});
