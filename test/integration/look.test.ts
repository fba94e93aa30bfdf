// Looks into archives with the program as users start it: what it shows of snapshots in a real Swift is what is in the
// real ones.

import assert from "node:assert/strict";
import { mkdir, rename, rm, utimes, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { cli, type Ran } from "../support/cli.ts";
import { btrfs, openLoopback, run, type Loopback } from "../support/loopback.ts";
import { archiveLikePythonTool } from "../support/python-tool.ts";
import { noBtrfsOrSwift } from "../support/requirements.ts";
import { openSwift, rot, type Swift } from "../support/swift.ts";
import { changeTree, describeTree, makeTree, printablePath, treeDifferences, type Entry } from "../support/tree.ts";

const GENERATIONS = 5;

interface Shown {
  readonly type: string;
  readonly path: string;
  readonly pathBytes?: string;
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly links: number;
  readonly size: number;
  readonly kind: string;
  readonly mtime: string;
  readonly target?: string;
  readonly targetBytes?: string;
  readonly device?: { readonly major: number; readonly minor: number };
  readonly mark: string;
  readonly versions: readonly {
    readonly present: boolean;
    readonly size?: number;
    readonly first: { readonly path: string };
  }[];
}

const parse = ({ stdout }: Ran): Shown[] =>
  stdout
    .split("\n")
    .filter((line) => line !== "")
    .map((line) => JSON.parse(line) as Shown);

const pathOf = ({ path, pathBytes }: Shown): string =>
  printablePath(pathBytes === undefined ? path.slice(1) : Buffer.from(pathBytes, "base64").subarray(1));

/** As tree.py describes an entry; without what `ls` does not show. */
function toDescription(shown: Shown): Record<string, unknown> {
  const { kind, mode, uid, gid, links, size, mtime, target, targetBytes, device } = shown;
  const seconds = BigInt(Date.parse(mtime.replace(/\.\d+Z$/, "Z"))) / 1000n;
  const fraction = BigInt(/\.(\d+)Z$/.exec(mtime)?.[1] ?? "0");
  return {
    path: pathOf(shown),
    mode: mode.toString(8),
    owner: `${uid}:${gid}`,
    mtime: String(seconds * 1_000_000_000n + fraction),
    ...(kind === "directory" ? {} : { links }),
    ...(kind === "file" ? { size } : {}),
    ...(kind === "symlink"
      ? { target: printablePath(targetBytes === undefined ? (target ?? "") : Buffer.from(targetBytes, "base64")) }
      : {}),
    ...(device === undefined ? {} : { device: `${device.major}:${device.minor}` }),
  };
}

describe("looking into archives", { skip: noBtrfsOrSwift() }, () => {
  let swift: Swift;
  let disk: Loopback;
  let live: string;
  let identity: string;
  const trees: ReadonlyMap<string, Entry>[] = [];

  const program = (...args: string[]): Promise<Ran> => cli(args, { env: swift.environment });
  const ok = async (running: Promise<Ran>): Promise<Ran> => {
    const ran = await running;
    assert.equal(ran.code, 0, ran.stderr);
    return ran;
  };

  async function change(generation: number): Promise<void> {
    await changeTree(live, generation);
    // Directories that trade places pass through orphans.
    await rename(join(live, "folder-01"), join(live, "between"));
    await rename(join(live, "folder-02"), join(live, "folder-01"));
    await rename(join(live, "between"), join(live, "folder-02"));
    const diary = join(live, "diary", "Übung.txt");
    await mkdir(join(live, "diary"), { recursive: true });
    if (generation === 4) await rm(diary);
    else if (generation !== 2) await writeFile(diary, "x".repeat(generation === 1 ? 2 : generation));
    if (generation === 1) await utimes(diary, 1000, 1000);
  }

  before(async () => {
    [swift, disk] = await Promise.all([
      openSwift({ limits: { minSegmentSize: 100_000 } }),
      openLoopback({ sizeBytes: 512 * 2 ** 20, mountOptions: "compress=zlib" }),
    ]);
    live = join(disk.mountPoint, "home");
    identity = join(disk.directory, "identity");
    await btrfs("subvolume", "create", live);
    await mkdir(join(disk.mountPoint, "snapshots"));
    await makeTree(live, { seed: 3, files: 30, bytes: 2 ** 20, zoo: true });
    for (let generation = 1; generation <= GENERATIONS; generation++) {
      await change(generation);
      const snapshot = join(disk.mountPoint, "snapshots", `at:${generation}`);
      await btrfs("subvolume", "snapshot", "-r", live, snapshot);
      trees.push(await describeTree(snapshot));
    }
    await run("age-keygen", "-o", identity);
    const recipient = (await run("age-keygen", "-y", identity)).trim();
    const containers = {
      plain: [],
      volumes: ["--volume-size", "1Mi", "--no-encryption"],
      packed: ["--compress", "zstd", "--age-recipient", recipient],
    };
    for (const [name, options] of Object.entries(containers)) {
      await swift.createContainer(name);
      await ok(program("sync", live, "--container-name", name, ...options));
    }
  });
  after(async () => {
    await Promise.all([swift.close(), disk.close()]);
  });

  async function assertShows(generation: number, container: string, ...options: readonly string[]): Promise<void> {
    const what = `snapshots/at:${generation}`;
    const shown = parse(
      await ok(program("ls", what, "-l", "--recursive", "--json", "--container-name", container, ...options)),
    );
    const found = new Map(
      shown.filter(({ type }) => type === "entry").map((each) => [pathOf(each), toDescription(each)]),
    );
    const expected = [...(trees[generation - 1] ?? [])].filter(([path]) => path !== "");
    assert.deepEqual([...found.keys()].sort(), expected.map(([path]) => path).sort());
    const unseen = { xattrs: null, sha256: null, "same inode as": null };
    for (const [path, facts] of expected) {
      const real = { ...facts, ...unseen };
      assert.deepEqual({ ...found.get(path), ...unseen }, real);
    }
  }

  test("ls shows the first, the last and one between as they are", async () => {
    for (const generation of [1, 3, GENERATIONS]) await assertShows(generation, "plain");
  });

  test("ls shows the same of volumes, and of what is compressed and encrypted", async () => {
    await assertShows(GENERATIONS, "volumes");
    await assertShows(GENERATIONS, "packed", "--identity", identity);
    const { code, stdout, stderr } = await program("ls", "--latest", "--container-name", "packed");
    assert.deepEqual([code, stdout], [12, ""]);
    assert.match(stderr, /is encrypted: use --identity FILE/);
  });

  test("ls shows a directory for people, a file alone, and what ncdu reads", async () => {
    const ls = (...args: readonly string[]): Promise<Ran> => program("ls", "--container-name", "plain", ...args);
    assert.equal((await ok(ls("snapshots/at:2:diary"))).stdout, "/diary/Übung.txt\n");
    const { stdout } = await ok(ls("snapshots/at:2:/diary/Übung.txt", "-l"));
    assert.match(stdout, /^-rw-r--r-- +0 +0 +2 {2}1970-01-01 \d\d:16:40 {2}\/diary\/Übung.txt\n$/);
    assert.match((await ok(ls("--latest", ":"))).stdout, /^\/diary\/\n/m);
    const document = JSON.parse((await ok(ls("--latest", ":/diary", "--ncdu"))).stdout) as unknown[];
    assert.deepEqual(
      (document[3] as { name: string }[]).map(({ name }) => name),
      [`snapshots/at:${GENERATIONS}:/diary`, "Übung.txt"],
    );
    const missing = await ls("snapshots/at:2:/diary/none");
    assert.deepEqual([missing.code, missing.stdout], [2, ""]);
    assert.match(missing.stderr, /there is no \/diary\/none in snapshots\/at:2/);
    const unknown = await ls("nothing:/diary");
    assert.equal(unknown.code, 2);
    assert.match(unknown.stderr, /there is no archive nothing:/);
  });

  test("diff shows where the real snapshots differ, in both directions", async () => {
    for (const [a, b] of [
      [1, 2],
      [1, GENERATIONS],
      [4, 2],
    ] as const) {
      const names = [`snapshots/at:${a}`, `snapshots/at:${b}`];
      const shown = parse(await ok(program("diff", ...names, "--metadata", "--json", "--container-name", "plain")));
      const marks = shown
        .filter(({ type, path }) => type === "change" && path !== "/")
        .map((each) => `${each.mark} ${pathOf(each)}`);
      const expected = treeDifferences(trees[a - 1], trees[b - 1]).filter((line) => line !== "U ");
      assert.deepEqual(marks.sort(), expected.sort(), names.join(" "));
    }
    const { stdout } = await ok(program("diff", "snapshots/at:3", "snapshots/at:4", "--container-name", "plain"));
    assert.match(stdout, /^-    \/diary\/Übung.txt$/m);
    assert.doesNotMatch(stdout, /^U/m);
    assert.match(stdout, /\d+ paths? added, \d+ removed, \d+ changed, \d+ with other attributes only/);
  });

  test("find shows when a file changed, was gone, and was there again", async () => {
    const find = (...args: readonly string[]): Promise<Ran> => program("find", "--container-name", "plain", ...args);
    const [found, summary] = parse(await ok(find("übung*", "-i", "--json")));
    const versions = found?.versions.map(({ present, size, first }) => [present ? size : null, first.path]);
    assert.deepEqual(versions, [
      [2, "snapshots/at:1"],
      [3, "snapshots/at:3"],
      [null, "snapshots/at:4"],
      [5, "snapshots/at:5"],
    ]);
    assert.equal(summary?.type, "summary");
    const { stdout } = await ok(find("/diary/*", "--oldest", "2000-01-01"));
    assert.match(
      stdout,
      /^\/diary\/Übung.txt\n.*at:3 +3 B .*\n.*at:4 +gone\n.*at:5 +5 B .*\n1 path found in 5 snapshots\n$/,
    );
    assert.match((await ok(find("übung*"))).stdout, /^0 paths found/);
    assert.match((await ok(find("Übung*", "--archive", "snapshots/at:4"))).stdout, /^0 paths found in 1 snapshot\n/);
  });

  test("archives of the Python tool are looked into too", async () => {
    await swift.createContainer("python");
    const snapshots = [1, 2, 3].map((generation) => `snapshots/at:${generation}`);
    const source = /UUID:\s+(\S+)/.exec(await btrfs("subvolume", "show", live))?.[1] ?? "";
    await archiveLikePythonTool(swift, {
      container: "python",
      source,
      top: disk.mountPoint,
      snapshots,
      recipient: null,
    });
    await assertShows(3, "python");
  });

  test("nothing is shown of a damaged archive, nor of what builds on it", async () => {
    const listed = JSON.parse((await ok(program("list", "--container-name", "volumes", "--json"))).stdout) as {
      readonly archives: readonly { readonly path: string; readonly bytes: number }[];
    };
    await rot(swift, listed.archives.find(({ path }) => path === "snapshots/at:4")?.bytes ?? 0);
    const { code, stdout, stderr } = await program("find", "Übung.txt", "--container-name", "volumes");
    assert.equal(code, 14, stderr);
    assert.match(stdout, /found in 3 snapshots\n$/);
    assert.match(stderr, /not looked into: snapshots\/at:4[^]*not looked into: snapshots\/at:5/);
    // Swift has taken the object away by now.
    for (const command of [
      ["ls", "snapshots/at:5"],
      ["diff", "snapshots/at:1", "snapshots/at:5"],
    ]) {
      const ran = await program(...command, "--json", "--container-name", "volumes");
      assert.deepEqual([ran.code, ran.stdout], [14, ""], ran.stderr);
    }
  });
});
