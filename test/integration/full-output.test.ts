// Runs whose output cannot be written, such as a cron job that logs to a full disk.

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { MAIN } from "../support/cli.ts";
import { btrfs, openLoopback, run, type Loopback } from "../support/loopback.ts";
import { noBtrfsOrSwift } from "../support/requirements.ts";
import { openSwift, type Swift } from "../support/swift.ts";

const MiB = 2 ** 20;
const CONTAINER = "full";

describe("a full disk for the output", { skip: noBtrfsOrSwift() }, () => {
  let swift: Swift;
  let disk: Loopback;
  let empty: Loopback;

  before(async () => {
    const sizeBytes = 256 * MiB;
    [swift, disk, empty] = await Promise.all([openSwift(), openLoopback({ sizeBytes }), openLoopback({ sizeBytes })]);
    await swift.createContainer(CONTAINER);
  });
  after(async () => {
    await Promise.all([swift.close(), disk.close(), empty.close()]);
  });

  /** @param redirection - as a shell takes it */
  function program(redirection: string, ...args: string[]): Promise<{ code: unknown; stdout: string; stderr: string }> {
    const words = [
      "-c",
      `exec "$@" ${redirection}`,
      "sh",
      process.execPath,
      MAIN,
      ...args,
      "--container-name",
      CONTAINER,
    ];
    const env = { PATH: "/usr/bin:/bin", ...swift.environment, HOME: disk.directory };
    return new Promise((resolve) => {
      execFile("sh", words, { env }, (error, stdout, stderr) => {
        resolve({ code: error?.code ?? 0, stdout, stderr });
      });
    });
  }

  async function subvolume(name: string): Promise<string> {
    const path = join(disk.mountPoint, name);
    await btrfs("subvolume", "create", path);
    for (const number of [1, 2]) {
      await writeFile(join(path, "file"), `${name} ${number}`);
      await btrfs("subvolume", "snapshot", "-r", path, `${path}.${number}`);
    }
    return path;
  }

  const differences = (name: string): Promise<string> =>
    run(
      "rsync",
      "-aHAXn",
      "--checksum",
      "--delete",
      "-i",
      join(disk.mountPoint, name, "/"),
      join(empty.mountPoint, name),
    );

  test("does not stop archiving, and is reported by the exit code and one line", async () => {
    for (const [name, ...more] of [
      ["text", "-vv"],
      ["json", "--json"],
    ] as const) {
      const { code, stderr } = await program("> /dev/full", await subvolume(name), "--no-encryption", ...more);
      assert.equal(code, 3, stderr);
      assert.match(stderr, /^error: the result was not written to stdout: the disk is full$/m);
      assert.doesNotMatch(stderr, /^ +at /m);
    }
    const both = await program("> /dev/full 2>&1", await subvolume("both"), "--no-encryption");
    assert.deepEqual(both, { code: 3, stdout: "", stderr: "" });
    const logless = await program("2> /dev/full", await subvolume("logless"), "-v", "--no-encryption", "--json");
    assert.equal(logless.code, 0, "a log that is lost is no result");
    assert.match(logless.stdout, /"type":"summary".*"sent":2/);
    for (const name of ["text", "json", "both", "logless"]) {
      const restored = await program("> /dev/full", "restore", `${name}.2`, "--target", empty.mountPoint);
      assert.equal(restored.code, 3, restored.stderr);
      assert.match(restored.stderr, /the result was not written to stdout: the disk is full/);
      assert.equal(await differences(`${name}.2`), "");
    }
  });

  test("is reported by every command", async () => {
    const path = join(disk.mountPoint, "text");
    const commands = [
      ["list"],
      ["list", path, "--json"],
      ["verify", "--read-data"],
      ["verify", "--json"],
      ["doctor", path, "--no-encryption"],
      ["doctor", path, "--no-encryption", "--json"],
      ["restore", "text.1", "-n", "--target", path],
      ["restore", "text.1", "-n", "--json", "--target", path],
    ];
    for (const words of commands) {
      const { code, stderr } = await program("> /dev/full", ...words);
      assert.equal(code, 3, `${words.join(" ")} ${stderr}`);
      assert.match(stderr, /the result was not written to stdout: the disk is full/);
      assert.doesNotMatch(stderr, /^ +at |a bug/m);
    }
    const stream = await program("> /dev/full", "restore", "text.2", "--stdout");
    assert.equal(stream.code, 15);
    assert.match(stream.stderr, /the stream was not written: the disk is full/);
    assert.doesNotMatch(stream.stderr, /^ +at |a bug/m);
  });
});
