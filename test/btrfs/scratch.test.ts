// The filesystem of a drill, and how trees are compared on it.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { appendFile, chmod, mkdir, readdir, readFile, stat, utimes, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { after, before, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { openScratch } from "../../src/btrfs/scratch.ts";
import { openSource } from "../../src/btrfs/source.ts";
import { BackupError } from "../../src/errors.ts";
import type { Scratch, SnapshotSource } from "../../src/operations/ports.ts";
import { streamIdentity, type Snapshot } from "../../src/plan/model.ts";
import { compareTrees } from "../../src/plan/tree-differences.ts";
import { btrfs, openLoopback, run, type Loopback } from "../support/loopback.ts";
import { noBtrfs } from "../support/requirements.ts";

const { signal } = new AbortController();

describe("a drill's filesystem", { skip: noBtrfs() }, () => {
  let disk: Loopback;
  let home: string;
  let work: string;
  let source: SnapshotSource;
  let scratch: Scratch;

  before(async () => {
    disk = await openLoopback({ sizeBytes: 256 * 2 ** 20 });
    home = join(disk.mountPoint, "home");
    work = join(disk.directory, "work");
    await mkdir(work);
    await btrfs("subvolume", "create", home);
    await btrfs("subvolume", "create", join(home, "nested ü"));
    await mkdir(join(home, "folder"));
    await writeFile(join(home, "folder/file"), "content");
    source = await openSource(home, { sendProto: null }, signal);
    scratch = await openScratch({ directory: work, bytes: 1000, path: home }, signal);
  });
  after(async () => {
    await source.close();
    await scratch.close();
    await disk.close();
  });

  async function take(name: string): Promise<Snapshot> {
    await btrfs("subvolume", "snapshot", "-r", home, join(disk.mountPoint, name));
    return (await source.list(signal)).snapshots.at(-1) ?? assert.fail();
  }

  async function restore(snapshot: Snapshot): Promise<Snapshot> {
    const stream = source.send({ snapshot, sendParent: null }, signal);
    return scratch.target.receive(stream, snapshot.path, streamIdentity(snapshot), signal);
  }

  test("finds restored trees equal, though the place of another subvolume is not in them", async () => {
    const snapshot = await take("equal");
    assert.deepEqual(await scratch.compare(snapshot, await restore(snapshot), signal), []);
  });

  const changes: readonly (readonly [what: string, change: (file: string) => Promise<void>, expected: RegExp])[] = [
    [
      "content of the same size and time",
      async (file) => keepTime(file, () => writeFile(file, "CONTENT")),
      /c.* folder\/file$/,
    ],
    [
      "a time, by nanoseconds",
      (file) => run("touch", "-d", "2020-01-01 00:00:00.000000001", file).then(() => undefined),
      /t.* folder\/file$/,
    ],
    ["a mode", (file) => chmod(file, 0o600), /p.* folder\/file$/],
    ["a file more", (file) => appendFile(`${file}-new\n`, "x"), /file-new/],
    ["an empty directory more", (file) => mkdir(`${file}-directory`).then(() => undefined), /file-directory/],
  ];
  for (const [index, [what, change, expected]] of changes.entries()) {
    test(`reports ${what}`, async () => {
      const file = join(home, "folder/file");
      await utimes(file, 1_577_836_800, 1_577_836_800);
      const restored = await restore(await take(`before-${index}`));
      await change(file);
      const found = await scratch.compare(await take(`after-${index}`), restored, signal);
      const { differences, madeByReceive } = compareTrees(found);
      assert.deepEqual(madeByReceive, []);
      assert.ok(
        differences.some(({ changes, name }) => expected.test(`${changes} ${name}`)),
        JSON.stringify(differences),
      );
    });
  }

  test("distinguishes a setuid bit, which is not damage", async () => {
    const file = join(home, "folder/file");
    await chmod(file, 0o755);
    const restored = await restore(await take("before-bit"));
    await chmod(file, 0o4755);
    const { differences, madeByReceive } = compareTrees(
      await scratch.compare(await take("after-bit"), restored, signal),
    );
    assert.deepEqual(differences, []);
    assert.deepEqual(madeByReceive, [{ changes: ".f...p.....", name: "folder/file", modes: [0o104755, 0o100755] }]);
  });

  async function keepTime(file: string, change: () => Promise<void>): Promise<void> {
    const { atime, mtime } = await stat(file);
    await change();
    await utimes(file, atime, mtime);
  }

  test("is invisible to others, and leaves nothing behind", async () => {
    const other = await openScratch({ directory: work, bytes: 1000, path: home }, signal);
    assert.deepEqual(await readdir(work), []);
    const devices = await devicesOn(work);
    assert.equal(devices.length, 2, "this one and the one that all tests share");
    const mounts = (await readFile("/proc/self/mountinfo", "utf8")).split("\n");
    const seen = mounts.filter((line) => line.includes(work) || devices.some((name) => line.includes(` ${name} `)));
    assert.deepEqual(seen, []);
    await other.close();
    assert.equal((await devicesOn(work)).length, 1);
    assert.deepEqual(await readdir(work), []);
  });

  test("killed at any moment, it leaves no mount, no loop device and no file", async () => {
    const module = new URL("../../src/btrfs/scratch.js", import.meta.url).href;
    const directory = join(disk.directory, "killed");
    await mkdir(directory);
    const code = `
      const { openScratch } = await import(process.argv[1]);
      console.log("begins");
      await openScratch({ directory: process.argv[2], bytes: 1000, path: process.argv[3] }, new AbortController().signal);
      console.log("is open");
      setInterval(() => undefined, 1000);`;
    const moments = [0, 30, 60, 100, 150, 250, null];
    await Promise.all(
      moments.map(async (moment) => {
        const args = ["--input-type=module", "-e", code, module, directory, home];
        const child = spawn(process.execPath, args, { stdio: ["ignore", "pipe", "inherit"] });
        const exited = once(child, "exit");
        const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
        await lines.next();
        if (moment === null) await lines.next();
        else await sleep(moment);
        child.kill("SIGKILL");
        await exited;
      }),
    );
    // The program that was started last has still to notice.
    const deadline = Date.now() + 120_000;
    while ((await devicesOn(directory)).length > 0 && Date.now() < deadline) await sleep(50);
    assert.deepEqual(await devicesOn(directory), []);
    assert.deepEqual(await readdir(directory), []);
    assert.doesNotMatch(await readFile("/proc/self/mountinfo", "utf8"), new RegExp(directory));
  });

  /** The loop devices whose file lies, or lay, in a directory. One that another test is detaching has no file any more. */
  async function devicesOn(directory: string): Promise<string[]> {
    const { loopdevices = [] } = JSON.parse((await run("losetup", "--list", "--json")) || "{}") as {
      loopdevices?: { name: string; "back-file": string | null }[];
    };
    return loopdevices
      .filter((device) => device["back-file"]?.startsWith(`${directory}/`) === true)
      .map(({ name }) => name);
  }

  test("is not made where there is no room", async () => {
    const tooMuch = openScratch({ directory: work, bytes: 2 ** 50, path: home }, signal);
    await assert.rejects(
      tooMuch,
      (error) => error instanceof BackupError && error.code === "CONFIG" && /no room/.test(error.message),
    );
    await assert.rejects(
      openScratch({ directory: "/nowhere", bytes: 1, path: home }, signal),
      /cannot use the work directory \/nowhere: there is no such directory$/,
    );
  });
});
