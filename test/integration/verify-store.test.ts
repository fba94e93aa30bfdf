// Reports of verify when something is wrong with the store, its listing, the keys or the rights.

import assert from "node:assert/strict";
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { cli, type Ran } from "../support/cli.ts";
import { btrfs, openLoopback, run, type Loopback } from "../support/loopback.ts";
import { noBtrfsOrSwift } from "../support/requirements.ts";
import { lose, openSwift, unlist, type Swift } from "../support/swift.ts";

const MiB = 2 ** 20;

interface Finding {
  readonly code: string;
  readonly severity: string;
  readonly subject: string;
  readonly message: string;
  readonly breaks: readonly string[];
  readonly remedy: string;
}

interface Report {
  readonly archives: number;
  readonly read: readonly string[];
  readonly findings: readonly Finding[];
}

describe(
  "verify, where the store has lost something or does not let everything be seen",
  { skip: noBtrfsOrSwift() },
  () => {
    let swift: Swift;
    let disk: Loopback;
    let home: string;
    let number = 0;

    before(async () => {
      [swift, disk] = await Promise.all([openSwift(), openLoopback({ sizeBytes: 256 * MiB })]);
      home = join(disk.mountPoint, "home");
      await btrfs("subvolume", "create", home);
      await mkdir(join(disk.mountPoint, "s"));
      for (const name of ["1", "2", "3"]) {
        await run("sh", "-c", `head -c ${100_000 + Number(name)} /dev/urandom > ${home}/file${name}`);
        await btrfs("subvolume", "snapshot", "-r", home, join(disk.mountPoint, "s", name));
      }
    });
    after(async () => {
      await Promise.all([swift.close(), disk.close()]);
    });

    const program = (...args: string[]): Promise<Ran> => cli(args, { env: swift.environment });
    const objectPath = (container: string, key: string): string => `/${container}/${encodeURIComponent(key)}`;

    /** A container with three archives, and their keys. */
    async function fill(...options: string[]): Promise<{ container: string; keys: readonly [string, string, string] }> {
      number += 1;
      const container = `store-${number}`;
      await swift.createContainer(container);
      const synced = await program("sync", home, "--container-name", container, "--no-estimate", "--json", ...options);
      assert.equal(synced.code, 0, synced.stderr);
      const lines = synced.stdout
        .trim()
        .split("\n")
        .map((line) => JSON.parse(line) as { type: string; key: string });
      const [one = "", two = "", three = "", ...more] = lines
        .filter(({ type }) => type === "receipt")
        .map(({ key }) => key);
      assert.deepEqual([three === "", more], [false, []]);
      return { container, keys: [one, two, three] };
    }

    async function report(code: number, container: string, ...args: string[]): Promise<Report> {
      const ran = await program("verify", "--container-name", container, "--json", ...args);
      assert.equal(ran.code, code, ran.stdout + ran.stderr);
      return JSON.parse(ran.stdout) as Report;
    }

    /** Loses all of an archive. It is stored as one file before that, because an upload makes a manifest and segments. */
    async function loseArchive(container: string, key: string): Promise<void> {
      const body = await swift.native.getObject(container, key);
      await swift.native.request("PUT", objectPath(container, key), {
        body,
        headers: await metadataOf(container, key),
      });
      await lose(swift, body.length);
    }

    async function metadataOf(container: string, key: string): Promise<Record<string, string>> {
      const { headers } = await swift.native.request("HEAD", objectPath(container, key));
      return Object.fromEntries([...headers].filter(([name]) => name.startsWith("x-object-meta-")));
    }

    test("an object that the store has lost is missing, as long as anything names it, and what builds on it is named", async () => {
      const { container, keys } = await fill();
      await loseArchive(container, keys[1]);
      for (const args of [[], ["--read-data"], [home]]) {
        const { findings } = await report(14, container, ...args);
        const [missing] = findings.filter(({ code }) => code === "ARCHIVE_MISSING");
        assert.deepEqual([missing?.subject, missing?.severity, missing?.breaks], [keys[1], "error", ["s/2", "s/3"]]);
        assert.deepEqual(
          findings.filter(({ code }) => code === "LEFTOVER"),
          [],
        );
      }
      // The listing has come to know of it, too.
      await swift.native.request("DELETE", objectPath(container, keys[1]));
      await unlist(swift, container, keys[1]).catch(() => undefined);
      const { findings } = await report(14, container);
      assert.deepEqual(
        findings.map(({ code, subject, breaks }) => [code, subject, breaks]),
        [
          ["CHAIN_BROKEN", keys[2], ["s/3"]],
          ["LEFTOVER", keys[1], []],
        ],
      );
      assert.match(findings[1]?.message ?? "", /is gone: only the proof of what it held is left/);
    });

    test("the last of a chain is missing too, though nothing builds on it", async () => {
      const { container, keys } = await fill();
      await loseArchive(container, keys[2]);
      const { findings } = await report(14, container, "--read-data");
      assert.deepEqual(
        findings.map(({ code, breaks }) => [code, breaks]),
        [["ARCHIVE_MISSING", ["s/3"]]],
      );
    });

    test("an object that the listing has lost is found through the local snapshot", async () => {
      const { container, keys } = await fill();
      await unlist(swift, container, keys[1]);
      const { findings, archives } = await report(0, container, home);
      assert.deepEqual(
        [archives, findings.map(({ code, severity, subject }) => [code, severity, subject])],
        [3, [["NOT_LISTED", "warning", keys[1]]]],
      );
    });

    test("an object that the listing has lost is found through its volumes", async () => {
      const { container, keys } = await fill();
      await swift.native.putObject(container, `${keys[2]}/000001`, Buffer.from("left over"));
      await unlist(swift, container, keys[2]);
      const { archives } = await report(0, container);
      assert.equal(archives, 3);
    });

    test("an object without a byte is damage", async () => {
      const { container, keys } = await fill();
      await swift.native.request("PUT", objectPath(container, keys[2]), { body: new Uint8Array(0) });
      const { findings } = await report(14, container);
      assert.deepEqual(
        findings.map(({ code, breaks }) => [code, breaks]),
        [["ARCHIVE_DAMAGED", ["s/3"]]],
      );
    });

    test("an identity that opens nothing is not damage, and no deletion is advised", async () => {
      const [owner, stranger] = [join(disk.directory, "owner"), join(disk.directory, "stranger")];
      for (const file of [owner, stranger]) await run("age-keygen", "-o", file);
      const recipient = (await run("age-keygen", "-y", owner)).trim();
      const { container, keys } = await fill("--age-recipient", recipient);
      for (const args of [[], ["--read-data"], [home]]) {
        const { findings } = await report(12, container, "--identity", stranger, ...args);
        assert.deepEqual(
          findings.map(({ code, subject }) => [code, subject]),
          keys.toSorted().map((key) => ["NOT_OPENED", key]),
        );
        for (const { remedy, breaks } of findings) {
          assert.doesNotMatch(remedy, /delete/);
          assert.match(remedy, /--identity FILE/);
          assert.deepEqual(breaks, []);
        }
        assert.deepEqual((await report(0, container, "--identity", owner, ...args)).findings, []);
      }
      // Damage behind the header is damage.
      const bytes = await swift.native.getObject(container, keys[2]);
      bytes[bytes.length - 40_000] = (bytes.at(-40_000) ?? 0) ^ 1;
      await swift.native.request("PUT", objectPath(container, keys[2]), {
        body: bytes,
        headers: await metadataOf(container, keys[2]),
      });
      const damaged = await report(14, container, "--identity", owner, "--read-data");
      assert.deepEqual(
        damaged.findings.map(({ code, subject }) => [code, subject]),
        [["ARCHIVE_DAMAGED", keys[2]]],
      );
    });

    test("without the right to see open uploads, archives are still verified", async () => {
      const { container } = await fill();
      await swift.native.request("POST", `/${container}`, { headers: { "x-container-read": "test:reader" } });
      // Segments can be read by all who know their names, and listed by nobody else.
      await swift.native.request("POST", `/${container}%2Bsegments`, { headers: { "x-container-read": ".r:*" } });
      const { accessKey, secretKey } = swift.reader;
      const env = { ...swift.environment, AWS_ACCESS_KEY_ID: accessKey, AWS_SECRET_ACCESS_KEY: secretKey };
      const ran = await cli(["verify", "--container-name", container, "--read-data", "--json"], { env });
      assert.equal(ran.code, 0, ran.stderr);
      const { findings, read } = JSON.parse(ran.stdout) as Report;
      assert.deepEqual(
        [read.length, findings.map(({ code, severity }) => [code, severity])],
        [3, [["NOT_CHECKED", "warning"]]],
      );
    });

    test("PATH means its archives and all that they build on, under another subvolume's keys too", async () => {
      const { container, keys } = await fill();
      const other = await openLoopback({ sizeBytes: 256 * MiB });
      try {
        const restored = await program(
          "restore",
          "--container-name",
          container,
          "s/2",
          "--target",
          other.mountPoint,
          "--writable",
          "home",
        );
        assert.equal(restored.code, 0, restored.stderr);
        const moved = join(other.mountPoint, "home");
        await run("sh", "-c", `echo more > ${moved}/more`);
        await btrfs("subvolume", "snapshot", "-r", moved, join(other.mountPoint, "s/after"));
        const synced = await program("sync", moved, "--container-name", container, "--no-encryption");
        assert.match(synced.stdout, /parent s\/2/, synced.stderr);
        assert.equal((await report(0, container, moved, "--read-data")).read.length, 3);
        await swift.native.request("DELETE", objectPath(container, keys[0]));
        await unlist(swift, container, keys[0]).catch(() => undefined);
        const { findings } = await report(14, container, moved);
        assert.deepEqual(
          findings.map(({ code, subject, breaks }) => [code, subject, breaks.includes("s/after")]),
          [["CHAIN_BROKEN", keys[1], true]],
        );
      } finally {
        await other.close();
      }
    });
  },
);
