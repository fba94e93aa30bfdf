// How the program is started: Node takes `--env-file` for an option of its own, wherever it stands, unless `--` stands
// before (nodejs/node#54232; seen on 20.20, 22.23 and 24.21).

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { after, before, describe, test } from "node:test";
import { MAIN } from "../support/cli.ts";

/** Half a pair of keys: the run ends before anybody is asked, and shows that the file was read. */
const HALF = "AWS_ACCESS_KEY_ID=half\n";
const LIST = ["list", "--container-name", "x"];
const PIPED = `cat | "$@" --env-file=/dev/stdin`;
const HALF_READ = /only one of AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY is set/;

describe("--env-file is ours, not Node's", () => {
  let directory: string;
  let linked: string;
  before(() => {
    directory = mkdtempSync(join(tmpdir(), "launch-"));
    linked = join(directory, "btrfs-snapshots-to-swift");
    // As npm's bin link does.
    symlinkSync(MAIN, linked);
    writeFileSync(join(directory, "half.env"), HALF);
    writeFileSync(join(directory, "options.env"), `${HALF}NODE_OPTIONS=--no-such-option\n`);
  });
  after(() => rmSync(directory, { recursive: true }));

  const start = (words: readonly string[], input = "") => {
    const [program = "", ...args] = words;
    const env = { PATH: `${dirname(process.execPath)}:/usr/bin:/bin` };
    return spawnSync(program, args, { encoding: "utf8", env, cwd: directory, input });
  };

  test("a missing file is reported by the program, with its own exit code", () => {
    const byUnit = [process.execPath, "--", MAIN];
    for (const words of [[linked], byUnit]) {
      const { status, stderr } = start([...words, ...LIST, "--env-file", "missing.env"]);
      assert.equal(status, 2, stderr);
      assert.match(stderr, /env file.*missing\.env/);
    }
  });

  test("a pipe arrives with all that it holds", () => {
    const { status, stderr } = start(["sh", "-c", PIPED, "sh", linked, ...LIST], HALF);
    assert.match(stderr, HALF_READ);
    assert.equal(status, 2);
  });

  test("NODE_OPTIONS in the file does nothing", () => {
    const { status, stderr } = start([linked, ...LIST, "--env-file", "options.env"]);
    assert.match(stderr, HALF_READ);
    assert.equal(status, 2);
  });

  test("started as node main.js, a file works, and what Node has spoilt already is refused", () => {
    const byNode = [process.execPath, MAIN];
    assert.match(start([...byNode, ...LIST, "--env-file", "half.env"]).stderr, HALF_READ);
    const piped = start(["sh", "-c", PIPED, "sh", ...byNode, ...LIST], HALF);
    assert.match(piped.stderr, /Node .*\/dev\/stdin.*node -- /);
    assert.equal(piped.status, 2);
    writeFileSync(join(directory, "heap.env"), `${HALF}NODE_OPTIONS=--max-old-space-size=200\n`);
    const changed = start([...byNode, ...LIST, "--env-file", "heap.env"]);
    assert.match(changed.stderr, /NODE_OPTIONS.*heap\.env.*node -- /);
    assert.equal(changed.status, 2);
  });
});
