// Containers that were copied with other tools: other part sizes, other cut-offs, no metadata. What was copied well is no
// damage.

import assert from "node:assert/strict";
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { cli, type Ran } from "../support/cli.ts";
import { btrfs, openLoopback, run, withLoopback, type Loopback } from "../support/loopback.ts";
import { awsByDisk, noCopyTools, rclone, swiftByDisk, type Copy } from "../support/copies.ts";
import { noBtrfsOrSwift } from "../support/requirements.ts";
import { openSwift, type Swift } from "../support/swift.ts";
import { compareTrees } from "../support/tree.ts";

const MiB = 2 ** 20;

interface Report {
  readonly archives: number;
  readonly copied: readonly string[];
  readonly withoutChecksum: readonly string[];
  readonly findings: readonly { code: string; subject: string; message: string; remedy: string }[];
}

describe("a container that was copied", { skip: noBtrfsOrSwift() || noCopyTools() }, () => {
  let swift: Swift;
  let disk: Loopback;
  let home: string;

  before(async () => {
    [swift, disk] = await Promise.all([openSwift(), openLoopback({ sizeBytes: 256 * MiB })]);
    home = join(disk.mountPoint, "home");
    await btrfs("subvolume", "create", home);
    await mkdir(join(disk.mountPoint, "s"));
    for (const [name, mebibytes] of [
      ["1", 13],
      ["2", 7],
    ] as const) {
      await run("sh", "-c", `head -c ${mebibytes * MiB} /dev/urandom > ${home}/file${name}`);
      await btrfs("subvolume", "snapshot", "-r", home, join(disk.mountPoint, "s", name));
    }
  });
  after(async () => {
    await Promise.all([swift.close(), disk.close()]);
  });

  const program = (...args: string[]): Promise<Ran> => cli(args, { env: swift.environment });

  async function fill(container: string, ...options: string[]): Promise<void> {
    await swift.createContainer(container);
    // Parts of 5 MiB: 13 MiB are three of them.
    const { code, stderr } = await program(
      "sync",
      home,
      "--container-name",
      container,
      "--no-estimate",
      "--memory",
      "40Mi",
      ...options,
    );
    assert.equal(code, 0, stderr);
  }

  async function copy(tool: Copy, from: string, to: string): Promise<void> {
    await swift.createContainer(to);
    await tool({ swift, container: from }, { swift, container: to });
  }

  async function verify(code: number, container: string, ...args: string[]): Promise<Report> {
    const ran = await program("verify", "--container-name", container, "--json", ...args);
    assert.equal(ran.code, code, ran.stdout + ran.stderr);
    return JSON.parse(ran.stdout) as Report;
  }

  async function assertRestored(container: string, name = "s/2"): Promise<void> {
    await withLoopback({ sizeBytes: 256 * MiB }, async ({ mountPoint }) => {
      const { code, stderr } = await program("restore", "--container-name", container, name, "--target", mountPoint);
      assert.equal(code, 0, stderr);
      assert.deepEqual((await compareTrees(join(disk.mountPoint, name), join(mountPoint, name))).differences, []);
    });
  }

  test("in parts of another size, as many as before or not, is verified by its contents, and restored", async () => {
    await fill("complete");
    await copy(rclone("--metadata", "--s3-chunk-size", "6Mi", "--s3-upload-cutoff", "0"), "complete", "parts");
    const { findings, copied, withoutChecksum } = await verify(0, "parts", "--read-data");
    assert.deepEqual([findings, withoutChecksum], [[], []]);
    assert.equal(copied.length, 2);
    const output = await program("verify", "--container-name", "parts", "--read-data");
    assert.match(output.stdout, /2 archives were copied: checked by their contents/);
    await assertRestored("parts");
  });

  test("of which a byte was changed on the way is damaged", async () => {
    const [key = ""] = (await verify(0, "parts")).copied;
    const bytes = await swift.native.getObject("parts", key);
    bytes[bytes.length - 5000] = (bytes.at(-5000) ?? 0) ^ 1;
    await swift.native.putObject("parts", key, bytes);
    assert.deepEqual(
      (await verify(14, "parts", "--read-data")).findings.map(({ subject }) => subject).includes(key),
      true,
    );
  });

  test("in volumes, without metadata, is recognised and restored", async () => {
    await fill("volumes", "--volume-size", "6Mi");
    await copy(rclone("--s3-chunk-size", "5Mi", "--s3-upload-cutoff", "0"), "volumes", "bare");
    const { findings, archives } = await verify(0, "bare", "--read-data");
    assert.deepEqual([findings, archives], [[], 2]);
    await assertRestored("bare");
  });

  describe("without metadata and proofs", () => {
    before(async () => {
      await run("sh", "-c", `echo more > ${home}/file3`);
      await btrfs("subvolume", "snapshot", "-r", home, join(disk.mountPoint, "s/3"));
    });
    for (const [by, tool, container] of [
      ["awscli, in parts", awsByDisk, "by-aws"],
      ["swiftclient, as dynamic large objects", swiftByDisk, "dynamic"],
    ] as const) {
      test(`by ${by}: is verified by its contents, continued and restored`, async () => {
        await copy(tool, "complete", container);
        const verified = await program("verify", "--container-name", container, "--read-data");
        assert.equal(verified.code, 0, verified.stdout + verified.stderr);
        assert.match(verified.stdout, /^no damage found$/m);
        assert.match(verified.stdout, /^2 archives were copied: checked by their contents$/m);
        const listed = await program("list", "--container-name", container);
        assert.match(listed.stdout, / s\/1 .* full\n.* s\/2 .* 2\n/, listed.stderr);
        const sync = await program("sync", home, "--container-name", container, "--no-encryption");
        assert.equal(sync.code, 0, sync.stderr);
        assert.match(sync.stdout, /s\/3 +parent s\/2/);
        await assertRestored(container, "s/3");
      });
    }
    test("of which a byte was changed on the way is damaged", async () => {
      const segments = (await (await swift.native.request("GET", "/dynamic_segments")).text()).split("\n");
      const [segment = ""] = segments.filter((name) => name.includes("2f1/"));
      const bytes = await swift.native.getObject("dynamic_segments", segment);
      bytes[bytes.length - 5000] = (bytes.at(-5000) ?? 0) ^ 1;
      await swift.native.putObject("dynamic_segments", segment, bytes);
      const { findings } = await verify(14, "dynamic", "--read-data");
      assert.deepEqual(
        findings.map(({ code }) => code),
        ["ARCHIVE_DAMAGED"],
      );
    });
  });
});
