// How people name an archive.

import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { parseDate } from "../../../src/config/parse.ts";
import { BackupError } from "../../../src/errors.ts";
import type { Archive } from "../../../src/plan/model.ts";
import { selectArchive, selectSource, sortByAge, type LocalName, type Selection } from "../../../src/plan/select.ts";
import { archiveOf, snapshot, source, uuid } from "../../support/builders.ts";

const other = uuid(0xdef);
/** Archives of two subvolumes; the second has a snapshot at a path that the first has too. */
const archives: readonly Archive[] = [
  archiveOf(snapshot(1), null),
  archiveOf(snapshot(2), snapshot(1)),
  archiveOf(snapshot(3), snapshot(2)),
  archiveOf(snapshot(7, { source: other, path: "@root/.snapshots/7/snapshot" }), null),
  archiveOf(snapshot(8, { source: other, path: "snapshots/1" }), null),
];

const pathOf = (selection: Selection, among = archives): string => selectArchive(among, selection).path;
const named = (name: string): string => pathOf({ by: "name", name });
const fails = (code: string, ...[act, message]: [() => unknown, RegExp?]): void => {
  assert.throws(act, (error) => {
    assert.ok(error instanceof BackupError);
    assert.equal(error.code, code);
    assert.match(`${error.message}: ${error.hint ?? ""}`, message ?? /./);
    return true;
  });
};

describe("an archive is named", () => {
  test("by its key, with slashes too", () => {
    assert.equal(named(archives[4]?.key ?? ""), "snapshots/1");
    assert.equal(named(`${source.uuid}/snapshots/1`), "snapshots/1");
  });
  test("by its path, from the top of the filesystem or without that slash", () => {
    assert.equal(named("snapshots/2"), "snapshots/2");
    assert.equal(named("/snapshots/2/"), "snapshots/2");
  });
  test("by its key as a shell leaves it without quotes", () => {
    assert.equal(named(archives[4]?.key.replaceAll("\\", "") ?? ""), "snapshots/1");
  });
  test("by the snapshot on this machine that a path leads to", () => {
    const at = (local: LocalName): string => pathOf({ by: "name", name: "/mnt/somewhere/1", local });
    assert.equal(at({ uuid: uuid(2), parent: source.uuid, path: "moved/2" }), "snapshots/2");
    assert.equal(
      at({ uuid: uuid(99), parent: other, path: "@root/.snapshots/7/snapshot" }),
      "@root/.snapshots/7/snapshot",
    );
  });
  test("and a subvolume is answered with the way to its newest archive", () => {
    fails("USAGE", () => named("@root"), /no archive @root: for the newest of the subvolume @root, use @root --latest/);
    const local = { uuid: source.uuid, parent: null, path: "@data" };
    const here = (): string => pathOf({ by: "name", name: "/mnt/data", local });
    fails(
      "USAGE",
      here,
      /no archive \/mnt\/data: for the newest of the subvolume \/mnt\/data, use \/mnt\/data --latest/,
    );
  });
  test("by its UUID or the beginning of it, in any case", () => {
    assert.equal(named(uuid(3)), "snapshots/3");
    assert.equal(named("00000000-0000-4000-8000-000000000003".toUpperCase()), "snapshots/3");
  });
  test("so that it can be only one", () => {
    fails("USAGE", () => named("snapshots/1"), /several.*'0{8}-.*abc\\x2f.*def\\x2f/);
    fails("USAGE", () => named("0000"), /several/);
    fails("USAGE", () => named("snapshots/9"));
    fails("USAGE", () => named("ffff"));
    fails("USAGE", () => named("000"), /no archive 000/);
  });
});

describe("the newest archive", () => {
  const newest = (text: string | null, notAfter: bigint | null = null, local = null as typeof other | null): string =>
    pathOf({ by: "age", source: text === null ? null : { text, local }, notAfter });

  test("of a subvolume by its UUID, its path here, or where its snapshots were", () => {
    assert.equal(newest(source.uuid), "snapshots/3");
    assert.equal(newest("/home", null, source.uuid), "snapshots/3");
    assert.equal(newest("@root"), "snapshots/1");
    assert.equal(newest("/@root/.snapshots/"), "snapshots/1");
    const spread = ["backup/@home.20261123T0300", "timeshift-btrfs/snapshots/2026-11-23/@mint"].map((path, index) =>
      archiveOf(snapshot(20 + index, { source: uuid(0x100 + index), path }), null),
    );
    const of = (text: string): string => pathOf({ by: "age", source: { text, local: null }, notAfter: null }, spread);
    assert.deepEqual(
      ["@home", "/home", "@mint", "/mint"].map(of).map((path) => path.split("/")[0]),
      ["backup", "backup", "timeshift-btrfs", "timeshift-btrfs"],
    );
    assert.throws(() => of("/hom"));
  });
  test("a path that is here but was never archived may still be where snapshots were", () => {
    assert.equal(newest("@root", null, uuid(0x123)), "snapshots/1");
  });
  test("of nobody in particular, when there is one subvolume only", () => {
    assert.equal(pathOf({ by: "age", source: null, notAfter: null }, archives.slice(0, 3)), "snapshots/3");
    fails("USAGE", () => newest(null), /several subvolumes: name one of them: .*abc \(snapshots\/\d\), .*def \(.*\)/);
    fails("USAGE", () => newest("snapshots"), /could be several/);
    fails(
      "USAGE",
      () => newest("nowhere"),
      /there is no archive of nowhere: there are archives of .*abc \(snapshots\/3\), .*def \(/,
    );
    fails("ARCHIVE_MISSING", () => selectSource([], null));
  });
  test("that is not younger than a date, by creation order and not by name", () => {
    assert.equal(newest(source.uuid, 2_999_999_999n), "snapshots/2");
    assert.equal(newest(source.uuid, 2_000_000_000n), "snapshots/2");
    fails(
      "USAGE",
      () => newest(source.uuid, 999_999_999n),
      /that old: the oldest is snapshots\/1, of 1970-01-01T00:00:01/,
    );
  });
  test("of those without metadata: by when they were stored, and in the order of their last changes", () => {
    const bare = archives
      .slice(0, 3)
      .map((archive, index) => ({ ...archive, otime: null, otransid: null, stored: BigInt(100 * (index + 1)) }));
    assert.deepEqual(sortByAge(bare.toReversed()), bare);
    assert.equal(pathOf({ by: "age", source: null, notAfter: 250n }, bare), "snapshots/2");
  });
});

describe("after a disk was set back to an older state", () => {
  const at = (number: number, changes: Partial<Archive>): Archive => ({
    ...archiveOf(snapshot(number), null),
    ...changes,
  });
  // 2 is of transaction 900; then the disk was set back, and counts on from 100.
  const [one, two, three, four] = [
    at(1, { otransid: 100, otime: 10n, stored: 11n }),
    at(2, { otransid: 900, otime: 20n, stored: 21n }),
    at(3, { otransid: 110, otime: 30n, stored: 31n }),
    at(4, { otransid: 120, otime: 40n, stored: 41n }),
  ];
  const newest = (...among: Archive[]): unknown[] => {
    const reported: string[] = [];
    const { path } = selectArchive(among, { by: "age", source: null, notAfter: null }, ({ message }) =>
      reported.push(message),
    );
    return [path, reported.length];
  };
  test("the newest is what was taken and stored later, with a warning", () => {
    assert.deepEqual(newest(one, two), ["snapshots/2", 0]);
    assert.deepEqual(newest(one, two, three, four), ["snapshots/4", 1]);
    const warnings: string[] = [];
    selectArchive([one, two, three], { by: "age", source: null, notAfter: null }, ({ message }) =>
      warnings.push(message),
    );
    assert.match(
      warnings[0] ?? "",
      /snapshots\/2 is newer than snapshots\/3 by its transaction \(900, the other 110\).*set back/,
    );
  });
  test("one clock alone decides nothing: a hole is filled later, and a clock can be wrong", () => {
    assert.deepEqual(newest(two, { ...three, otime: 15n }), ["snapshots/2", 0]);
    assert.deepEqual(newest(two, { ...three, stored: 15n }), ["snapshots/2", 0]);
    assert.deepEqual(newest(two, { ...three, otime: null }), ["snapshots/2", 0]);
  });
});

describe("a date", () => {
  const iso = (text: string): string => new Date(Number(parseDate(text, "--at") / 1_000_000n)).toISOString();
  test("means the end of the period that it names", () => {
    assert.equal(iso("2026-11-23T03:00:05Z"), "2026-11-23T03:00:05.999Z");
    assert.equal(iso("2026-11-23 03:00Z"), "2026-11-23T03:00:59.999Z");
    assert.equal(iso("2026-11-23 03:00:05 +02:00"), "2026-11-23T01:00:05.999Z");
    const end = new Date(2026, 10, 23, 23, 59, 59, 999);
    assert.equal(iso(" 2026-11-23 "), end.toISOString());
  });
  test("is refused when there is no such day", () => {
    for (const text of ["2026-02-30", "2026-13-01", "yesterday", "", "2026-11-23Z", "2026-11-23 25:00"]) {
      fails("USAGE", () => parseDate(text, "--at"), /--at takes a date/);
    }
  });
});
