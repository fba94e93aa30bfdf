// The cleaning up at the end of a command.

import assert from "node:assert/strict";
import { test } from "node:test";
import { openClosers } from "../../../src/commands/closers.ts";
import { BackupError } from "../../../src/errors.ts";

test("a closer that fails is reported, and does not stop the others", async () => {
  const closers = openClosers();
  const seen: string[] = [];
  closers.add(() => seen.push("first"));
  closers.add(() => Promise.reject(new BackupError("RECEIVE_FAILED", "umount failed", { hint: "it is busy" })));
  closers.add(() => {
    throw new Error("at once");
  });
  closers.add(() => seen.push("last"));
  const warnings: string[] = [];
  await closers.closeAll((sentence) => warnings.push(sentence));
  assert.deepEqual(seen, ["last", "first"]);
  assert.equal(warnings.length, 2);
  assert.match(warnings[0] ?? "", /^not everything could be cleaned up: .*at once/);
  assert.match(warnings[1] ?? "", /umount failed: it is busy$/);
  await closers.closeAll((sentence) => warnings.push(sentence));
  assert.deepEqual([seen.length, warnings.length], [2, 2], "once");
});
