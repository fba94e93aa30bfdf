// Containers that the Python tool has filled: listed, verified, restored and continued.

import assert from "node:assert/strict";
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { cli, type Ran } from "../support/cli.ts";
import { btrfs, openLoopback, run, withLoopback, type Loopback } from "../support/loopback.ts";
import { archiveLikePythonTool } from "../support/python-tool.ts";
import { noBtrfsOrSwift } from "../support/requirements.ts";
import { openSwift, rot, type Swift } from "../support/swift.ts";
import { changeTree, compareTrees, makeTree } from "../support/tree.ts";

const MiB = 2 ** 20;

interface Listed {
  readonly path: string;
  readonly encoding: string | null;
  readonly chainLength: number | null;
  readonly sendParent: object | null;
  readonly bytes: number;
}

describe("archives of the Python tool", { skip: noBtrfsOrSwift() }, () => {
  let swift: Swift;
  let disk: Loopback;
  let top: string;
  let home: string;
  let identity: string;
  let stranger: string;
  let recipient: string;
  let source: string;

  before(async () => {
    [swift, disk] = await Promise.all([openSwift(), openLoopback({ sizeBytes: 1024 * MiB })]);
    top = disk.mountPoint;
    home = join(top, "home");
    await btrfs("subvolume", "create", home);
    await mkdir(join(top, "snapshots"));
    await makeTree(home, { seed: 1, files: 30, bytes: 4 * MiB, zoo: true });
    for (const number of [1, 2, 3]) {
      if (number > 1) await changeTree(home, number);
      await btrfs("subvolume", "snapshot", "-r", home, join(top, `snapshots/${number}`));
    }
    source = /^\tUUID:\s+(\S+)$/m.exec(await btrfs("subvolume", "show", home))?.[1] ?? "";
    [identity, stranger] = [join(disk.directory, "identity"), join(disk.directory, "stranger")];
    await run("age-keygen", "-o", identity);
    await run("age-keygen", "-o", stranger);
    recipient = (await run("age-keygen", "-y", identity)).trim();
  });
  after(async () => {
    await Promise.all([swift.close(), disk.close()]);
  });

  const program = (...args: string[]): Promise<Ran> => cli(args, { env: swift.environment });

  async function fill(container: string, options: { recipient: string | null; segmentBytes?: number }): Promise<void> {
    await swift.createContainer(container);
    const snapshots = ["snapshots/1", "snapshots/2", "snapshots/3"];
    await archiveLikePythonTool(swift, { container, source, top, snapshots, ...options });
  }

  async function listed(container: string, ...args: string[]): Promise<readonly Listed[]> {
    const { stdout, code, stderr } = await program("list", "--container-name", container, "--json", ...args);
    assert.equal(code, 0, stderr);
    return (JSON.parse(stdout) as { archives: Listed[] }).archives;
  }

  async function restores(container: string, names: readonly string[], ...args: string[]): Promise<void> {
    await withLoopback({ sizeBytes: 512 * MiB }, async ({ mountPoint }) => {
      const { code, stderr } = await program(
        "restore",
        "--container-name",
        container,
        "--latest",
        "--target",
        mountPoint,
        ...args,
      );
      assert.equal(code, 0, stderr);
      for (const name of names) {
        const path = join("snapshots", name);
        assert.deepEqual((await compareTrees(join(top, path), join(mountPoint, path))).differences, []);
      }
    });
  }

  /** A new snapshot, which `sync` has to send as the difference to the last one that the Python tool sent. */
  async function continues(container: string, name: string, ...args: string[]): Promise<string> {
    await changeTree(home, 100 + name.length);
    await btrfs("subvolume", "snapshot", "-r", home, join(top, "snapshots", name));
    const { code, stdout, stderr } = await program("sync", home, "--container-name", container, "--json", ...args);
    assert.equal(code, 0, stderr);
    const steps = stdout
      .trim()
      .split("\n")
      .map((line) => JSON.parse(line) as { type: string; path: string; sendParent: { path: string } | null });
    const receipts = steps.filter(({ type }) => type === "receipt");
    assert.deepEqual(
      receipts.map(({ path, sendParent }) => [path, sendParent?.path]),
      [[`snapshots/${name}`, "snapshots/3"]],
    );
    return stderr;
  }

  test("plain objects", async (t) => {
    await fill("plain", { recipient: null });
    await t.test("are listed with their chain, which their streams show", async () => {
      const archives = await listed("plain");
      assert.deepEqual(
        archives.map(({ path, encoding, chainLength }) => [path, encoding, chainLength]),
        [
          ["snapshots/1", "identity", 1],
          ["snapshots/2", "identity", 2],
          ["snapshots/3", "identity", 3],
        ],
      );
    });
    await t.test("are verified to the last byte", async () => {
      const { code, stdout, stderr } = await program(
        "verify",
        "--container-name",
        "plain",
        home,
        "--read-data",
        "--against-local",
        "--drill",
        "--no-progress",
      );
      assert.deepEqual([code, stderr], [0, ""]);
      assert.match(stdout, /read 3 archives to the end, /);
    });
    await t.test("are restored", () => restores("plain", ["1", "2", "3"]));
    await t.test("by the day they were stored, because nothing shows when they were taken", async () => {
      const at = (date: string): Promise<Ran> =>
        program("restore", "--container-name", "plain", "--at", date, "--dry-run");
      assert.equal((await at("2020-01-01")).code, 2);
      assert.match((await at("2100-01-01")).stdout, /snapshots\/3/);
    });
    await t.test("are continued", async () => {
      await continues("plain", "plain");
      assert.equal((await listed("plain")).at(-1)?.chainLength, 4);
      await restores("plain", ["3", "plain"]);
      await btrfs("subvolume", "delete", join(top, "snapshots/plain"));
    });
  });

  test("large objects", async (t) => {
    await fill("large", { recipient: null, segmentBytes: MiB });
    await t.test("are verified, as far as it goes, and restored", async () => {
      const { code, stdout, stderr } = await program(
        "verify",
        "--container-name",
        "large",
        "--read-data",
        "--no-progress",
      );
      assert.deepEqual([code, stderr], [0, ""]);
      assert.match(stdout, /\d of them could not be checked against the store's checksum/);
      await restores("large", ["1", "2", "3"]);
    });
    await t.test("in which a bit rots are caught by their streams", async () => {
      await rot(swift, MiB);
      const { code, stderr } = await program("verify", "--container-name", "large", "--read-data");
      assert.equal(code, 14, stderr);
      assert.match(stderr, /cannot be restored: snapshots\/1, snapshots\/2, snapshots\/3/);
    });
  });

  test("encrypted objects", async (t) => {
    await fill("secret", { recipient });
    const key = ["--identity", identity];
    await t.test("are listed, with their chain when there is a key", async () => {
      const without = await listed("secret");
      assert.deepEqual(
        without.map(({ encoding, chainLength }) => [encoding, chainLength]),
        Array(3).fill(["age", null]),
      );
      const withKey = await listed("secret", ...key);
      assert.deepEqual(
        withKey.map(({ encoding, chainLength }) => [encoding, chainLength]),
        [
          ["age", 1],
          ["age", 2],
          ["age", 3],
        ],
      );
      assert.match((await program("list", "--container-name", "secret")).stdout, /, encrypted\n[^]* unknown$/m);
    });
    await t.test("are restored with the key", () => restores("secret", ["1", "2", "3"], ...key));
    await t.test("are restored with common tools alone", async () => {
      await withLoopback({ sizeBytes: 256 * MiB }, async ({ mountPoint }) => {
        const keys = ["1", "2"].map((name) => `${source}\\x2fsnapshots\\x2f${name}`);
        const { accessKey, secretKey, endpoint } = swift;
        const download = `swift -A ${endpoint}/auth/v1.0 -U '${accessKey}' -K '${secretKey}' download secret`;
        for (const key of keys) {
          await run(
            "bash",
            "-o",
            "pipefail",
            "-c",
            `${download} '${key}' --output - | age -d -i ${identity} | btrfs receive -q -C ${mountPoint}`,
          );
        }
        assert.deepEqual((await compareTrees(join(top, "snapshots/2"), join(mountPoint, "2"))).differences, []);
      });
    });
    await t.test("are refused without it, or with another", async () => {
      for (const args of [[], ["--identity", stranger]]) {
        const { code, stderr } = await program(
          "restore",
          "--container-name",
          "secret",
          "snapshots/3",
          "--target",
          top,
          ...args,
        );
        assert.equal(code, 12, stderr);
        assert.match(stderr, /encrypted.*--identity FILE/);
      }
      const { code, stderr } = await program(
        "restore",
        "--container-name",
        "secret",
        "snapshots/3",
        "--target",
        top,
        "--identity",
        "/nowhere",
      );
      assert.equal(code, 2, stderr);
    });
    await t.test("are verified: with the key all of it, without it what is stored", async () => {
      const withKey = await program("verify", "--container-name", "secret", "--read-data", "--no-progress", ...key);
      assert.deepEqual([withKey.code, withKey.stderr], [0, ""]);
      const without = await program("verify", "--container-name", "secret", "--read-data");
      assert.equal(without.code, 0);
      assert.match(without.stderr, /is encrypted: what it holds was not checked.*--identity/);
    });
    await t.test("are never deleted, because nobody knows what builds on them", async () => {
      const prune = ["prune", home, "--container-name", "secret", "--keep-last", "1", "--confirm"];
      for (const args of [[], key]) {
        const { code, stdout, stderr } = await program(...prune, ...args);
        assert.equal(code, 0, stderr);
        assert.match(stdout, /nothing (to delete|can be deleted)/);
      }
      assert.equal((await listed("secret")).length, 3);
      assert.match((await program(...prune)).stdout, /keep +[^\n]*it is unknown what it builds on/);
      // A sync without rules would follow those of the prune.
      await swift.native.request("DELETE", `/secret/${source}/keep`);
    });
    await t.test("are continued, and what was added is restored with them", async () => {
      assert.match(await continues("secret", "secret", "--age-recipient", recipient), /trusted by its name/);
      await restores("secret", ["1", "secret"], ...key);
      const without = await program("restore", "--container-name", "secret", "snapshots/secret", "--target", top);
      assert.equal(without.code, 12, without.stderr);
      await btrfs("subvolume", "delete", join(top, "snapshots/secret"));
    });
    await t.test("that are damaged are distinguished from those of somebody else", async () => {
      const [first] = await listed("secret");
      await rot(swift, first?.bytes ?? 0);
      const { code, stderr } = await program(
        "restore",
        "--container-name",
        "secret",
        "snapshots/1",
        "--stdout",
        ...key,
      );
      assert.equal(code, 14, stderr);
      assert.match(stderr, /damaged/);
    });
  });
});
