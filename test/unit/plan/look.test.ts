// The decisions of the commands that look into archives: places, the order of reading, histories, and formats.

import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { BackupError } from "../../../src/errors.ts";
import { findChain, indexArchives } from "../../../src/plan/chain.ts";
import {
  countChange,
  displayPath,
  formatFileTime,
  formatMode,
  markOf,
  noChanges,
  type Change,
  type Entry,
} from "../../../src/plan/entry.ts";
import { traceHistories } from "../../../src/plan/find.ts";
import type { Archive } from "../../../src/plan/model.ts";
import { openNcdu } from "../../../src/plan/ncdu.ts";
import { planReading } from "../../../src/plan/reading.ts";
import { readWhere } from "../../../src/plan/where.ts";
import { archiveOf, snapshot } from "../../support/builders.ts";

const never = { seconds: 0, nanoseconds: 0 };

function entryOf(path: string, facts: Partial<Entry> = {}): Entry {
  const times = { atime: never, mtime: never, ctime: never, otime: null };
  const owner = { uid: 0, gid: 0, links: 1, size: 0, device: 0 };
  return { path, rawPath: null, id: 1, target: null, rawTarget: null, mode: 0o100644, ...owner, ...times, ...facts };
}

describe("a place in an archive", () => {
  test("has the longest name of an archive first, because names of snapshots have colons too", () => {
    assert.deepEqual(readWhere("home.12:30:/etc//fstab/"), [
      { archive: "home.12:30:/etc//fstab/", path: "" },
      { archive: "home.12:30", path: "etc/fstab" },
      { archive: "home.12", path: "30:/etc/fstab" },
    ]);
    assert.deepEqual(readWhere(":etc").at(-1), { archive: null, path: "etc" });
  });

  test("never leads upwards", () => {
    assert.throws(
      () => readWhere("home:../etc"),
      (error) => error instanceof BackupError && error.code === "USAGE",
    );
  });
});

describe("the order of reading", () => {
  // full ← a ← b, and full ← c
  const named = (number: number, path: string) => snapshot(number, { path });
  const full = archiveOf(named(1, "full"), null);
  const a = archiveOf(named(2, "a"), named(1, "full"));
  const b = archiveOf(named(3, "b"), named(2, "a"));
  const c = archiveOf(named(4, "c"), named(1, "full"));
  const index = indexArchives([full, a, b, c]);
  const steps = (...wanted: readonly Archive[]) => planReading(wanted.map((archive) => findChain(archive, index)));

  test("reads each archive once, after those that it builds on", () => {
    const names = steps(b, c, full).map(({ archive, ancestors }) => [
      archive.path,
      ...ancestors.map(({ path }) => path),
    ]);
    assert.deepEqual(names, [["full"], ["a", "full"], ["b", "full", "a"], ["c", "full"]]);
  });

  test("knows which trees are asked for, and which one nothing needs any more", () => {
    const found = steps(b, c).map(({ archive, isWanted, lastUses }) => [
      archive.path,
      isWanted,
      lastUses.map(({ path }) => path),
    ]);
    assert.deepEqual(found, [
      ["full", false, []],
      ["a", false, []],
      ["b", true, ["a", "b"]],
      ["c", true, ["full", "c"]],
    ]);
  });
});

describe("the history of a path", () => {
  const archives = [1, 2, 3, 4, 5].map((number) => archiveOf(snapshot(number, { path: `s${number}` }), null));
  const states = (...entries: readonly (Entry | null)[]) =>
    archives.flatMap((archive, at) => ({ archive, entries: [entries[at] ?? null].flatMap((entry) => entry ?? []) }));
  const none = { oldest: null, newest: null };
  const at = (seconds: number): Partial<Entry> => ({ mtime: { seconds, nanoseconds: 0 }, size: seconds });

  test("shows where it changed, and from where on it is gone", () => {
    const [one, two] = [entryOf("f", at(1)), entryOf("f", at(2))];
    const [history] = traceHistories(states(null, one, one, null, two), none);
    const versions = history?.versions.map(({ entry, first, last, snapshots }) => [
      entry?.size ?? null,
      first.path,
      last.path,
      snapshots,
    ]);
    assert.deepEqual(versions, [
      [1, "s2", "s3", 2],
      [null, "s4", "s4", 1],
      [2, "s5", "s5", 1],
    ]);
  });

  test("leaves out versions that are too old or too new, and paths that have no other", () => {
    const found = states(entryOf("f", at(1)), entryOf("f", at(9)));
    assert.deepEqual(traceHistories(found, { oldest: 10_000_000_000n, newest: null }), []);
    const [history] = traceHistories(found, { oldest: 5_000_000_000n, newest: null });
    assert.equal(history?.versions.find(({ entry }) => entry !== null)?.first.path, "s2");
  });
});

describe("an entry", () => {
  test("has its mode as ls shows it", () => {
    const modes = [0o100644, 0o040755, 0o104755, 0o102644, 0o041777, 0o120777, 0o020600, 0o140000];
    assert.deepEqual(
      modes.map((mode) => formatMode({ mode })),
      ["-rw-r--r--", "drwxr-xr-x", "-rwsr-xr-x", "-rw-r-Sr--", "drwxrwxrwt", "lrwxrwxrwx", "crw-------", "s---------"],
    );
  });

  test("has no date where none is so far away, and keeps bytes that are no text", () => {
    assert.equal(formatFileTime({ seconds: 1, nanoseconds: 5 }), "1970-01-01T00:00:01.000000005Z");
    assert.equal(formatFileTime({ seconds: 2 ** 62, nanoseconds: 0 }), null);
    assert.equal(displayPath({ path: "a\ufffd", rawPath: Buffer.from([0x61, 0xff]) }), "/a\\xff");
  });

  test("is marked by what differs", () => {
    const [file, larger] = [entryOf("f", { size: 5 }), entryOf("f", { size: 7 })];
    const same = { path: "f", rawPath: null, type: false, content: false, metadata: false };
    const changes: readonly Change[] = [
      { ...same, before: null, after: file },
      { ...same, before: file, after: null },
      { ...same, before: file, after: larger, content: true, metadata: true },
      { ...same, before: file, after: entryOf("f", { mode: 0o040755 }), type: true },
      { ...same, before: file, after: file, metadata: true },
    ];
    assert.deepEqual(changes.map(markOf), ["+", "-", "M", "T", "U"]);
    const counts = { added: 1, removed: 1, changed: 2, metadata: 1, bytesAdded: 12, bytesRemoved: 15 };
    assert.deepEqual(changes.reduce(countChange, noChanges), counts);
  });
});

test("a tree for ncdu is one JSON document, nested like its directories", () => {
  const directory = { mode: 0o040755 };
  const entries = [
    entryOf("top/a", directory),
    entryOf("top/a/b", directory),
    entryOf("top/a/b/file", { size: 5000 }),
    entryOf("top/c", { links: 2 }),
    entryOf("top/d", directory),
  ];
  const writer = openNcdu({ path: "top", name: "s:/top" }, { name: "p", version: "1" });
  const text = [writer.beginning, ...entries.map((entry) => writer.entry(entry)), writer.end()].join("\n");
  const names = (node: unknown): unknown =>
    Array.isArray(node) ? node.map(names) : (node as { readonly name: string }).name;
  const [, , , tree] = JSON.parse(text) as readonly unknown[];
  assert.deepEqual(names(tree), ["s:/top", ["a", ["b", "file"]], "c", ["d"]]);
  assert.match(text, /"asize":5000,"dsize":8192/);
});
