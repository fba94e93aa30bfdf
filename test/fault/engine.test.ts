// The transfer engine with the program as users start it: streams that no object can hold, runs that are killed, and what
// they leave behind.

import assert from "node:assert/strict";
import type { ChildProcess } from "node:child_process";
import { createHash } from "node:crypto";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { cli, type Ran } from "../support/cli.ts";
import { openFaultProxy } from "../support/fault-proxy.ts";
import { btrfs, openLoopback, run, type Loopback } from "../support/loopback.ts";
import { noBtrfsOrSwift } from "../support/requirements.ts";
import { openSwift, type Swift } from "../support/swift.ts";
import { compareTrees } from "../support/tree.ts";

const MiB = 2 ** 20;
const SNAPSHOT_BYTES = 72 * MiB;

describe("the transfer engine", { skip: noBtrfsOrSwift() }, () => {
  let disk: Loopback;
  let home: string;

  before(async () => {
    disk = await openLoopback({ sizeBytes: 1024 * MiB });
    home = join(disk.mountPoint, "home");
    await btrfs("subvolume", "create", home);
    await run("sh", "-c", `head -c ${SNAPSHOT_BYTES} /dev/urandom > ${home}/file`);
    await btrfs("subvolume", "snapshot", "-r", home, join(disk.mountPoint, "snapshot"));
  });
  after(() => disk.close());

  interface Listed {
    readonly key: string;
    readonly bytes: number;
  }

  async function listed(swift: Swift, container: string): Promise<Listed[]> {
    const { stdout } = await cli(["list", "--container-name", container, "--json"], { env: swift.environment });
    return (JSON.parse(stdout) as { archives: Listed[] }).archives;
  }

  async function namesIn(swift: Swift, container: string): Promise<string[]> {
    const answer = await swift.native.request("GET", `/${encodeURIComponent(container)}`);
    return answer.ok ? (await answer.text()).split("\n").filter((name) => name !== "" && !name.endsWith("/proof")) : [];
  }

  async function assertRestorable(swift: Swift, container: string): Promise<void> {
    const target = await openLoopback({ sizeBytes: 512 * MiB });
    try {
      const key = (await listed(swift, container))[0]?.key ?? "";
      const args = ["restore", "--container-name", container, key, "--target", target.mountPoint];
      const { code, stderr } = await cli(args, { env: swift.environment });
      assert.equal(code, 0, stderr);
      const { differences } = await compareTrees(
        join(disk.mountPoint, "snapshot"),
        join(target.mountPoint, "snapshot"),
      );
      assert.deepEqual(differences, []);
    } finally {
      await target.close();
    }
  }

  async function streamDigest(): Promise<string> {
    const command = `btrfs send -q --proto 2 --compressed-data ${join(disk.mountPoint, "snapshot")} | sha256sum`;
    return (await run("sh", "-c", command)).slice(0, 64);
  }

  describe("on a store that takes three parts an upload", () => {
    let swift: Swift;
    before(async () => {
      swift = await openSwift({ limits: { maxUploadPartNum: 3, maxManifestSegments: 3 } });
    });
    after(() => swift.close());
    // Parts of 7 MiB, so objects of 21 MiB: four volumes.
    const args = (container: string): string[] => [
      home,
      "--container-name",
      container,
      "--memory",
      "14Mi",
      "--concurrency",
      "1",
    ];

    for (const [name, flags] of [
      ["known beforehand", []],
      ["not known", ["--no-estimate"]],
    ] as const) {
      test(`stores a stream whose length is ${name} in volumes, and brings it back`, async () => {
        const container = `volumes-${flags.length}`;
        await swift.createContainer(container);
        const { code, stdout, stderr } = await cli([...args(container), ...flags], { env: swift.environment });
        assert.equal(code, 0, stderr);
        assert.match(stdout, /archived snapshot/);
        const names = await namesIn(swift, container);
        assert.equal(names.length, 5);
        const archives = await listed(swift, container);
        assert.equal(archives.length, 1);
        assert.ok((archives[0]?.bytes ?? 0) > SNAPSHOT_BYTES);
        const bodies = await Promise.all(names.slice(1).map((key) => swift.native.getObject(container, key)));
        assert.equal(createHash("sha256").update(Buffer.concat(bodies)).digest("hex"), await streamDigest());
        await assertRestorable(swift, container);
        const again = await cli(args(container), { env: swift.environment });
        assert.match(again.stdout, /up to date/);
      });
    }

    test("reuses finished volumes, and removes those that no run will resume", async () => {
      await swift.createContainer("leftovers");
      const env = swift.environment;
      const killed = await endAfter(swift, args("leftovers"), { isOne: COMPLETION, many: 2 });
      assert.equal(killed.code, "SIGKILL");
      assert.deepEqual(await listed(swift, "leftovers"), []);
      assert.equal((await namesIn(swift, "leftovers")).length, 2);
      const resumed = await cli([...args("leftovers"), "--json"], { env });
      const receipt = parseLines(resumed).find(({ type }) => type === "receipt") as
        { stored: { resumedBytes: number } } | undefined;
      assert.ok((receipt?.stored.resumedBytes ?? 0) >= 42 * MiB);
      await assertRestorable(swift, "leftovers");

      // The manifest is lost and the snapshot is not sent any more: its volumes are of no use to anybody.
      const key = (await listed(swift, "leftovers"))[0]?.key ?? "";
      await swift.native.request("DELETE", `/leftovers/${encodeURIComponent(key)}`);
      const other = join(disk.mountPoint, "other");
      await btrfs("subvolume", "snapshot", "-r", home, other);
      await btrfs("subvolume", "delete", join(disk.mountPoint, "snapshot"));
      await btrfs("subvolume", "snapshot", "-r", other, join(disk.mountPoint, "kept"));
      try {
        const volumes = async (): Promise<string[]> =>
          (await namesIn(swift, "leftovers")).filter((name) => name.startsWith(`${key}/`));
        assert.equal((await cli(args("leftovers"), { env })).code, 0);
        assert.equal((await volumes()).length, 4);
        assert.equal((await cli([...args("leftovers"), "--leftover-age", "0"], { env })).code, 0);
        assert.deepEqual(await volumes(), []);
        assert.deepEqual(
          (await namesIn(swift, "leftovers")).filter((name) => name.startsWith(key)),
          [],
        );
      } finally {
        await btrfs("subvolume", "snapshot", "-r", home, join(disk.mountPoint, "snapshot"));
        await btrfs("subvolume", "delete", other, join(disk.mountPoint, "kept"));
      }
    });
  });

  describe("on a Swift as it is installed", () => {
    let swift: Swift;
    before(async () => {
      swift = await openSwift();
    });
    after(() => swift.close());
    const args = (container: string, ...more: string[]): string[] => [
      home,
      "--container-name",
      container,
      "--memory",
      "25Mi",
      ...more,
    ];
    const segments = (container: string): Promise<string[]> => namesIn(swift, `${container}+segments`);
    const openUploads = async (container: string): Promise<number> =>
      (await segments(container)).filter((name) => !/\/\d+$/.test(name)).length;

    test("a run that is killed again and again resumes where it was, and the archive is the stream", async () => {
      await swift.createContainer("killed");
      const env = swift.environment;
      for (const many of [2, 3, 3]) {
        const { code } = await endAfter(swift, args("killed"), { isOne: PART, many });
        assert.equal(code, "SIGKILL");
        assert.deepEqual(await listed(swift, "killed"), []);
      }
      assert.equal(await openUploads("killed"), 1);
      // With the memory that is usual, parts would be larger.
      const { stdout } = await cli([home, "--container-name", "killed", "--json"], { env });
      const receipt = parseLines({ stdout }).find(({ type }) => type === "receipt") as {
        stored: { resumedBytes: number };
      };
      assert.ok(receipt.stored.resumedBytes >= 8 * 5 * MiB);
      const key = (await listed(swift, "killed"))[0]?.key ?? "";
      const body = await swift.native.getObject("killed", key);
      assert.equal(createHash("sha256").update(body).digest("hex"), await streamDigest());
      assert.equal(await openUploads("killed"), 0);
      const ofBody = (await segments("killed")).filter((name) => !name.includes("/proof/"));
      assert.equal(ofBody.length, Math.ceil(body.length / (5 * MiB)));
    });

    test("a run that is stopped keeps its parts, and --no-resume starts again without them", async () => {
      await swift.createContainer("stopped");
      const env = swift.environment;
      const { code, stderr } = await endAfter(swift, args("stopped"), { isOne: PART, many: 3, signal: "SIGTERM" });
      assert.equal(code, 143, stderr);
      assert.equal(await openUploads("stopped"), 1);
      const { stdout } = await cli(args("stopped", "--no-resume", "--json"), { env });
      const receipt = parseLines({ stdout }).find(({ type }) => type === "receipt") as {
        stored: { resumedBytes: number };
      };
      assert.equal(receipt.stored.resumedBytes, 0);
      // Nobody knows whether its completion is on its way; a day later it is gone.
      assert.equal(await openUploads("stopped"), 1);
      const { stderr: swept } = await cli(args("stopped", "--leftover-age", "0"), { env });
      assert.match(swept, /unfinished upload removed/);
      assert.equal(await openUploads("stopped"), 0);
    });

    test("uploads that no run will resume are removed when they are old, and those of others are not touched", async () => {
      await swift.createContainer("swept");
      const env = swift.environment;
      assert.equal((await endAfter(swift, args("swept"), { isOne: PART, many: 2 })).code, "SIGKILL");
      const foreign = await swift.native.request("PUT", `/swept%2Bsegments/theirs%2Fan-upload-of-theirs`, {
        body: Buffer.alloc(0),
      });
      assert.equal(foreign.status, 201);
      await btrfs("subvolume", "snapshot", "-r", home, join(disk.mountPoint, "later"));
      await run("mv", join(disk.mountPoint, "snapshot"), join(disk.mountPoint, "renamed"));
      try {
        const { code, stderr } = await cli(args("swept"), { env });
        assert.equal(code, 0, stderr);
        assert.equal(await openUploads("swept"), 2);
        const later = await cli(args("swept", "--leftover-age", "0"), { env });
        assert.match(later.stderr, /unfinished upload removed/);
        assert.deepEqual(
          (await segments("swept")).filter((name) => !/\/\d+$/.test(name)),
          ["theirs/an-upload-of-theirs"],
        );
      } finally {
        await run("mv", join(disk.mountPoint, "renamed"), join(disk.mountPoint, "snapshot"));
        await btrfs("subvolume", "delete", join(disk.mountPoint, "later"));
      }
    });

    test("a rate limit is kept", async () => {
      await swift.createContainer("paced");
      const { stdout } = await cli(args("paced", "--limit-upload", "16Mi", "--json"), { env: swift.environment });
      const { elapsedMs, bytes } = parseLines({ stdout }).find(({ type }) => type === "receipt") as {
        elapsedMs: number;
        bytes: number;
      };
      assert.ok((bytes / elapsedMs) * 1000 < 17 * MiB, `${bytes} bytes in ${elapsedMs} ms`);
    });
  });
});

/** Runs the program over a way on which it is ended as soon as the store has answered so many such requests. */
async function endAfter(
  swift: Swift,
  args: readonly string[],
  { isOne, many, signal = "SIGKILL" }: { isOne: RegExp; many: number; signal?: "SIGKILL" | "SIGTERM" },
): Promise<Ran> {
  const proxy = await openFaultProxy(swift.endpoint);
  const during = (child: ChildProcess): void => {
    let answers = 0;
    const answered = (): void => {
      answers += 1;
      if (answers === many) child.kill(signal);
    };
    const when = (method: string, path: string): boolean => isOne.test(`${method} ${path}`);
    proxy.plan({ when, fault: { kind: "delay", ms: 0 }, times: "ever", answered });
  };
  const ran = await cli(args, { env: { ...swift.environment, AWS_ENDPOINT_URL_S3: proxy.endpoint }, during });
  await proxy.close();
  return ran;
}

const PART = /^PUT .*partNumber=/;
const COMPLETION = /^POST .*uploadId=/;

function parseLines({ stdout }: Pick<Ran, "stdout">): Record<string, unknown>[] {
  return stdout
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line) as Record<string, unknown>);
}
