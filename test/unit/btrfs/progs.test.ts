import assert from "node:assert/strict";
import { test } from "node:test";
import { isOlder } from "../../../src/btrfs/progs.ts";

test("versions of btrfs-progs are compared by their numbers", () => {
  for (const version of ["5.19", "6.1.3", "6", "6.0", "4.20-rc1"]) assert.ok(isOlder(version, [6, 2]), version);
  for (const version of ["6.2", "6.2.1", "6.14", "7.0", "10", "6.2-23-g1234", "custom"])
    assert.ok(!isOlder(version, [6, 2]), version);
});
