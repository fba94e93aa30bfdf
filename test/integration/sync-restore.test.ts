// The main job, end to end, with the program as users start it: snapshots of a real btrfs into a real Swift, and back.

import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { appendFile, mkdir, readdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { cli, cliOnTerminal, MAIN, onTerminal, type Ran } from "../support/cli.ts";
import { openFaultProxy } from "../support/fault-proxy.ts";
import { btrfs, openLoopback, run, type Loopback } from "../support/loopback.ts";
import { noBtrfsOrSwift } from "../support/requirements.ts";
import { openSwift, type Swift } from "../support/swift.ts";
import { changeTree, compareTrees, makeTree } from "../support/tree.ts";

const MiB = 2 ** 20;

interface Listed {
  readonly key: string;
  readonly path: string;
  readonly sendParent: { readonly uuid: string } | null;
}

describe("from btrfs to Swift and back", { skip: noBtrfsOrSwift() }, () => {
  let swift: Swift;
  let disk: Loopback;
  let top: string;
  let home: string;

  before(async () => {
    [swift, disk] = await Promise.all([openSwift(), openLoopback({ sizeBytes: 1024 * MiB })]);
    top = disk.mountPoint;
    home = join(top, "home");
    await btrfs("subvolume", "create", home);
    await mkdir(join(top, "snapshots"));
    await makeTree(join(home), { seed: 1, files: 60, bytes: 8 * MiB, zoo: true });
    for (const number of [1, 2, 3]) {
      if (number > 1) await changeTree(home, number);
      await btrfs("subvolume", "snapshot", "-r", home, join(top, `snapshots/${number}`));
    }
  });
  after(async () => {
    await Promise.all([swift.close(), disk.close()]);
  });

  const program = (...args: string[]): Promise<Ran> => cli(args, { env: swift.environment });

  async function listed(container: string): Promise<Listed[]> {
    const { stdout, stderr, code } = await program("list", "--container-name", container, "--json");
    assert.equal(code, 0, stderr);
    return (JSON.parse(stdout) as { archives: Listed[] }).archives;
  }

  test("what was archived is restored, entry by entry, in a fresh filesystem", async (t) => {
    await swift.createContainer("main");
    await t.test("the first run sends all, the second nothing", async () => {
      const first = await program(home, "--container-name", "main");
      assert.equal(first.code, 0, first.stderr);
      assert.match(first.stdout, /3 to send/);
      const second = await program("sync", home, "--container-name=main", "--json");
      assert.deepEqual(JSON.parse(second.stdout), { type: "summary", subvolume: home, kept: 3, sent: 0, failed: 0 });
    });
    await t.test("a new snapshot is sent incrementally against the one before it", async () => {
      await changeTree(home, 4);
      await btrfs("subvolume", "snapshot", "-r", home, join(top, "snapshots/4"));
      const { stdout, code } = await program("sync", home, "--container-name", "main", "--json");
      const lines = stdout
        .trim()
        .split("\n")
        .map((line) => JSON.parse(line) as Record<string, unknown>);
      assert.deepEqual([code, lines.map(({ type }) => type)], [0, ["step", "receipt", "summary"]]);
      assert.equal((lines[0]?.["sendParent"] as { path: string }).path, "snapshots/3");
      // Where compressed extents may travel compressed it is an upper bound, else exact: that is tested in test/btrfs.
      assert.ok((lines[0]?.["estimate"] as { bytes: number }).bytes >= Number(lines[1]?.["bytes"]));
    });
    await t.test("list shows the chain", async () => {
      const archives = await listed("main");
      assert.deepEqual(
        archives.map(({ path, sendParent }) => [path, sendParent === null]),
        [
          ["snapshots/1", true],
          ["snapshots/2", false],
          ["snapshots/3", false],
          ["snapshots/4", false],
        ],
      );
    });
    await t.test("restore brings every snapshot back, and then there is nothing to do", async () => {
      const target = await openLoopback({ sizeBytes: 1024 * MiB });
      try {
        const key = (await listed("main")).at(-1)?.key ?? "";
        const args = ["restore", "--container-name", "main", key, "--target", target.mountPoint];
        const restored = await program(...args);
        assert.equal(restored.code, 0, restored.stderr);
        for (const number of [1, 2, 3, 4]) {
          const path = `snapshots/${number}`;
          const { entries, differences } = await compareTrees(join(top, path), join(target.mountPoint, path));
          assert.deepEqual(differences, []);
          assert.ok(entries > 60);
        }
        const again = await program(...args, "--json");
        const place = join(target.mountPoint, "snapshots/4");
        const summary = {
          type: "summary",
          received: 0,
          removed: 0,
          bytes: 0,
          path: "snapshots/4",
          place,
          writable: null,
        };
        assert.deepEqual(JSON.parse(again.stdout), summary);
      } finally {
        await target.close();
      }
    });
  });

  test("an archive is what `btrfs send` writes, and common tools restore it", async () => {
    const target = await openLoopback({ sizeBytes: 512 * MiB });
    try {
      const [first] = await listed("main");
      const body = await swift.native.getObject("main", first?.key ?? "");
      const file = join(target.directory, "stream");
      await run("btrfs", "send", "-q", "--proto", "2", "--compressed-data", "-f", file, join(top, "snapshots/1"));
      const hash = async (name: string): Promise<string> => (await run("sha256sum", name)).slice(0, 64);
      assert.equal(createHash("sha256").update(body).digest("hex"), await hash(file));
      const download = join(target.directory, "download");
      const { accessKey, secretKey } = swift;
      await run(
        "swift",
        "-A",
        `${swift.endpoint}/auth/v1.0`,
        "-U",
        accessKey,
        "-K",
        secretKey,
        "download",
        "main",
        first?.key ?? "",
        "--output",
        download,
      );
      await btrfs("receive", "-q", "-C", "-f", download, target.mountPoint).catch(async () => {
        // With -C the file is looked for inside the target by some versions: it is read from standard input then.
        await run("sh", "-c", `btrfs receive -q -C ${target.mountPoint} < ${download}`);
      });
      const { differences } = await compareTrees(join(top, "snapshots/1"), join(target.mountPoint, "1"));
      assert.deepEqual(differences, []);
    } finally {
      await target.close();
    }
  });

  test("a dry run and a plan store nothing, and print what would be stored", async () => {
    await swift.createContainer("dry");
    for (const [flag, expected] of [
      ["--dry-run", /checked, not stored: snapshots\/1/],
      ["--plan", /4 to send/],
    ] as const) {
      const { code, stdout, stderr } = await program("sync", home, "--container-name", "dry", flag);
      assert.equal(code, 0);
      assert.match(stdout, expected);
      const first = /^dry run: reads everything that would be sent, .*; -n only shows the plan\n/;
      assert.equal(first.test(stderr), flag === "--dry-run", stderr);
      assert.deepEqual(await listed("dry"), []);
    }
  });

  test("a work directory is empty afterwards, and the archives are the same", async () => {
    await swift.createContainer("spooled");
    const directory = join(disk.directory, "work");
    await mkdir(directory);
    // In parts of 5 MiB, of which the first stream needs two.
    const small = ["--memory", "35Mi"];
    const { code, stderr } = await program(home, "--container-name", "spooled", "--work-dir", directory, ...small);
    assert.equal(code, 0, stderr);
    assert.deepEqual(await readdir(directory), []);
    const [first] = await listed("spooled");
    const bodies = await Promise.all(["main", "spooled"].map((name) => swift.native.getObject(name, first?.key ?? "")));
    assert.deepEqual(bodies[0], bodies[1]);
    assert.match(
      (await program("list", "--container-name", "spooled")).stdout,
      / in spooled\+segments: nearly all bytes$/m,
    );
  });

  test("list with a path shows what is only here, in both places, and only archived", async () => {
    await swift.createContainer("where");
    assert.equal((await program("sync", home, "--container-name", "where")).code, 0);
    await btrfs("subvolume", "snapshot", "-r", home, join(top, "snapshots/new"));
    await btrfs("subvolume", "delete", join(top, "snapshots/2"));
    const { stdout } = await program("list", "--container-name", "where", home);
    for (const [path, where] of [
      ["1", "both"],
      ["2", "archive"],
      ["new", "local"],
    ]) {
      assert.match(stdout, new RegExp(`snapshots/${path ?? ""} .* ${where ?? ""}$`, "m"));
    }
    await btrfs("subvolume", "delete", join(top, "snapshots/new"));
  });

  test("a filesystem that is mounted only as one of its subvolumes is archived", async () => {
    const other = await openLoopback({ sizeBytes: 256 * MiB });
    try {
      await btrfs("subvolume", "create", join(other.mountPoint, "@home"));
      await writeFile(join(other.mountPoint, "@home/file"), "content");
      await mkdir(join(other.mountPoint, "@snapshots"));
      for (const name of ["a", "b"]) {
        await btrfs(
          "subvolume",
          "snapshot",
          "-r",
          join(other.mountPoint, "@home"),
          join(other.mountPoint, "@snapshots", name),
        );
        await appendFile(join(other.mountPoint, "@home/file"), name);
      }
      const alone = await other.mount("subvol=@home");
      await run("umount", other.mountPoint);
      await swift.createContainer("alone");
      const { code, stderr } = await program(alone, "--container-name", "alone");
      assert.equal(code, 0, stderr);
      assert.deepEqual(
        (await listed("alone")).map(({ path }) => path),
        ["@snapshots/a", "@snapshots/b"],
      );
    } finally {
      await other.close();
    }
  });

  test("a run that is killed leaves nothing that looks like an archive, and the next one finishes", async () => {
    await swift.createContainer("killed");
    const big = join(top, "big");
    await btrfs("subvolume", "create", big);
    await run("sh", "-c", `head -c ${24 * MiB} /dev/urandom > ${big}/file`);
    await btrfs("subvolume", "snapshot", "-r", big, join(top, "snapshots/big"));
    const args = [big, "--container-name", "killed"];
    const proxy = await openFaultProxy(swift.endpoint);
    const during = (child: { kill(signal: "SIGKILL"): boolean }): void => {
      const when = (method: string, path: string): boolean => method === "PUT" && path.includes("partNumber=");
      proxy.plan({ when, fault: { kind: "delay", ms: 0 }, answered: () => child.kill("SIGKILL") });
    };
    const env = { ...swift.environment, AWS_ENDPOINT_URL_S3: proxy.endpoint };
    const { code } = await cli([...args, "--memory", "25Mi"], { env, during });
    await proxy.close();
    assert.equal(code, "SIGKILL");
    assert.deepEqual(await listed("killed"), []);
    assert.equal((await program(...args)).code, 0);
    assert.equal((await listed("killed")).length, 1);
  });

  test("on a terminal it asks once: no stores nothing and is not a failure, Enter is yes", async () => {
    await swift.createContainer("asked");
    const refused = await cliOnTerminal([home, "--container-name", "asked"], "n\n", swift.environment);
    assert.deepEqual([refused.code, await listed("asked")], [0, []], refused.stdout);
    assert.equal(refused.stdout.split("[Y/n]").length, 2);
    const agreed = await cliOnTerminal([home, "--container-name", "asked"], "\n", swift.environment);
    assert.equal(agreed.code, 0);
    assert.notEqual((await listed("asked")).length, 0);
  });

  test("asks nothing if the plan goes into a pipe, or is JSON", async () => {
    await swift.createContainer("piped");
    const sync = [process.execPath, MAIN, home, "--container-name", "piped"];
    const nobody = { prompt: "[Y/n]", input: "n\n" };
    const piped = await onTerminal(["sh", "-c", `"$@" | cat`, "sh", ...sync], nobody, swift.environment);
    assert.doesNotMatch(piped.stdout, /\[Y\/n\]/);
    assert.notEqual((await listed("piped")).length, 0, piped.stdout);
    const json = await onTerminal([...sync, "--json", "--dry-run"], nobody, swift.environment);
    assert.doesNotMatch(json.stdout, /\[Y\/n\]/);
  });

  test("a good run prints nothing on stderr but its log", async () => {
    await swift.createContainer("quiet");
    const { stderr } = await program(home, "--container-name", "quiet", "--log-format", "json");
    const lines = stderr
      .trim()
      .split("\n")
      .map((line) => JSON.parse(line) as { level: string; msg: string });
    assert.deepEqual(
      lines.map(({ level, msg }) => [level, msg.includes("encrypted")]),
      [["warn", true]],
    );
  });

  describe("what goes wrong is one sentence and an exit code, before anything is sent", () => {
    const cases: [string, number, RegExp, () => [string[], Record<string, string>]][] = [
      ["no such container", 10, /missing-one/, () => [[home, "--container-name", "missing-one"], {}]],
      ["a name that S3 cannot address", 2, /under_score/, () => [[home, "--container-name", "under_score"], {}]],
      [
        "wrong keys",
        13,
        /refuses these credentials/,
        () => [[home, "--container-name", "main"], { AWS_SECRET_ACCESS_KEY: "wrong" }],
      ],
      ["wrong region", 2, /us-east-1/, () => [[home, "--container-name", "main", "--region", "mars"], {}]],
      [
        "nobody at the endpoint",
        75,
        /127\.0\.0\.1:1\b/,
        () => [[home, "--container-name", "main", "--endpoint", "http://127.0.0.1:1", "--retry-for", "1s"], {}],
      ],
      ["no container named", 2, /--container-name/, () => [[home], {}]],
      ["no endpoint", 2, /--endpoint/, () => [[home, "--container-name", "main"], { AWS_ENDPOINT_URL_S3: "" }]],
      ["a path that is not there", 2, /nowhere/, () => [[join(top, "nowhere"), "--container-name", "main"], {}]],
      ["no btrfs", 15, /btrfs/, () => [["/proc", "--container-name", "main"], {}]],
      ["no subvolume", 15, /subvolume/, () => [[join(top, "snapshots"), "--container-name", "main"], {}]],
      ["an unknown option", 2, /--frobnicate/, () => [[home, "--frobnicate"], {}]],
      ["no path", 2, /no PATH given/, () => [["sync"], {}]],
      [
        "a target that is not btrfs",
        15,
        /btrfs/,
        () => [["restore", "--container-name", "main", "x", "--target", "/proc"], {}],
      ],
      ["no such archive", 2, /no archive x/, () => [["restore", "--container-name", "main", "x", "--target", top], {}]],
    ];
    for (const [name, expected, sentence, command] of cases) {
      test(name, async () => {
        const [args, env] = command();
        const { code, stdout, stderr } = await cli(args, { env: { ...swift.environment, ...env } });
        assert.equal(code, expected, stderr);
        assert.match(stderr, sentence);
        assert.equal(stderr.trim().split("\n").length, 1, stderr);
        assert.equal(stdout, "");
        assert.equal(stderr.includes(swift.secretKey), false);
      });
    }
  });
});
