// Names that people type for a subvolume or an archive, here and on machines that have neither. And the end of a restore:
// people read what came, where it is, and what to type next.

import assert from "node:assert/strict";
import type { ChildProcess } from "node:child_process";
import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { cli, type Ran } from "../support/cli.ts";
import { openFaultProxy } from "../support/fault-proxy.ts";
import { btrfs, openLoopback, type Loopback } from "../support/loopback.ts";
import { noBtrfsOrSwift } from "../support/requirements.ts";
import { openSwift, type Swift } from "../support/swift.ts";

const MIB = 2 ** 20;

describe("names", { skip: noBtrfsOrSwift() }, () => {
  let swift: Swift;
  let disk: Loopback;
  let other: Loopback;
  let keys: readonly string[];
  const here = (name: string): string => join(disk.mountPoint, name);
  const there = (name: string): string => join(other.mountPoint, name);
  const program = (...args: string[]): Promise<Ran> => {
    const [command = "", ...rest] = args;
    return cli([command, "--container-name", "names", ...rest], { env: swift.environment });
  };
  async function ended(code: number, ...args: string[]): Promise<Ran> {
    const ran = await program(...args);
    assert.equal(ran.code, code, `${args.join(" ")}: ${ran.stdout}${ran.stderr}`);
    return ran;
  }

  before(async () => {
    [swift, disk, other] = await Promise.all([
      openSwift(),
      openLoopback({ sizeBytes: 160 * MIB }),
      openLoopback({ sizeBytes: 160 * MIB }),
    ]);
    await swift.createContainer("names");
    for (const name of ["@home", "@srv", "@new"]) await btrfs("subvolume", "create", here(name));
    await mkdir(here("kept"));
    for (const number of [1, 2, 3]) {
      await writeFile(here(`@home/${number}`), "x".repeat(100_000));
      await btrfs("subvolume", "snapshot", "-r", here("@home"), here(`kept/@home.${number}`));
    }
    await btrfs("subvolume", "snapshot", "-r", here("@srv"), here("kept/@srv.1"));
    await btrfs("subvolume", "snapshot", "-r", here("@new"), here("kept/@new.1"));
    await ended(0, "sync", here("@home"), here("@srv"));
    const { archives } = JSON.parse((await ended(0, "list", "--json", "@home")).stdout) as {
      archives: readonly { key: string }[];
    };
    keys = archives.map(({ key }) => key);
  });
  after(() => Promise.all([swift.close(), disk.close(), other.close()]));

  for (const name of ["@home", "home"]) {
    test(`${name} is a subvolume wherever one is named, on machines that do not have it too`, async () => {
      const { stdout } = await ended(0, "list", name);
      assert.match(stdout, /3 snapshots, 3 archived/);
      assert.doesNotMatch(stdout, /@srv/);
      assert.match((await ended(0, "verify", name)).stdout, /^checked 3 archives, /m);
      assert.match((await ended(0, "verify", name, "--read-data")).stdout, /^read 3 archives to the end, /m);
      await ended(0, "verify", name, "--remove-leftovers");
      for (const words of [["--latest"], ["--at", "2099-01-01"]])
        assert.match((await ended(0, "restore", name, ...words, "-n")).stdout, /kept\/@home\.3/);
    });
  }

  test("an unknown name is answered with the known ones, and a snapshot with its source", async () => {
    for (const command of ["list", "verify"]) {
      assert.match(
        (await ended(2, command, "@hmoe")).stderr,
        /there is no archive of @hmoe: there are archives of .*@home\.3/,
      );
      assert.match((await ended(2, command, here("kept/@home.2"))).stderr, /is itself a read-only snapshot, of @home: use \S+\/@home$/m); // prettier-ignore
    }
    assert.match(
      (await ended(2, "restore", "@hmoe", "--latest", "-n")).stderr,
      /there is no archive of @hmoe: there are/,
    );
    assert.match((await ended(2, "restore", "@home", "--at", "2001-01-01", "-n")).stderr, /no archive is that old: the oldest is kept\/@home\.1/); // prettier-ignore
    assert.match((await ended(2, "restore", "@home", "-n")).stderr, /for the newest of the subvolume @home, use @home --latest/); // prettier-ignore
  });

  test("verify of a subvolume without archives fails", async () => {
    assert.match((await ended(2, "verify", here("@new"))).stderr, /there is no archive of \S+\/@new: /);
  });

  test("an archive is named by its key as a shell leaves it, by where its snapshot is here, or as the latest", async () => {
    const [, second = ""] = keys;
    for (const name of [second, second.replaceAll("\\", ""), here("kept/@home.2"), "kept/@home.2"]) {
      const { stdout } = await ended(0, "restore", name, "-n", "--json");
      const { chain } = JSON.parse(stdout) as { chain: { path: string }[] };
      assert.equal(chain.at(-1)?.path, "kept/@home.2", name);
    }
    assert.match(
      (await ended(2, "restore", "latest", "-n")).stderr,
      /archives of several subvolumes: name one of them/,
    );
  });

  test("a restore that is stopped reports what was restored and what the same command does next", async () => {
    const proxy = await openFaultProxy(swift.endpoint);
    let child: ChildProcess | null = null;
    const isSecond = (method: string, path: string): boolean =>
      method === "GET" && /home\.2(\?|$)/.test(decodeURIComponent(path));
    proxy.plan({ when: isSecond, fault: { kind: "hang" }, then: () => child?.kill("SIGINT"), times: "ever" });
    const command = ["restore", "--container-name", "names", "@home", "--latest", "--target", other.mountPoint];
    const env = { ...swift.environment, AWS_ENDPOINT_URL_S3: proxy.endpoint };
    const { code, stderr, stdout } = await cli(command, { env, during: (started) => (child = started) });
    assert.equal(code, 130, stderr);
    assert.doesNotMatch(stderr, /error|ABORTED/);
    assert.match(stderr, /^stopped by SIGINT$/m);
    assert.match(stderr, /^snapshots that were received stay; the same command receives the rest$/m);
    assert.match(stdout, /kept\/@home\.1/);
    await proxy.close();
  });

  test("a restore prints at its end what was restored, where it is, and the next command", async () => {
    const { stdout } = await ended(0, "restore", "@home", "--latest", "--only", "--target", other.mountPoint);
    const place = there("kept/@home.3");
    const lines = stdout.trim().split("\n").slice(-3);
    assert.match(lines[0] ?? "", /^2 archives received, .*iB, 1 snapshot that it builds on removed again \(--only\)$/);
    assert.equal(lines[1], `the snapshot is ${place}, read-only`);
    assert.equal(lines[2], `to work with it: btrfs subvolume snapshot ${place} ${other.mountPoint}/NAME`);
    assert.match(await btrfs("property", "get", "-ts", place, "ro"), /ro=true/);
    const again = await ended(0, "restore", "@home", "--latest", "--target", other.mountPoint, "--writable", "work");
    assert.match(again.stdout, new RegExp(`^the snapshot is ${place}, read-only$`, "m"));
    assert.match(again.stdout, new RegExp(`^to work with: ${there("work")}, writable$`, "m"));
  });
});
