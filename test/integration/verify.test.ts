// Damage in a real Swift, found and reported by the program as users start it.

import assert from "node:assert/strict";
import { chmod, chown, mkdir, rename, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { ACL, COMPRESSION, DEFAULT_ACL, setAttribute, ZSTD } from "../support/attributes.ts";
import { cli, type Ran } from "../support/cli.ts";
import { btrfs, openLoopback, type Loopback } from "../support/loopback.ts";
import { noBtrfsOrSwift } from "../support/requirements.ts";
import { openSwift, rot, type Swift } from "../support/swift.ts";
import { changeTree, makeTree } from "../support/tree.ts";

const MiB = 2 ** 20;

interface Report {
  readonly archives: number;
  readonly read: readonly string[];
  readonly withoutChecksum: readonly string[];
  readonly findings: readonly {
    code: string;
    severity: string;
    subject: string;
    message: string;
    breaks: string[];
    remedy: string;
  }[];
}

describe("verify", { skip: noBtrfsOrSwift() }, () => {
  let swift: Swift;
  let disk: Loopback;
  let home: string;
  let container: string;
  let keys: readonly string[];
  let number = 0;

  before(async () => {
    [swift, disk] = await Promise.all([openSwift(), openLoopback({ sizeBytes: 512 * MiB })]);
    home = join(disk.mountPoint, "home");
    await btrfs("subvolume", "create", home);
    await mkdir(join(disk.mountPoint, "s"));
    await makeTree(home, { seed: 1, files: 20, bytes: 6 * MiB, zoo: true });
    for (const name of ["1", "2", "3"]) {
      if (name !== "1") await changeTree(home, Number(name));
      await btrfs("subvolume", "snapshot", "-r", home, join(disk.mountPoint, "s", name));
    }
    await fillContainer();
  });
  after(async () => {
    await Promise.all([swift.close(), disk.close()]);
  });

  /** A container to be damaged. The next test that needs an intact one fills another. */
  async function fillContainer(...options: string[]): Promise<void> {
    number += 1;
    container = `verify-${number}`;
    await swift.createContainer(container);
    const synced = await program("sync", home, "--container-name", container, "--no-estimate", "--json", ...options);
    assert.equal(synced.code, 0, synced.stderr);
    const lines = synced.stdout
      .trim()
      .split("\n")
      .map((line) => JSON.parse(line) as { type: string; key: string });
    keys = lines.filter(({ type }) => type === "receipt").map(({ key }) => key);
    assert.equal(keys.length, 3);
  }

  const program = (...args: string[]): Promise<Ran> => cli(args, { env: swift.environment });
  const verify = (...args: string[]): Promise<Ran> => program("verify", "--container-name", container, ...args);

  async function report(code: number, ...args: string[]): Promise<Report> {
    const ran = await verify("--json", ...args);
    assert.equal(ran.code, code, ran.stderr);
    return JSON.parse(ran.stdout) as Report;
  }

  const objectPath = (key: string): string => `/${container}/${encodeURIComponent(key)}`;

  test("finds no damage in intact archives, whether it checks, reads, compares or restores them", async () => {
    const plain = await verify("--no-progress");
    assert.deepEqual([plain.code, plain.stderr], [0, ""]);
    assert.match(plain.stdout, /^checked 3 archives, .*\nno damage found at first sight; --read-data/m);
    assert.deepEqual((await report(0)).read, []);
    assert.deepEqual((await report(0, "--read-data")).read.toSorted(), [...keys].toSorted());
    assert.deepEqual((await report(0, "--read-data-subset", "latest")).read.length, 3);
    assert.equal((await report(0, "--read-data-subset", "1%")).read.length, 1);
    const local = await verify(home, "--against-local", "--drill", "--work-dir", disk.directory);
    assert.equal(local.code, 0, local.stderr);
    assert.match(local.stdout, /3 of 3 archives compared with the snapshots here/);
    assert.match(local.stdout, /drill: s\/3 restored \(3 archives\), equal to the snapshot here/);
  });

  test("a drill finds nothing where btrfs receive alone would build another tree", async () => {
    const shared = join(disk.mountPoint, "shared");
    const take = (name: string): Promise<string> =>
      btrfs("subvolume", "snapshot", "-r", shared, join(disk.mountPoint, "s", name));
    await btrfs("subvolume", "create", shared);
    await writeFile(join(shared, "tool"), "older than what the root is given", { mode: 0o4755 });
    await setAttribute(shared, DEFAULT_ACL, ACL);
    await setAttribute(shared, COMPRESSION, ZSTD);
    await take("shared-1");
    await chown(join(shared, "tool"), 1000, 1000);
    await chmod(join(shared, "tool"), 0o4755);
    await take("shared-2");
    const name = "verify-shared";
    await swift.createContainer(name);
    assert.equal((await program("sync", shared, "--container-name", name, "--no-estimate")).code, 0);
    const drill = ["--drill", "--work-dir", disk.directory, "--no-progress"];
    const drilled = await program("verify", "--container-name", name, shared, ...drill);
    assert.deepEqual([drilled.code, drilled.stderr], [0, ""]);
    assert.match(drilled.stdout, /drill: s\/shared-2 restored \(2 archives\), equal to the snapshot here$/m);
  });

  test("a stream that btrfs send would make differently now is a doubt, and the drill settles it", async () => {
    const [place, other] = [join(disk.mountPoint, "s/2"), join(disk.mountPoint, "s/renamed")];
    await rename(place, other);
    try {
      const { findings } = await report(0, home, "--against-local");
      assert.deepEqual(
        findings.map(({ code, severity }) => [code, severity]),
        [["NOT_COMPARABLE", "warning"]],
      );
      assert.match(findings[0]?.message ?? "", /s\/2 is intact, but from byte \d+ on/);
      assert.match(findings[0]?.remedy ?? "", /--drill/);
    } finally {
      await rename(other, place);
    }
  });

  test("a comparison that compared nothing does not exit as if all were equal", async () => {
    const renewed = join(disk.mountPoint, "renewed");
    const place = join(disk.mountPoint, "s/renewed");
    const take = (): Promise<string> => btrfs("subvolume", "snapshot", "-r", renewed, place);
    await btrfs("subvolume", "create", renewed);
    await take();
    const name = "verify-renewed";
    await swift.createContainer(name);
    assert.equal((await program("sync", renewed, "--container-name", name, "--no-estimate")).code, 0);
    const compare = (): Promise<Ran> => program("verify", "--container-name", name, renewed, "--against-local");
    await btrfs("subvolume", "delete", place);
    const gone = await compare();
    assert.equal(gone.code, 3, gone.stderr);
    assert.match(gone.stderr, /nothing was compared: no archived snapshot of .*renewed is still here/);
    assert.match(gone.stdout, /^0 of 1 archive compared with the snapshots here; the snapshots of 1, or/m);
    // As on a second machine whose disk is the clone of the first.
    await take();
    const other = await compare();
    assert.equal(other.code, 3, other.stderr);
    assert.match(other.stderr, /s\/renewed was not compared: the archive of that name holds another snapshot/);
    assert.doesNotMatch(other.stdout, /no damage found/);
  });

  test("a comparison needs a PATH", async () => {
    const { code, stderr } = await verify("--drill");
    assert.deepEqual([code, /names the snapshots to compare with/.test(stderr)], [2, true], stderr);
  });

  test("leftovers and objects of others are reported, and are not damage", async () => {
    const base = `${(keys[0] ?? "").slice(0, 36)}\\x2fs\\x2fgone`;
    await swift.native.putObject(container, `${base}/000001`, Buffer.from("volume"));
    await swift.native.putObject(container, "readme.txt", Buffer.from("text"));
    const { findings } = await report(0);
    assert.deepEqual(
      findings.map(({ code, subject }) => [code, subject]),
      [
        ["LEFTOVER", base],
        ["NOT_AN_ARCHIVE", "readme.txt"],
      ],
    );
    assert.deepEqual(
      (await report(0, home)).findings.map(({ code }) => code),
      ["LEFTOVER"],
    );
  });

  test("an interrupted upload is reported as a leftover", async () => {
    const key = `${(keys[0] ?? "").slice(0, 36)}\\x2fs\\x2fbegun`;
    await swift.native.putContainer(`${container}+segments`);
    await swift.native.putObject(`${container}+segments`, `${key}/${"A".repeat(48)}`, Buffer.alloc(0));
    const { findings } = await report(0);
    assert.ok(findings.some(({ code, subject }) => code === "LEFTOVER" && subject === key));
  });

  test("leftovers are removed on request, and nothing else", async () => {
    const removing = ["--remove-leftovers", "--leftover-age", "0"];
    const before = await report(0);
    const { stdout } = await program("verify", "--container-name", container, ...removing, "-n");
    assert.match(stdout, /^would be removed: the unfinished upload of .*begun$/m);
    assert.deepEqual(await report(0), before);
    const after = await report(0, ...removing);
    assert.deepEqual(
      after.findings.map(({ code }) => code),
      ["NOT_AN_ARCHIVE"],
    );
    const segments = await (await swift.native.request("GET", `/${container}%2Bsegments`)).text();
    assert.doesNotMatch(segments, /begun/);
    assert.deepEqual(after.findings, (await report(0)).findings);
  });

  test("a missing link is found without reading, with what it breaks and what to do", async () => {
    await fillContainer();
    await swift.native.request("DELETE", objectPath(keys[1] ?? ""));
    const { findings } = await report(14);
    const [finding] = findings;
    assert.deepEqual([finding?.code, finding?.subject, finding?.breaks], ["CHAIN_BROKEN", keys[2], ["s/3"]]);
    assert.deepEqual(
      findings.slice(1).map(({ code, subject }) => [code, subject]),
      [["LEFTOVER", keys[1]]],
    );
    const reported = await verify();
    assert.match(reported.stderr, /s\/3 builds on a snapshot that is not archived.*cannot be restored: s\/3: .*sync/);
    // The advice helps.
    assert.equal((await program("sync", home, "--container-name", container)).code, 0);
    assert.deepEqual((await report(0)).findings, []);
  });

  test("bit rot is found by reading", async () => {
    await fillContainer();
    const size = Number((await swift.native.request("HEAD", objectPath(keys[0] ?? ""))).headers.get("content-length"));
    await rot(swift, size);
    assert.deepEqual((await report(0)).findings, []);
    const { findings } = await report(14, "--read-data");
    assert.deepEqual(
      findings.map(({ code, breaks }) => [code, breaks]),
      [["ARCHIVE_DAMAGED", ["s/1", "s/2", "s/3"]]],
    );
    // Swift has seen it too by now, and has put it away.
    const again = await report(14);
    assert.ok(again.findings.length > 0);
  });

  test("metadata that describes another stream is damage", async () => {
    await fillContainer();
    const head = await swift.native.request("HEAD", objectPath(keys[2] ?? ""));
    const headers = Object.fromEntries([...head.headers].filter(([name]) => name.startsWith("x-object-meta-")));
    await swift.native.request("POST", objectPath(keys[2] ?? ""), {
      headers: { ...headers, "x-object-meta-btrfs-ctransid": "424242" },
    });
    const { findings } = await report(14);
    assert.deepEqual(
      findings.map(({ code, subject }) => [code, subject]),
      [["IDENTITY_MISMATCH", keys[2]]],
    );
    // Reading finds it too; it is reported and counted once.
    assert.match((await verify("--read-data")).stdout, /^1 archive damaged/m);
  });

  test("an archive in volumes: read, compared and restored; one that is missing is found without reading", async () => {
    await fillContainer("--volume-size", "5Mi");
    assert.deepEqual((await report(0, home, "--read-data", "--against-local", "--drill")).findings, []);
    await swift.native.request("DELETE", objectPath(`${keys[0] ?? ""}/000002`));
    const { findings } = await report(14);
    assert.deepEqual(
      findings.map(({ code, breaks }) => [code, breaks]),
      [["ARCHIVE_DAMAGED", ["s/1", "s/2", "s/3"]]],
    );
    assert.match(findings[0]?.message ?? "", /000002 is missing/);
  });

  test("a user who may not read the segments lacks a right, and no archive is damaged", async () => {
    await fillContainer();
    const grant = async (name: string): Promise<void> => {
      const { status } = await swift.native.request("POST", `/${encodeURIComponent(name)}`, {
        headers: { "x-container-read": "test:reader" },
      });
      assert.equal(status, 204);
    };
    await grant(container);
    const { accessKey, secretKey } = swift.reader;
    const env = { ...swift.environment, AWS_ACCESS_KEY_ID: accessKey, AWS_SECRET_ACCESS_KEY: secretKey };
    const asReader = (command: string, ...args: string[]): Promise<Ran> =>
      cli([command, "--container-name", container, ...args], { env });
    assert.equal((await asReader("list")).code, 0);
    for (const args of [["verify"], ["verify", "--read-data"], ["restore", keys[2] ?? "", "--stdout"]]) {
      const [command = "", ...rest] = args;
      const { code, stdout, stderr } = await asReader(command, ...rest);
      assert.equal(code, 13, stdout + stderr);
      assert.match(stderr, new RegExp(`no right to read '${container}\\+segments'.*read ACL`));
      assert.doesNotMatch(stdout + stderr, /damaged|delete/);
    }
    await grant(`${container}+segments`);
    assert.equal((await asReader("verify", "--read-data")).code, 0);
    // Now it is damage for every user: that of one archive beside intact ones.
    const segments = (await (await swift.native.request("GET", `/${container}%2Bsegments`)).text()).trim().split("\n");
    const [lost] = segments.filter((name) => name.startsWith(keys[1] ?? ""));
    await swift.native.request("DELETE", `/${container}%2Bsegments/${encodeURIComponent(lost ?? "")}`);
    for (const ran of [await asReader("verify"), await verify()]) {
      assert.equal(ran.code, 14, ran.stdout + ran.stderr);
      assert.match(ran.stderr, /segments of .*x2f2' are missing in the store; cannot be restored: s\/2, s\/3:/);
    }
    // The owner of the account gets that error even if nothing else can be read.
    for (const name of segments)
      await swift.native.request("DELETE", `/${container}%2Bsegments/${encodeURIComponent(name)}`);
    assert.equal((await verify()).code, 14);
  });
});
