// Gets files out of archives in a real Swift: each is what it is in the real snapshot.

import assert from "node:assert/strict";
import { createHash, randomBytes } from "node:crypto";
import { mkdir, open, link, readFile, readdir, symlink, truncate, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { PassThrough } from "node:stream";
import { buffer } from "node:stream/consumers";
import { after, before, describe, test } from "node:test";
import { dumpFile } from "../../src/operations/dump.ts";
import { findSelected } from "../../src/operations/restore.ts";
import type { Reading } from "../../src/operations/read-archive.ts";
import { readTrees } from "../../src/operations/trees.ts";
import type { Chain } from "../../src/plan/model.ts";
import { planReading } from "../../src/plan/reading.ts";
import type { SnapshotTree } from "../../src/stream/snapshot-tree.ts";
import { openContainer } from "../../src/swift/container.ts";
import { cli, type Ran } from "../support/cli.ts";
import { btrfs, openLoopback, run, type Loopback } from "../support/loopback.ts";
import { noBtrfsOrSwift } from "../support/requirements.ts";
import { openSwift, rot, type Swift } from "../support/swift.ts";

/** How each generation is compressed on btrfs, and by which protocol it is sent. */
const GENERATIONS = [
  { compress: "zlib", proto: "2" },
  { compress: "lzo", proto: "2" },
  { compress: "zstd", proto: "2" },
  { compress: "lzo", proto: "1" },
  { compress: "zstd", proto: "2" },
] as const;

const ignore = (): void => undefined;
const watcher = { onStart: ignore, onProgress: ignore, onEnd: ignore, onPlan: ignore };

/** Makes 128 KiB of a file the same extent as its first 128 KiB. */
const REPEAT = `
import fcntl, struct, sys
with open(sys.argv[1], "r+b") as file:
    fcntl.ioctl(file, 0x4020940D, struct.pack("qQQQ", file.fileno(), 0, 131072, 131072))
`;

const { signal } = new AbortController();
const text = (seed: string, bytes: number): Buffer => Buffer.alloc(bytes, `${seed}: all work and no play. `);

describe("dump", { skip: noBtrfsOrSwift() }, () => {
  let swift: Swift;
  let disk: Loopback;
  let live: string;
  let reading: Reading;

  const program = (...args: string[]): Promise<Ran> =>
    cli(["dump", "--container-name", "plain", ...args], { env: swift.environment });
  const snapshot = (generation: number): string => join(disk.mountPoint, "snapshots", `at-${generation}`);

  async function overwrite(name: string, bytes: Buffer, position: number): Promise<void> {
    const file = await open(join(live, name), "r+");
    await file.write(bytes, 0, bytes.length, position);
    await file.close();
  }

  /** Beside new files, all that can happen to those of older generations. */
  async function change(generation: number): Promise<void> {
    const name = (what: string): string => join(live, `${what}-${generation}`);
    // Words that a method of compression neither stores whole nor repeats at once.
    const words = Array.from({ length: 60_000 }, (_, at) => `${(at * at * generation) % 9973}`).join(" ");
    await writeFile(name("text"), text(`generation ${generation}`, 300_000));
    await writeFile(name("words"), words);
    await writeFile(name("random"), randomBytes(150_000));
    await writeFile(name("inline"), text("tiny", 1000));
    await writeFile(name("nothing"), "");
    await link(name("words"), name("hard-link"));
    await run("truncate", "--size=3M", name("sparse"));
    await overwrite(`sparse-${generation}`, text("sparse", 70_000), 1_000_000);
    await run("sync", "--file-system", live);
    // Reflinks within this snapshot, the one below twice in one file.
    await run("cp", "--reflink=always", name("words"), name("clone"));
    await run("cp", "--reflink=always", name("text"), name("twice"));
    await run("python3", "-c", REPEAT, name("twice"));
    if (generation === 1) return;
    for (const what of ["text", "words", "random"]) {
      await overwrite(`${what}-1`, text(`changed in ${generation}`, 5_000 * generation), 40_000 * generation);
      await writeFile(join(live, `${what}-1`), text("appended", 7_777), { flag: "a" });
    }
    await truncate(join(live, `words-${generation - 1}`), 123_456);
    await run("fallocate", "--punch-hole", "--offset=20000", "--length=70000", join(live, `text-${generation - 1}`));
    // From an older snapshot.
    await run("cp", "--reflink=always", join(snapshot(generation - 1), "words-1"), name("from-before"));
  }

  before(async () => {
    [swift, disk] = await Promise.all([
      openSwift({ limits: { minSegmentSize: 100_000 } }),
      openLoopback({ sizeBytes: 512 * 2 ** 20 }),
    ]);
    live = join(disk.mountPoint, "home");
    await btrfs("subvolume", "create", live);
    await mkdir(join(disk.mountPoint, "snapshots"));
    await mkdir(join(live, "directory"));
    await symlink("text-1", join(live, "symlink"));
    await swift.createContainer("plain");
    for (const [index, { compress, proto }] of GENERATIONS.entries()) {
      await run("mount", "-o", `remount,compress-force=${compress}`, disk.mountPoint);
      await change(index + 1);
      await btrfs("subvolume", "snapshot", "-r", live, snapshot(index + 1));
      const options = ["--container-name", "plain", "--send-proto", proto, "--no-encryption"];
      const ran = await cli(["sync", live, ...options], { env: swift.environment });
      assert.equal(ran.code, 0, ran.stderr);
    }
    const { endpoint, accessKey, secretKey } = swift;
    const container = await openContainer(
      {
        containerName: "plain",
        endpoint,
        region: null,
        credentials: { accessKeyId: accessKey, secretAccessKey: secretKey },
        userAgent: "test/1",
        retryForMs: 5_000,
        connections: 2,
      },
      undefined,
      signal,
    );
    reading = { container, identities: [] };
  });
  after(async () => {
    await Promise.all([swift.close(), disk.close()]);
    reading.container.close();
  });

  const chainOf = (generation: number): Promise<Chain> =>
    findSelected({ by: "name", name: `snapshots/at-${generation}`, local: null }, reading, signal);

  async function dumped(chain: Chain, path: string): Promise<Buffer> {
    const sink = new PassThrough();
    const result = buffer(sink);
    const context = { reading, watcher, copying: watcher, mostMemory: 2 ** 30, directory: disk.directory };
    await dumpFile({ steps: planReading([chain]), path }, context, sink, signal);
    sink.end();
    return await result;
  }

  const digest = (bytes: Buffer): string => createHash("sha256").update(bytes).digest("hex");

  test("every file of a snapshot is what it is there", async () => {
    for (const generation of [2, GENERATIONS.length]) {
      const directory = snapshot(generation);
      const chain = await chainOf(generation);
      for (const entry of await readdir(directory, { withFileTypes: true })) {
        if (!entry.isFile()) continue;
        const real = await readFile(join(directory, entry.name));
        const found = await dumped(chain, entry.name);
        assert.equal(digest(found), digest(real), `${entry.name} in ${directory}`);
      }
    }
  });

  test("the streams have data of every kind, and data that several ranges use", async () => {
    const chain = await chainOf(GENERATIONS.length);
    const kinds = new Set<string>();
    let shared = 0;
    const look = async (_: unknown, tree: SnapshotTree): Promise<void> => {
      const uses = new Map<string, number>();
      for (const { id } of [...tree.walk("", { recursive: true })].flat()) {
        for (const { kind, compression, archive, position } of tree.extents(id)) {
          kinds.add(`${kind} ${compression}`);
          const name = `${id} ${archive} ${position}`;
          uses.set(name, (uses.get(name) ?? 0) + 1);
        }
      }
      shared = [...uses.values()].filter((count) => count > 1).length;
      await Promise.resolve();
    };
    const context = { reading, watcher, mostMemory: 2 ** 30, keeps: false };
    await readTrees(planReading([chain]), context, look, signal);
    assert.deepEqual([...kinds].sort(), ["encoded 1", "encoded 2", "encoded 3", "plain 0"]);
    assert.ok(shared > 0);
  });

  test("the program writes a file, by any of the words for it", async () => {
    const real = await readFile(join(snapshot(5), "words-1"), "latin1");
    for (const words of [["snapshots/at-5", "/words-1"], ["snapshots/at-5:words-1"], ["--latest", "words-1"]]) {
      const { code, stdout, stderr } = await program(...words);
      assert.equal(code, 0, stderr);
      assert.equal(stdout, real, words.join(" "));
    }
  });

  test("what is no file is refused with a reason", async () => {
    for (const [path, reason] of [
      ["directory", /\/directory is a directory, and only files can be dumped: use `ls`/],
      ["symlink", /\/symlink is a symbolic link to text-1, and only files can be dumped: use the path/],
      ["missing", /there is no \/missing in snapshots\/at-5/],
      ["../text-1", /leads upwards/],
    ] as const) {
      const { code, stdout, stderr } = await program("snapshots/at-5", path);
      assert.deepEqual([code, stdout], [2, ""], stderr);
      assert.match(stderr, reason);
    }
    const { code, stderr } = await program("--work-dir", "/nowhere", "snapshots/at-1", "text-1");
    assert.equal(code, 2);
    assert.match(stderr, /cannot write to the work directory \/nowhere: there is no such directory/);
  });

  test("nothing is written of a chain with a damaged archive", async () => {
    const env = swift.environment;
    const { stdout: list } = await cli(["list", "--container-name", "plain", "--json"], { env });
    const { archives } = JSON.parse(list) as { archives: { path: string; bytes: number }[] };
    await rot(swift, archives.find(({ path }) => path === "snapshots/at-3")?.bytes ?? 0);
    const { code, stdout, stderr } = await program("snapshots/at-5", "nothing-5");
    assert.deepEqual([code, stdout], [14, ""], stderr);
    assert.match(stderr, /at-3' is damaged in the store/);
    assert.equal((await program("snapshots/at-2", "text-1")).code, 0);
  });
});
