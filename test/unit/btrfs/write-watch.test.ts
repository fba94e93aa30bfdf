import assert from "node:assert/strict";
import { test } from "node:test";
import type { RawDeviceErrors } from "../../../src/addon/subvolumes.ts";
import { describeDeviceErrors } from "../../../src/btrfs/write-watch.ts";

function device(id: number, errors: Partial<RawDeviceErrors> = {}): RawDeviceErrors {
  return { id, path: `/dev/sd${id}`, write: 0, read: 0, flush: 0, corruption: 0, generation: 0, ...errors };
}

test("counters of devices that are the same show nothing, however high they are", () => {
  const old = [device(1, { write: 7, corruption: 3 }), device(2)];
  assert.equal(describeDeviceErrors(old, [...old].reverse()), null);
  assert.equal(describeDeviceErrors([device(1)], [device(1), device(2)]), null, "one was added");
});

test("every other change of the counters is described", () => {
  const changes: readonly (readonly [RawDeviceErrors[], RawDeviceErrors[], string])[] = [
    [[device(1, { write: 7 })], [device(1, { write: 8 })], "/dev/sd1 had 1 write error"],
    [[device(1)], [device(1, { read: 2, flush: 1 })], "/dev/sd1 had 2 read errors, 1 flush error"],
    [[device(1)], [device(1, { corruption: 1 })], "/dev/sd1 had 1 corruption error"],
    [[device(1), device(2)], [device(1), device(2, { generation: 4 })], "/dev/sd2 had 4 generation errors"],
    [[device(1, { write: 7 })], [device(1)], "the error counters of /dev/sd1 were reset"],
    [[device(1)], [device(1), device(2, { write: 1 })], "/dev/sd2 had 1 write error"],
    [[device(1), device(2)], [device(1)], "/dev/sd2 was removed from the filesystem"],
    [[device(1, { path: "" })], [device(1, { path: "", write: 1 })], "device 1 had 1 write error"],
  ];
  for (const [before, after, expected] of changes) assert.equal(describeDeviceErrors(before, after), expected);
});
