// A snapshot counts as archived when an object of that very snapshot exists, on an intact chain; its name does not count.

import assert from "node:assert/strict";
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { formatKey } from "../../src/plan/key.ts";
import { parseUuid } from "../../src/plan/model.ts";
import { cli, type Ran } from "../support/cli.ts";
import { parseExposition } from "../support/exposition.ts";
import { btrfs, openLoopback, run, type Loopback } from "../support/loopback.ts";
import { noBtrfsOrSwift } from "../support/requirements.ts";
import { openSwift, type Swift } from "../support/swift.ts";

const MiB = 2 ** 20;

/** Lets the second file share the extents of the first: FIDEDUPERANGE, which read-only snapshots allow. */
const DEDUPLICATE = `
import fcntl, os, struct, sys
source, target = (os.open(path, os.O_RDONLY) for path in sys.argv[1:])
length = os.fstat(source).st_size
asked = struct.pack("=QQHHIqQQiI", 0, length, 1, 0, 0, target, 0, 0, 0, 0)
bytes_done, status = struct.unpack("=QQHHIqQQiI", fcntl.ioctl(source, 0xC0189436, asked))[7:9]
assert (bytes_done, status) == (length, 0), (bytes_done, status)
`;

describe("a snapshot is archived", { skip: noBtrfsOrSwift() }, () => {
  let swift: Swift;
  let disk: Loopback;

  before(async () => {
    [swift, disk] = await Promise.all([openSwift(), openLoopback({ sizeBytes: 256 * MiB })]);
  });
  after(async () => {
    await Promise.all([swift.close(), disk.close()]);
  });

  const program = (...args: string[]): Promise<Ran> =>
    cli(args, { env: { ...swift.environment, HOME: disk.directory } });

  /** A subvolume with snapshots `1` to `count` in a directory of its own, and a container; all of one name. */
  async function world(name: string, count: number): Promise<World> {
    await swift.createContainer(name);
    const [subvolume, directory] = [join(disk.mountPoint, name), join(disk.mountPoint, `${name}-snapshots`)];
    await btrfs("subvolume", "create", subvolume);
    await run("mkdir", directory);
    const source = parseUuid(/\tUUID:\s+(\S{36})/.exec(await btrfs("subvolume", "show", subvolume))?.[1] ?? "");
    const keyOf = (snapshot: string): string => {
      const found = source === null ? null : formatKey(source, `${name}-snapshots/${snapshot}`);
      return found !== null && "key" in found ? found.key : assert.fail();
    };
    const take = async (snapshot: string): Promise<void> => {
      await writeFile(join(subvolume, `file-${snapshot}`), snapshot.repeat(1000));
      await btrfs("subvolume", "snapshot", "-r", subvolume, join(directory, snapshot));
    };
    for (let number = 1; number <= count; number += 1) await take(String(number));
    const sync = (...more: string[]): Promise<Ran> =>
      program("sync", subvolume, "--container-name", name, "--no-encryption", ...more);
    const request = async (method: string, key: string, headers = {}, body = ""): Promise<void> => {
      const { status } = await swift.native.request(method, `/${name}/${encodeURIComponent(key)}`, {
        headers,
        body: Buffer.from(body),
      });
      assert.ok(status < 300, String(status));
    };
    return { name, subvolume, directory, keyOf, take, sync, request };
  }

  interface World {
    readonly name: string;
    readonly subvolume: string;
    readonly directory: string;
    readonly keyOf: (snapshot: string) => string;
    readonly take: (snapshot: string) => Promise<void>;
    readonly sync: (...more: string[]) => Promise<Ran>;
    readonly request: (method: string, key: string, headers?: Record<string, string>, body?: string) => Promise<void>;
  }

  const steps = ({ stdout }: Ran): unknown[] =>
    stdout
      .trim()
      .split("\n")
      .map((line) => JSON.parse(line) as Record<string, unknown>)
      .filter(({ type }) => type === "step")
      .map(({ path, sendParent }) =>
        [path, (sendParent as { path: string } | null)?.path].map((each) => String(each).replace(/.*\//, "")).join("<"),
      );

  test("not when it was made writable and changed since; `list` and monitoring agree", async () => {
    const { name, subvolume, directory, sync } = await world("changed", 3);
    assert.equal((await sync()).code, 0);
    const changed = join(directory, "2");
    await btrfs("property", "set", "-ts", changed, "ro", "false");
    await writeFile(join(changed, "new"), "changed");
    await btrfs("property", "set", "-ts", changed, "ro", "true");
    const metrics = join(disk.directory, "changed.prom");
    const { code, stderr, stdout } = await sync("--metrics-file", metrics);
    assert.equal(code, 3, stderr);
    assert.match(stderr, /changed-snapshots\/2 was changed since it was archived \(made writable, or deduplicated\)/);
    assert.match(stdout, /2 of 3 snapshots of .* archived/);
    const pending = parseExposition(await readFile(metrics, "utf8")).find((sample) =>
      sample.name.endsWith("pending_snapshots"),
    );
    assert.equal(pending?.value, 1);
    const listed = await program("list", "--container-name", name, subvolume);
    assert.match(listed.stdout, /changed-snapshots\/2 .* local$/m);
    assert.match(listed.stdout, /changed-snapshots\/2 .* archive$/m);
    assert.match(listed.stderr, /changed-snapshots\/2 was changed since/);
  });

  for (const option of ["--drill", "--against-local"])
    test(`also when it was deduplicated since, once ${option} has proven that it holds the same`, () =>
      deduplicated(option));

  async function deduplicated(option: string): Promise<void> {
    const { name, subvolume, directory, take, sync } = await world(`deduplicated${option}`, 0);
    for (const file of ["a", "b"]) await writeFile(join(subvolume, file), Buffer.alloc(256 * 1024, "same"));
    await take("1");
    assert.equal((await sync()).code, 0);
    await run("python3", "-c", DEDUPLICATE, join(directory, "1", "a"), join(directory, "1", "b"));
    assert.equal((await sync()).code, 3, "btrfs calls it changed");
    const drilled = await program("verify", "--container-name", name, subvolume, option);
    assert.equal(drilled.code, 0, drilled.stderr);
    assert.match(drilled.stdout, /1 snapshot deduplicated since, and equal to what is archived/);
    await take("2");
    const next = await sync("--json");
    assert.deepEqual([next.code, steps(next)], [0, ["2<undefined"]], "it counts, but nothing builds on it");
    const restored = await program("restore", "--container-name", name, "--stdout", `${name}-snapshots/2`);
    assert.equal(restored.code, 0, restored.stderr);
  }

  test("not when a send parent was lost: a new chain begins, with advice", async () => {
    const { directory, keyOf, take, sync, request } = await world("broken", 3);
    assert.equal((await sync()).code, 0);
    await request("DELETE", keyOf("1"));
    const plan = await sync("--plan", "--json");
    assert.deepEqual(
      [plan.code, steps(plan)],
      [0, ["1<undefined"]],
      "the snapshot that still exists is sent again, and every chain is intact",
    );
    await btrfs("subvolume", "delete", join(directory, "1"));
    await take("4");
    await take("5");
    const metrics = join(disk.directory, "broken.prom");
    const { code, stderr, stdout } = await sync("--json", "--metrics-file", metrics);
    assert.equal(code, 3, stderr);
    assert.match(
      stderr,
      /broken-snapshots\/2, broken-snapshots\/3 cannot be restored from the archive: .* is not archived/,
    );
    assert.deepEqual(steps({ code, stderr, stdout }), ["4<undefined", "5<4"]);
    const samples = parseExposition(await readFile(metrics, "utf8"));
    const value = (metric: string): number | undefined => samples.find((sample) => sample.name.endsWith(metric))?.value;
    assert.deepEqual([value("broken_archives"), value("chain_length"), value("pending_snapshots")], [2, 2, 2]);
    for (const snapshot of ["2", "3"]) await request("DELETE", keyOf(snapshot));
    const cured = await sync("--json");
    assert.deepEqual([cured.code, steps(cured)], [0, ["2<undefined", "3<2"]], cured.stderr);
  });

  test("not when the object under its name is empty, or another machine's", async () => {
    const { keyOf, sync, request } = await world("others", 3);
    await request("PUT", keyOf("1"));
    const foreign = {
      "btrfs-format": "1",
      "btrfs-uuid": "11111111-2222-4333-8444-555555555555",
      "btrfs-ctransid": "7",
    };
    await request(
      "PUT",
      keyOf("2"),
      Object.fromEntries(Object.entries(foreign).map(([key, value]) => [`x-object-meta-${key}`, value])),
      "x",
    );
    const { code, stderr, stdout } = await sync("--json");
    assert.equal(code, 3, stderr);
    assert.deepEqual(steps({ code, stderr, stdout }), ["3<undefined"]);
    assert.match(stderr, /others-snapshots\/1 is not archived: the object under its name is empty/);
    assert.match(stderr, /others-snapshots\/2 is not the snapshot .* another machine uses the same source UUID/);
  });

  test("also when its directory was renamed: it is not sent again, and new snapshots build on it", async () => {
    const { name, directory, take, sync } = await world("moved", 2);
    assert.equal((await sync()).code, 0);
    await run("mv", directory, `${directory}-elsewhere`);
    await run("mkdir", directory);
    await take("3");
    const { code, stderr, stdout } = await sync("--json");
    assert.equal(code, 0, stderr);
    assert.deepEqual(steps({ code, stderr, stdout }), ["3<2"]);
    assert.match(stderr, /moved-snapshots-elsewhere\/1 and 1 more archived under another name \(moved-snapshots\/1\)/);
    const findings = async (): Promise<readonly string[]> => {
      const { stdout: report } = await program("verify", "--container-name", name, "--json");
      return (JSON.parse(report) as { findings: readonly { code: string }[] }).findings.map(({ code: found }) => found);
    };
    assert.deepEqual(await findings(), [], "moved snapshots are no duplicates");
    const again = await sync("--rearchive", "--plan", "--json");
    assert.deepEqual(steps(again), ["1<undefined", "2<1"]);
    assert.doesNotMatch(
      (await program("list", "--container-name", name, join(disk.mountPoint, name))).stdout,
      / (local|archive)$/m,
    );
    assert.equal((await sync("--rearchive")).code, 0);
    assert.deepEqual(await findings(), ["ARCHIVE_DUPLICATE", "ARCHIVE_DUPLICATE"], "as somebody insisted");
  });

  test("not when its name was used before or cannot be a key; `list` and `doctor` agree with `sync`", async () => {
    const { name, subvolume, directory, take, sync } = await world("named", 2);
    assert.equal((await sync()).code, 0);
    await btrfs("subvolume", "delete", join(directory, "2"));
    for (const each of ["2", "a\\x2fb", "bell\u0007"]) await take(each);
    const reasons = [
      /named-snapshots\/2 is not the snapshot that is archived under its name \(it was deleted and created again, or renamed/,
      /named-snapshots\/a\S*b cannot be archived: its path contains the characters \\x2f, which stand for a slash in keys/,
      /named-snapshots\/bell\S* cannot be archived: its path contains a control character that no S3 listing can carry/,
    ];
    const synced = await sync();
    assert.equal(synced.code, 3, synced.stderr);
    const listed = await program("list", "--container-name", name, subvolume);
    for (const reason of reasons) {
      assert.match(synced.stderr, reason);
      assert.match(listed.stdout + listed.stderr, reason);
    }
    const doctor = async (): Promise<string> => {
      const { code, stdout } = await program("doctor", subvolume, "--container-name", name, "--no-encryption");
      assert.equal(code, 3, stdout);
      return stdout.replaceAll(/\s+/g, " ");
    };
    const [reused, slash, bell] = reasons;
    assert.match(await doctor(), slash ?? /./);
    await btrfs("subvolume", "delete", join(directory, "a\\x2fb"));
    assert.match(await doctor(), bell ?? /./);
    await btrfs("subvolume", "delete", join(directory, "bell\u0007"));
    assert.match(await doctor(), reused ?? /./);
  });
});
