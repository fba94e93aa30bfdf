// The rig the other tests stand on: a real Swift that starts as configured and leaves nothing behind; and a comparison
// of trees that sees every kind of difference.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { appendFile, chmod, link, rename, rm, rmdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { btrfs, openLoopback, run, type Loopback } from "../support/loopback.ts";
import { noBtrfs, noSwift } from "../support/requirements.ts";
import { openSwift, type Swift } from "../support/swift.ts";
import { openNative } from "../support/swift-native.ts";
import { changeTree, compareTrees, makeTree } from "../support/tree.ts";

/** Command lines of the processes that serve from a Swift's directory. */
function serving(directory: string): readonly string[] {
  return readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name))
    .map((pid) => readCommandLine(pid))
    .filter((line) => line.includes(directory) && line.includes("serve.py"));
}

function readCommandLine(pid: string): string {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, "utf8");
  } catch {
    return ""; // It has ended meanwhile.
  }
}

async function untilTrue(what: string, holds: () => boolean | Promise<boolean>): Promise<void> {
  for (let waited = 0; !(await holds()); waited += 50) {
    assert.ok(waited < 60_000, `not within a minute: ${what}`);
    await sleep(50);
  }
}

describe("a filesystem on a loop device", { skip: noBtrfs() }, () => {
  test("is gone when the process that opened it is killed", async () => {
    const module = fileURLToPath(new URL("../support/loopback.js", import.meta.url));
    const script = `
      import { openLoopback } from ${JSON.stringify(module)};
      const { mount, directory } = await openLoopback({ sizeBytes: 2 ** 27 });
      await mount("subvolid=5");
      console.log(directory);
      setInterval(() => undefined, 1000);`;
    const args = ["--input-type=module", "-e", script];
    const child = spawn(process.execPath, args, { stdio: ["ignore", "pipe", "inherit"] });
    const directory = String((await once(child.stdout, "data"))[0]).trim();
    const left = async (): Promise<string> =>
      (await run("losetup", "--noheadings", "--output", "BACK-FILE")) + readFileSync("/proc/self/mounts", "utf8");
    assert.equal((await left()).split(directory).length, 4, "a device and two mounts");
    child.kill("SIGKILL");
    await untilTrue("the directory is gone", () => !existsSync(directory));
    await untilTrue("device and mounts are gone", async () => !(await left()).includes(directory));
  });
});

describe("Swift", { skip: noSwift() }, () => {
  let swift: Swift;
  before(async () => {
    const limits = { maxUploadPartNum: 12, maxManifestSegments: 11, maxFileSize: 6_000_000, minSegmentSize: 1000 };
    swift = await openSwift({ limits });
  });
  after(() => swift.close());

  test("shows the limits it was given", async () => {
    const answer = await fetch(`${swift.endpoint}/info`);
    const text = await answer.text();
    assert.match(text, /"max_upload_part_num": 12\b/);
    assert.match(text, /"max_manifest_segments": 11\b/);
    assert.match(text, /"max_file_size": 6000000\b/);
    assert.match(text, /"min_segment_size": 1000\b/);
  });

  test("keeps objects over crashes of every server", async () => {
    await swift.createContainer("kept");
    await swift.native.putObject("kept", "a\\x2fb ü", Buffer.from("content"));
    for (const server of ["object", "container", "account", "proxy"] as const) {
      await swift.stop(server);
      await swift.start(server);
    }
    assert.equal((await swift.native.getObject("kept", "a\\x2fb ü")).toString(), "content");
  });

  test("does not answer while its proxy is stopped or frozen", async () => {
    const ask = (patienceMs = 60_000) =>
      fetch(`${swift.endpoint}/healthcheck`, { signal: AbortSignal.timeout(patienceMs) });
    swift.freeze("proxy");
    await assert.rejects(ask(1000), { name: "TimeoutError" });
    swift.thaw("proxy");
    assert.equal((await ask()).status, 200);
    await swift.stop("proxy");
    await assert.rejects(ask(), { name: "TypeError" });
    await swift.start("proxy");
    assert.equal((await ask()).status, 200);
  });

  test("refuses the reader and keeps the stranger out", async () => {
    await swift.createContainer("private");
    const reader = await openNative(swift.endpoint, swift.reader);
    assert.equal((await reader.request("PUT", "/private/x", { body: Buffer.from("x") })).status, 403);
    const stranger = await openNative(swift.endpoint, swift.stranger);
    assert.equal((await stranger.request("GET", "/private")).status, 404);
    await assert.rejects(openNative(swift.endpoint, { ...swift.reader, secretKey: "wrong" }), /401/);
  });

  test("runs beside another one, and close() leaves nothing of that", async () => {
    const other = await openSwift();
    await other.createContainer("here");
    assert.equal((await swift.native.request("GET", "/here")).status, 404);
    assert.equal(serving(other.dir).length, 4);
    await other.close();
    assert.deepEqual(serving(other.dir), []);
    assert.equal(existsSync(other.dir), false);
  });

  test("is gone when the process that opened it is killed", async () => {
    const module = fileURLToPath(new URL("../support/swift.js", import.meta.url));
    const script = `import { openSwift } from ${JSON.stringify(module)}; console.log((await openSwift()).dir);`;
    const args = ["--input-type=module", "-e", script];
    const child = spawn(process.execPath, args, { stdio: ["ignore", "pipe", "inherit"] });
    const directory = String((await once(child.stdout, "data"))[0]).trim();
    assert.equal(serving(directory).length, 4);
    child.kill("SIGKILL");
    await untilTrue("servers and directory gone", () => serving(directory).length === 0 && !existsSync(directory));
  });

  test("shows the end of its logs when it cannot start", async () => {
    await assert.rejects(openSwift({ proxy: { client_timeout: "nonsense" } }), /nonsense/);
  });
});

describe("trees", { skip: noBtrfs() }, () => {
  let loopback: Loopback;
  let original: string;
  before(async () => {
    loopback = await openLoopback({ sizeBytes: 1024 ** 3 });
    original = join(loopback.mountPoint, "original");
    await btrfs("subvolume", "create", original);
    await makeTree(original, { seed: 7, files: 60, bytes: 2_000_000, zoo: true });
  });
  after(() => loopback.close());

  /** A writable copy that shares everything with the original. */
  async function copyOf(name: string): Promise<string> {
    const copy = join(loopback.mountPoint, name);
    await btrfs("subvolume", "snapshot", original, copy);
    return copy;
  }

  test("the same seed gives the same content, another seed another", async () => {
    const [a, b, c] = ["a", "b", "c"].map((name) => join(loopback.mountPoint, name));
    for (const [directory = "", seed] of [
      [a, 1],
      [b, 1],
      [c, 2],
    ] as const) {
      await run("mkdir", directory);
      await makeTree(directory, { seed, files: 10, bytes: 100_000 });
    }
    const contents = async (x = "", y = "") => {
      const { differences } = await compareTrees(x, y);
      return differences.filter((line) => line.includes("sha256"));
    };
    assert.deepEqual(await contents(a, b), []);
    assert.equal((await contents(a, c)).length, 10);
  });

  test("a snapshot equals what it was taken of, until that is changed", async () => {
    const copy = await copyOf("equal");
    const equal = await compareTrees(original, copy);
    assert.deepEqual(equal.differences, []);
    assert.ok(equal.entries > 250, `${equal.entries} entries`);
    await changeTree(copy, 1);
    assert.notDeepEqual((await compareTrees(original, copy)).differences, []);
  });

  /** A path in the zoo, what is done to it, and how the comparison reports it. */
  const changes: readonly (readonly [what: string, path: string, change: Change, difference: RegExp])[] = [
    ["one byte more", "attributes/file", (path) => appendFile(path, "x"), /file: size/],
    ["one nanosecond", "attributes/file", python("os.utime(p, ns=(1, os.stat(p).st_mtime_ns + 1))"), /file: mtime/],
    ["mode", "attributes/file", (path) => chmod(path, 0o600), /file: mode/],
    ["owner", "attributes/file", python("os.chown(p, 5, -1)"), /file: owner "0:0" ≠ "5:0"/],
    ["an attribute", "attributes/file", python("os.setxattr(p, 'user.text', b'other')"), /file: xattrs/],
    ["a capability", "attributes/capable", python("os.removexattr(p, 'security.capability')"), /capable: xattrs/],
    ["an ACL", "attributes/access-list", python("os.removexattr(p, 'system.posix_acl_access')"), /-list: xattrs/],
    ["other content of that size", "layouts/inline", (path) => writeFile(path, "TINY"), /inline: sha256/],
    ["a hard link split", "links/left/000", splitLink, /left\/000: links/],
    ["a hard link more", "links/one", (path) => link(path, `${path}-more`), /one-more: only in the second/],
    ["a symlink's target", "links/dangling", python("os.unlink(p); os.symlink('elsewhere', p)"), /dangling: target/],
    ["a device number", "nodes/null", python("os.unlink(p); os.mknod(p, 0o20666, os.makedev(1, 5))"), /null: device/],
    ["a fifo lost", "nodes/fifo", (path) => rm(path), /fifo: only in the first/],
    ["an empty directory lost", "nodes/empty", (path) => rmdir(path), /empty: only in the first/],
    ["a name's bytes", "names/new\nline", (path) => rename(path, `${path}2`), /new%0Aline: only in the first/],
  ];
  for (const [index, [what, path, change, difference]] of changes.entries()) {
    test(`the comparison sees: ${what}`, async () => {
      const copy = await copyOf(`change-${index}`);
      await change(join(copy, "zoo", path));
      const { differences } = await compareTrees(original, copy);
      assert.ok(
        differences.some((line) => difference.test(line)),
        differences.join("\n") || "no difference seen",
      );
    });
  }
});

type Change = (path: string) => Promise<unknown>;

/** A statement about the path `p`. */
function python(statement: string): Change {
  return (path) => run("/usr/bin/python3", "-c", `import os, sys; p = sys.argv[1]; ${statement}`, path);
}

async function splitLink(path: string): Promise<void> {
  await run("cp", "-a", path, `${path}.copy`);
  await rename(`${path}.copy`, path);
}
