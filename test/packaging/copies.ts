// A container that other tools have copied into a Swift of another Debian. The archives must be the same all the same,
// and damage must still be found.

import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { cli, type Ran } from "../support/cli.ts";
import {
  awsByPipe,
  awsWithin,
  keysOf,
  rclone,
  swiftByFile,
  swiftByPipe,
  swiftWithin,
  type Copy,
} from "../support/copies.ts";
import { btrfs, openLoopback, run, withLoopback, type Loopback } from "../support/loopback.ts";
import type { Swift } from "../support/swift.ts";
import { compareTrees } from "../support/tree.ts";

const MiB = 2 ** 20;
const FROM = "original";

/** The contents of the container: a chain in which every snapshot is archived in another form. */
const SNAPSHOTS: readonly (readonly [name: string, script: string, options: readonly string[]])[] = [
  ["1-parts", `head -c ${13 * MiB} /dev/urandom >a`, ["--no-encryption"]],
  ["2-small", "head -c 50000 /dev/urandom >b", ["--no-encryption"]],
  ["3-zstd", "seq 900000 >c", ["--no-encryption", "--compress", "zstd"]],
  ["4-age", `head -c ${7 * MiB} /dev/urandom >d`, []],
  [
    "5-volumes",
    `{ head -c ${9 * MiB} /dev/urandom; seq 1000000; } >e; rm b`,
    ["--compress", "zstd", "--volume-size", "6Mi"],
  ],
];

const TOOLS: Readonly<Record<string, Copy>> = {
  "rclone, with metadata, in parts of 6 MiB": rclone("--metadata", "--s3-chunk-size", "6Mi", "--s3-upload-cutoff", "0"),
  "rclone, without metadata, in one part": rclone("--s3-upload-cutoff", "4Gi"),
  "awscli, in parts of 7 MiB": awsByPipe,
  "swiftclient, static large objects of 4 MiB": swiftByPipe,
  "swiftclient, dynamic large objects of 4 MiB": swiftByFile,
};

/** These leave the bytes within one Swift: what comes after is a copy of the copy. */
const TOOLS_WITHIN: Readonly<Record<string, Copy>> = { "swift copy": swiftWithin, "aws s3 sync": awsWithin };

/** @param open - opens the Swift that is copied to */
export async function playCopies(from: Swift, open: () => Promise<Swift>): Promise<void> {
  const [to, disk] = await Promise.all([open(), openLoopback({ sizeBytes: 512 * MiB })]);
  try {
    const identity = await fill(from, disk);
    const original = await look(from, FROM, disk, identity);
    const copies = [
      ...Object.entries(TOOLS).map(([tool, copy]) => ({
        tool,
        copy,
        source: { swift: from, container: FROM },
        swift: to,
      })),
      ...Object.entries(TOOLS_WITHIN).map(([tool, copy]) => ({
        tool,
        copy,
        source: { swift: to, container: "copy-0" },
        swift: to,
      })),
    ];
    for (const [index, { tool, copy, source, swift }] of copies.entries()) {
      const container = `copy-${index}`;
      await swift.createContainer(container);
      await copy(source, { swift, container });
      await assertSame(tool, { to: swift, container, original, disk, identity });
      console.error(`copied with ${tool}: the same`);
    }
    await run("sh", "-c", `echo more >${join(disk.mountPoint, "home/more")}`);
    await btrfs("subvolume", "snapshot", "-r", join(disk.mountPoint, "home"), join(disk.mountPoint, "6-next"));
    for (const index of copies.keys()) {
      await continueCopy(`copy-${index}`, { to, disk });
      await spoil(`copy-${index}`, { to, identity });
    }
  } finally {
    await Promise.all([to.close(), disk.close()]);
  }
}

// --- what is copied, and what is made of it

const program = (swift: Swift, ...args: readonly string[]): Promise<Ran> => cli(args, { env: swift.environment });

/** Path of the identity of age that opens what is encrypted. */
async function fill(swift: Swift, disk: Loopback): Promise<string> {
  const [home, identity] = [join(disk.mountPoint, "home"), join(disk.directory, "identity")];
  await run("age-keygen", "-o", identity);
  const [recipient = ""] = /age1\w+/.exec(await readFile(identity, "utf8")) ?? [];
  await btrfs("subvolume", "create", home);
  await swift.createContainer(FROM);
  for (const [name, script, options] of SNAPSHOTS) {
    await run("sh", "-ec", `cd ${home}; ${script}`);
    await btrfs("subvolume", "snapshot", "-r", home, join(disk.mountPoint, name));
    const encryption = options.includes("--no-encryption") ? [] : ["--age-recipient", recipient];
    // Parts of 5 MiB.
    const words = ["--container-name", FROM, "--no-estimate", "--memory", "40Mi", ...options, ...encryption];
    const { code, stderr } = await program(swift, "sync", home, ...words);
    assert.equal(code, 0, stderr);
  }
  return identity;
}

interface Looked {
  readonly listed: unknown;
  readonly archives: number;
}

/** Looks at a container, and fails when anything in it is wrong. */
async function look(swift: Swift, container: string, disk: Loopback, identity: string): Promise<Looked> {
  const store = ["--container-name", container];
  const known = await program(swift, "verify", ...store, "--json");
  assert.equal(known.code, 0, `verify: ${known.stdout}${known.stderr}`);
  const read = await program(swift, "verify", ...store, "--json", "--read-data", "--identity", identity);
  assert.equal(read.code, 0, `verify --read-data: ${read.stdout}${read.stderr}`);
  const { archives, findings } = JSON.parse(read.stdout) as { archives: number; findings: readonly unknown[] };
  assert.deepEqual(findings, []);
  const list = await program(swift, "list", ...store, "--json");
  assert.equal(list.code, 0, list.stderr);
  const sync = await program(swift, "sync", join(disk.mountPoint, "home"), ...store, "--no-encryption");
  assert.equal(sync.code, 0, `sync: ${sync.stderr}`);
  assert.match(sync.stdout, /^up to date: 5 snapshots of /m);
  return { listed: (JSON.parse(list.stdout) as { archives: unknown }).archives, archives };
}

interface Copied {
  readonly to: Swift;
  readonly container: string;
  readonly original: Looked;
  readonly disk: Loopback;
  readonly identity: string;
}

async function assertSame(tool: string, { to, container, original, disk, identity }: Copied): Promise<void> {
  try {
    assert.deepEqual(await look(to, container, disk, identity), original);
    const newest = SNAPSHOTS.at(-1)?.[0] ?? "";
    await withLoopback({ sizeBytes: 512 * MiB }, async ({ mountPoint }) => {
      const words = ["restore", "--container-name", container, newest, "--target", mountPoint, "--identity", identity];
      const { code, stderr } = await program(to, ...words);
      assert.equal(code, 0, `restore: ${stderr}`);
      for (const [name] of SNAPSHOTS) {
        const { differences } = await compareTrees(join(disk.mountPoint, name), join(mountPoint, name));
        assert.deepEqual(differences, [], name);
      }
    });
  } catch (error) {
    throw new Error(`copied with ${tool}: ${String(error)}`, { cause: error });
  }
}

/** Archives the next snapshot in the copy: as an incremental. */
async function continueCopy(container: string, { to, disk }: Pick<Copied, "to" | "disk">): Promise<void> {
  const words = ["--container-name", container, "--no-encryption"];
  const { code, stdout, stderr } = await program(to, "sync", join(disk.mountPoint, "home"), ...words);
  assert.equal(code, 0, stderr);
  assert.match(stdout, / 6-next +parent 5-volumes /);
}

/** Changes a byte of the full archive and stores it as a plain object, whose ETag fits: nobody may take it for whole. */
async function spoil(container: string, { to, identity }: Pick<Copied, "to" | "identity">): Promise<void> {
  const key = (await keysOf({ swift: to, container })).find((each) => each.endsWith("1-parts")) ?? "";
  const bytes = await to.native.getObject(container, key);
  bytes[bytes.length - 5000] = (bytes.at(-5000) ?? 0) ^ 1;
  await to.native.putObject(container, key, bytes);
  const words = ["--container-name", container, "--identity", identity];
  const damaged = await program(to, "verify", ...words, "--json", "--read-data");
  assert.equal(damaged.code, 14, damaged.stdout + damaged.stderr);
  const { findings } = JSON.parse(damaged.stdout) as { findings: readonly { subject: string }[] };
  assert.ok(findings.some(({ subject }) => subject === key), damaged.stdout); // prettier-ignore
  await withLoopback({ sizeBytes: 512 * MiB }, async ({ mountPoint }) => {
    const { code } = await program(to, "restore", ...words, SNAPSHOTS[0]?.[0] ?? "", "--target", mountPoint);
    assert.equal(code, 14, "a damaged archive was restored");
  });
}
