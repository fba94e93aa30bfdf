import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { cli } from "../support/cli.ts";

const hasSystemd = spawnSync("systemd-analyze", ["--version"]).status === 0;

test("install-units writes what systemd takes without a word", async () => {
  const directory = mkdtempSync(join(tmpdir(), "units-"));
  try {
    const { code, stderr } = await cli(["install-units", "--directory", directory]);
    assert.equal(code, 0, stderr);
    const files = readdirSync(directory).sort();
    assert.deepEqual(files, ["btrfs-snapshots-to-swift@.service", "btrfs-snapshots-to-swift@.timer"]);
    if (!hasSystemd) return;
    const verified = spawnSync("systemd-analyze", ["verify", ...files.map((file) => join(directory, file))], { encoding: "utf8" });
    assert.doesNotMatch(verified.stderr, /btrfs-snapshots-to-swift/);
  } finally {
    rmSync(directory, { recursive: true });
  }
});
