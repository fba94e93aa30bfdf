// The model of a tree against the kernel: what it says of every snapshot of a chain, and where the bytes of the files are,
// is what is there.

import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { existsSync } from "node:fs";
import { open, readFile, rename, rm, mkdir, writeFile, type FileHandle } from "node:fs/promises";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { inflateSync } from "node:zlib";
import {
  closeTree,
  compareTrees as compare,
  extentsOf,
  findInTree,
  openTreeReader,
  treeMemory,
  walkTree,
  xattrsOf,
  type Ancestor,
  type RawChange,
  type RawEntry,
  type StreamProblems,
  type TreeHandle,
} from "../../src/addon/tree.ts";
import { markOf, splitDevice } from "../../src/plan/entry.ts";
import { btrfs, openLoopback, run, type Loopback } from "../support/loopback.ts";
import { noBtrfs } from "../support/requirements.ts";
import {
  cloneCommand,
  endOfStream,
  makeFile,
  removeDirectoryCommand,
  renameCommand,
  startOfStream,
  streamCommand,
  writeCommand,
} from "../support/stream-commands.ts";
import { changeTree, describeTree, makeTree, printablePath, treeDifferences } from "../support/tree.ts";
import { parseUuid } from "../../src/plan/model.ts";

const MEMORY = 2 ** 30;
const GENERATIONS = 12;

interface Made extends Ancestor {
  readonly problems: StreamProblems;
  readonly stream: Buffer;
}

function replay(stream: Buffer, archive: number, ancestors: readonly Ancestor[]): Made {
  const reader = openTreeReader(archive, ancestors, MEMORY);
  for (let at = 0; at < stream.length; at += 10_000) reader.push(stream.subarray(at, at + 10_000));
  reader.finish();
  assert.equal(reader.refusal(), null);
  const { identity } = reader.summary();
  assert.ok(identity !== null);
  const { uuid, ctransid } = identity;
  return { handle: reader.tree(), uuid, ctransid, problems: reader.problems(), stream };
}

const entriesOf = (tree: TreeHandle): readonly RawEntry[] => [...walkTree(tree, "", { recursive: true })].flat();

const changesOf = (before: TreeHandle, later: TreeHandle, related: boolean): readonly RawChange[] =>
  [...compare(before, later, related)].flat();

/** As tree.py describes it; without the content. */
function toDescription(tree: TreeHandle, entry: RawEntry, firsts: Map<number, string>): Record<string, unknown> {
  const path = printablePath(entry.rawPath ?? entry.path);
  const type = entry.mode & 0o170000;
  if (!firsts.has(entry.id)) firsts.set(entry.id, path);
  const named = xattrsOf(tree, entry.id).map(
    ({ name, value }) => [printablePath(name), value.toString("base64")] as const,
  );
  const { seconds, nanoseconds } = entry.mtime;
  const { major, minor } = splitDevice(entry.device);
  return {
    path,
    mode: entry.mode.toString(8),
    owner: `${entry.uid}:${entry.gid}`,
    xattrs: Object.fromEntries(named),
    ...(path === "" ? {} : { mtime: String(BigInt(seconds) * 1_000_000_000n + BigInt(nanoseconds)) }),
    ...(type === 0o040000 ? {} : { links: entry.links, "same inode as": firsts.get(entry.id) }),
    ...(type === 0o100000 ? { size: entry.size } : {}),
    ...(entry.target === null ? {} : { target: printablePath(entry.rawTarget ?? entry.target) }),
    ...(type === 0o020000 || type === 0o060000 ? { device: `${major}:${minor}` } : {}),
  };
}

/** The content of a file, put together from the streams. Null where some of it is compressed by what Node lacks. */
function contentOf(made: readonly Made[], tree: TreeHandle, { id, size }: RawEntry): Buffer | null {
  const content = Buffer.alloc(size);
  for (const extent of extentsOf(tree, id)) {
    const { kind, offset, length, position, piece, gap, skip } = extent;
    assert.notEqual(kind, "nowhere");
    const stream = made[extent.archive]?.stream ?? Buffer.alloc(0);
    if (kind === "encoded") {
      if (extent.compression !== 1) return null;
      const decoded = Buffer.alloc(extent.decoded);
      inflateSync(stream.subarray(position, position + extent.stored)).copy(decoded);
      decoded.copy(content, offset, skip, skip + length);
    } else if (piece === 0) {
      stream.copy(content, offset, position, position + length);
    } else {
      for (let done = 0, at = position, from = skip; done < length; at += piece + gap, from = 0) {
        const bytes = Math.min(piece - from, length - done);
        stream.copy(content, offset + done, at + from, at + from + bytes);
        done += bytes;
      }
    }
  }
  return content;
}

describe("the tree of a snapshot", { skip: noBtrfs() }, () => {
  let disk: Loopback;
  const made: Made[] = [];
  const trees: ReadonlyMap<string, Readonly<Record<string, unknown>>>[] = [];
  const path = (name: string): string => join(disk.mountPoint, name);

  async function change(generation: number): Promise<void> {
    const live = path("live");
    await changeTree(live, generation);
    // Directories that trade places, one that takes the name of a file, and files that do so: all pass through orphans.
    await rename(join(live, "folder-01"), join(live, "between"));
    await rename(join(live, "folder-02"), join(live, "folder-01"));
    await rename(join(live, "between"), join(live, "folder-02"));
    await rm(join(live, "again"), { recursive: true, force: true });
    if (generation % 2 === 0) await mkdir(join(live, "again/deep"), { recursive: true });
    else await writeFile(join(live, "again"), `file ${generation}`);
    // Reflinks from an older snapshot, and within this one.
    const source = path(`snapshot-${generation - 1}/large`);
    if (existsSync(source)) await run("cp", "--reflink=always", source, join(live, `from-before-${generation}`));
    const isNew = !existsSync(join(live, "large"));
    const large: FileHandle = await open(join(live, "large"), isNew ? "w+" : "r+");
    await large.write(Buffer.alloc(isNew ? 600_000 : 20_000, `${generation} text `), 0, null, generation * 7_777);
    await large.close();
    await run("cp", "--reflink=always", join(live, "large"), join(live, `from-here-${generation}`));
  }

  before(async () => {
    disk = await openLoopback({ sizeBytes: 512 * 2 ** 20, mountOptions: "compress=zlib" });
    await btrfs("subvolume", "create", path("live"));
    await makeTree(path("live"), { seed: 5, files: 40, bytes: 2 ** 20, zoo: true });
    for (let generation = 1; generation <= GENERATIONS; generation++) {
      if (generation > 1) await change(generation);
      if (generation === 5) await run("mount", "-o", "remount,compress=lzo", disk.mountPoint);
      const name = `snapshot-${generation}`;
      await btrfs("subvolume", "snapshot", "-r", path("live"), path(name));
      const format =
        generation % 3 === 0 ? ["--proto", "1"] : generation % 3 === 1 ? ["--proto", "2"] : ["--compressed-data"];
      const parent = generation === 1 ? [] : ["-p", path(`snapshot-${generation - 1}`)];
      const file = join(disk.directory, name);
      await btrfs("send", "-q", "-f", file, ...format, ...parent, path(name));
      made.push(replay(await readFile(file), made.length, made));
      trees.push(await describeTree(path(name)));
    }
  });
  after(async () => {
    await disk.close();
  });

  test("is that of the real one, in every generation", () => {
    for (const [generation, { handle, problems }] of made.entries()) {
      assert.deepEqual(problems, { count: 0, sentences: [] });
      const root = findInTree(handle, "");
      assert.ok(root !== null);
      const firsts = new Map<number, string>();
      const found = new Map(
        [root, ...entriesOf(handle)]
          .map((entry) => [entry, printablePath(entry.rawPath ?? entry.path)] as const)
          .sort(([a], [b]) => Buffer.compare(a.rawPath ?? Buffer.from(a.path), b.rawPath ?? Buffer.from(b.path)))
          .map(([entry, name]) => [name, toDescription(handle, entry, firsts)]),
      );
      const expected = trees[generation] ?? new Map<string, never>();
      assert.deepEqual([...found.keys()].sort(), [...expected.keys()].sort());
      for (const [name, entry] of expected)
        assert.deepEqual({ ...found.get(name), sha256: entry["sha256"] }, { sha256: undefined, ...entry });
    }
  });

  test("says where the bytes of every file are", () => {
    let unread = 0;
    for (const [generation, { handle }] of made.entries()) {
      if (generation % 4 !== 0 && generation !== GENERATIONS - 1) continue;
      for (const entry of entriesOf(handle)) {
        // The largest is sparse, and the same in every generation.
        if ((entry.mode & 0o170000) !== 0o100000 || entry.size > 8 * 2 ** 20) continue;
        const content = contentOf(made, handle, entry);
        const real = trees[generation]?.get(printablePath(entry.rawPath ?? entry.path));
        if (content === null) unread++;
        else assert.equal(createHash("sha256").update(content).digest("hex"), real?.["sha256"], entry.path);
      }
    }
    assert.ok(unread < 100, `${unread} files are compressed by other methods`);
  });

  test("differs from another one where the real ones differ", () => {
    for (const [a, b] of [
      [0, 1],
      [1, 2],
      [0, GENERATIONS - 1],
      [7, 3],
      [11, 10],
    ] as const) {
      const [one, other] = [made[a], made[b]];
      assert.ok(one !== undefined && other !== undefined);
      // The time of the root is not described.
      const changes = changesOf(one.handle, other.handle, a < b).filter(({ path: name }) => name !== "");
      const marks = changes.map((each) => `${markOf(each)} ${printablePath(each.rawPath ?? each.path)}`);
      assert.deepEqual(marks.sort(), treeDifferences(trees[a], trees[b]).sort(), `${a + 1} and ${b + 1}`);
      assert.deepEqual(changesOf(one.handle, one.handle, true), []);
    }
  });

  test("shares with its parent what has not changed", () => {
    const before = treeMemory();
    const [first, second] = made;
    assert.ok(first !== undefined && second !== undefined);
    const again = replay(second.stream, 1, [first]);
    const added = treeMemory() - before;
    assert.ok(added > 0 && added < before / 2, `${added} of ${before}`);
    closeTree(again.handle);
  });
});

describe("a tree made of a stream by hand", () => {
  const identity = { uuid: parseUuid("00112233-4455-6677-8899-aabbccddeeff") ?? assert.fail(), ctransid: 7 };
  const commands = { mkdir: 4 } as const;

  function treeOf(...parts: readonly Buffer[]): Made {
    return replay(Buffer.concat([startOfStream(identity, "s"), ...parts, endOfStream()]), 0, []);
  }

  test("reports a directory that is removed twice, and goes on", () => {
    const { handle, problems } = treeOf(
      streamCommand(commands.mkdir, "a"),
      removeDirectoryCommand("a"),
      removeDirectoryCommand("a"),
      makeFile("b"),
    );
    assert.equal(problems.count, 1);
    assert.match(problems.sentences[0] ?? "", /^RMDIR of a, at byte \d+: there is nothing of that name$/);
    assert.deepEqual(
      entriesOf(handle).map(({ path }) => path),
      ["b"],
    );
  });

  test("never puts a directory into itself, nor a name where there is one", () => {
    const { handle, problems } = treeOf(
      streamCommand(commands.mkdir, "a"),
      streamCommand(commands.mkdir, "a/b"),
      renameCommand("a", "a/b/c"),
      makeFile("f"),
      renameCommand("f", "a"),
      renameCommand("missing", "x"),
      makeFile("f"),
    );
    assert.equal(problems.count, 4);
    assert.deepEqual(
      entriesOf(handle).map(({ path }) => path),
      ["a", "a/b", "f"],
    );
  });

  test("takes the extents of a clone as they are at that moment", () => {
    const uuid = identity.uuid;
    const { handle, problems } = treeOf(
      makeFile("f"),
      writeCommand("f", Buffer.from("first")),
      makeFile("g"),
      cloneCommand("g", 5, { uuid, path: "f" }),
      writeCommand("f", Buffer.from("later")),
      renameCommand("g", "h"),
      makeFile("n"),
      cloneCommand("n", 5, { uuid: "ffffffff-4455-6677-8899-aabbccddeeff", path: "f" }),
    );
    const [f, h, n] = entriesOf(handle).map(({ id }) => [...extentsOf(handle, id)]);
    assert.equal(f?.length, 1);
    assert.ok(h?.[0] !== undefined && f[0] !== undefined && h[0].position < f[0].position);
    assert.equal(n?.[0]?.kind, "nowhere");
    assert.equal(problems.count, 1);
  });

  test("refuses what needs more memory than it may use", () => {
    const reader = openTreeReader(0, [], 10);
    reader.push(Buffer.concat([startOfStream(identity, "s"), makeFile("f"), endOfStream()]));
    assert.match(reader.refusal() ?? "", /more memory/);
  });
});
