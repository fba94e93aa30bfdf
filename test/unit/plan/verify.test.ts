// Damage that shows without reading archives, and the choice of those that are read.

import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { parseSubset } from "../../../src/config/parse.ts";
import { BackupError } from "../../../src/errors.ts";
import { indexArchives, measureChains } from "../../../src/plan/chain.ts";
import type { Archive } from "../../../src/plan/model.ts";
import { dependentsOf } from "../../../src/plan/dependents.ts";
import { chooseSubset } from "../../../src/plan/subset.ts";
import { arrangeTree } from "../../../src/plan/tree.ts";
import { checkArchives, checkIdentity, checkMissing, checkOthers } from "../../../src/plan/verify.ts";
import { hasChecksum, hasOtherParts, isDynamicLarge } from "../../../src/plan/checksum.ts";
import { findIncomparable } from "../../../src/operations/compare.ts";
import { archiveOf, keyOf, snapshot, source, uuid } from "../../support/builders.ts";
import { findDrill } from "../../../src/operations/drill.ts";
import { judge, type Damage } from "../../../src/plan/damage.ts";
import type { Finding } from "../../../src/plan/finding.ts";
import { assertInProportion } from "../../support/cost.ts";

/** 1 ← 2 ← 3 ← 5, and 4 on 2 as well. */
const [one, two, three, four, five] = [
  archiveOf(snapshot(1), null, 100),
  archiveOf(snapshot(2), snapshot(1), 200),
  archiveOf(snapshot(3), snapshot(2), 300),
  archiveOf(snapshot(4), snapshot(2), 400),
  archiveOf(snapshot(5), snapshot(3), 500),
] as const;
const all: readonly Archive[] = [one, two, three, four, five];
const named = (archives: readonly Archive[]): string =>
  archives.map(({ path }) => path.replace("snapshots/", "")).join(" ");
const silent = (archive: Archive): Archive => ({ ...archive, lineage: null, encoding: "age" });

const check = (archives: readonly Archive[], changes: { etag?: string; listedBytes?: number } = {}): Damage[] =>
  checkArchives(archives.map((archive) => ({ archive, etag: "0".repeat(32), listedBytes: archive.bytes, ...changes })));

describe("archives at first sight", () => {
  test("nothing is wrong with an intact chain", () => {
    assert.deepEqual(check(all), []);
  });
  test("a missing link breaks everything after it, and is reported once", () => {
    const [finding, ...others] = check([one, three, four, five]);
    assert.deepEqual(
      others.map(({ subject }) => subject),
      [four.key],
    );
    assert.deepEqual(
      [finding?.code, finding?.severity, finding?.breaks],
      ["CHAIN_BROKEN", "error", [three.path, five.path]],
    );
    assert.match(finding?.remedy ?? "", /sync/);
  });
  test("a link that may be an archive of unknown contents is unknown, and not well", () => {
    const findings = check([one, silent(two), three, five]);
    assert.deepEqual(
      findings.map(({ code, severity, subject }) => [code, severity, subject]),
      [
        ["NOT_READABLE", "warning", two.key],
        ["CHAIN_UNKNOWN", "error", three.key],
      ],
    );
    assert.match(findings[1]?.message ?? "", /snapshots\/2, encrypted, may hold it/);
    assert.doesNotMatch(findings[1]?.remedy ?? "", /delete/);
    assert.equal(judge(findings), "not opened");
  });
  test("an archive of unknown contents of another subvolume does not hide that a chain is broken", () => {
    const foreign = { ...silent(one), source: uuid(0xdef), key: keyOf("elsewhere", uuid(0xdef)) };
    const broken = check([foreign, one, three]).filter(({ code }) => code === "CHAIN_BROKEN");
    assert.deepEqual(
      broken.map(({ subject }) => subject),
      [three.key],
    );
    assert.equal(judge(check([foreign, one, three])), "damaged");
    // But where a subvolume begins, after a restore, its first snapshot may build on one of another.
    assert.deepEqual(
      check([foreign, three]).map(({ code }) => code),
      ["NOT_READABLE", "CHAIN_UNKNOWN"],
    );
  });
  test("what the store has lost is an error, with what can no longer be restored", () => {
    const [finding, ...others] = checkMissing([one], [two, three, four, five]);
    assert.deepEqual([others.length, finding?.code, finding?.severity], [0, "ARCHIVE_MISSING", "error"]);
    assert.deepEqual(
      finding?.breaks,
      [one, two, three, four, five].map(({ path }) => path),
    );
    assert.deepEqual(checkMissing([five], [one, two, three, four])[0]?.breaks, [five.path]);
    assert.deepEqual(checkMissing([{ ...one, source: uuid(0xdef) }], [three])[0]?.breaks, [one.path]);
  });
  test("what is not listed is a doubt, and what could not be read is damage", () => {
    const examined = { archive: one, etag: "0".repeat(32), listedBytes: null };
    assert.deepEqual(
      checkArchives([examined]).map(({ code, severity }) => [code, severity]),
      [["NOT_LISTED", "warning"]],
    );
    assert.deepEqual(
      checkArchives([{ ...examined, failure: "it is gone" }]).map(({ code, message }) => [code, message]),
      [["ARCHIVE_DAMAGED", "it is gone"]],
    );
  });
  test("an empty one, one of the wrong size, and what is no archive", () => {
    const codes = (archive: Archive, etag?: string): string[] =>
      check([archive], etag === undefined ? {} : { etag }).map(({ code }) => code);
    assert.deepEqual(codes({ ...one, bytes: 0 }), ["ARCHIVE_DAMAGED"]);
    const etag = `${"0".repeat(32)}-2`;
    assert.deepEqual(codes({ ...one, partBytes: 50 }, etag), []);
    assert.deepEqual(codes({ ...one, partBytes: 50, bytes: 101 }, etag), [], "it may have been copied in other parts");
    const shorter = { archive: one, etag, listedBytes: one.bytes, sentBytes: one.bytes + 1 };
    assert.deepEqual(
      checkArchives([shorter]).map(({ code }) => code),
      ["ARCHIVE_DAMAGED"],
    );
    assert.deepEqual(codes({ ...one, lineage: null }), ["NOT_AN_ARCHIVE"]);
    assert.deepEqual(
      check([one], { listedBytes: 7 }).map(({ severity }) => severity),
      ["warning"],
    );
  });
  test("two of the same snapshot", () => {
    const copy = { ...one, key: keyOf("elsewhere"), path: "elsewhere" };
    assert.deepEqual(
      check([one, copy]).map(({ code }) => code),
      ["ARCHIVE_DUPLICATE"],
    );
  });
  test("metadata that contradicts the stream", () => {
    assert.ok(two.lineage && one.lineage);
    assert.equal(checkIdentity(two, two.lineage, all), null);
    const restored = { snapshot: two.lineage.snapshot, sendParent: { ...one.lineage.snapshot, ctransid: 99 } };
    assert.equal(checkIdentity(two, restored, all), null, "a restored parent has another transaction");
    assert.equal(checkIdentity(two, one.lineage, all)?.code, "IDENTITY_MISMATCH");
    assert.equal(checkIdentity(two, { ...two.lineage, sendParent: null }, all)?.breaks.length, 4);
  });
  test("what lies beside them", () => {
    const keys = [one.key, `${one.key}/000001`, `${two.key}/000001`, `${two.key}/000002`, "readme", "a/b"];
    const uploads = [three.key, `${four.key}/000001`, one.key, "somebody's"];
    const findings = checkOthers({ keys, uploads }, new Set([one.key]));
    assert.deepEqual(
      findings.map(({ code, severity, subject }) => [code, severity, subject]),
      [
        ...[two, three, four, one].map(({ key }) => ["LEFTOVER", "warning", key]),
        ["NOT_AN_ARCHIVE", "warning", "readme"],
      ],
    );
    assert.match(findings[4]?.message ?? "", /readme and 1 more/);
  });
  test("what it takes with it", () => {
    assert.equal(named(dependentsOf(two, all)), "2 3 4 5");
    assert.equal(named(dependentsOf(five, all)), "5");
  });
  test("whether the store's checksum can be recomputed", () => {
    const md5 = "0123456789abcdef".repeat(2);
    const checksum = (etag: string, partBytes: number | null): boolean =>
      hasChecksum({ etag, archive: { ...one, partBytes }, listedBytes: one.bytes });
    assert.ok(checksum(md5, null) && checksum(`${md5}-3`, 34));
    assert.ok(!checksum(`${md5}-3`, null) && !checksum(`${md5}-N`, 34) && !checksum(`${md5}-3`, 5));
    assert.ok(!hasChecksum({ etag: md5, archive: one, listedBytes: 0 }), "a dynamic large object");
  });
  test("what was copied with other tools: other parts, lost metadata, or segments by their prefix", () => {
    const md5 = "0123456789abcdef".repeat(2);
    const inParts = (etag: string, partBytes: number | null): boolean =>
      hasOtherParts({ etag, archive: { ...one, partBytes } });
    assert.ok(inParts(`${md5}-3`, 5) && inParts(`${md5}-3`, null));
    assert.ok(!inParts(`${md5}-3`, 34) && !inParts(md5, null) && !inParts(`${md5}-N`, null));
    const isDynamic = (etag: string, listedBytes: number | null): boolean =>
      isDynamicLarge({ etag, archive: one, listedBytes });
    assert.ok(isDynamic(md5, 0));
    assert.ok(!isDynamic(md5, one.bytes) && !isDynamic(md5, null) && !isDynamic(`${md5}-3`, 0));
  });
});

test("what could not be compared is an error of its own: it is neither damaged nor proven", () => {
  const other = snapshot(1, { uuid: uuid(77) });
  const findings = findIncomparable({ source, snapshots: [other, snapshot(2)], origin: null }, all);
  assert.deepEqual(
    findings.map(({ code, severity, subject }) => [code, severity, subject]),
    [["NOT_COMPARABLE", "error", one.key]],
  );
  assert.match(
    findings[0]?.message ?? "",
    /snapshots\/1 was not compared: .*another machine uses the same source UUID/,
  );
  assert.equal(judge(findings), "not compared");
  assert.equal(
    judge([...findings, ...checkArchives([{ archive: { ...one, bytes: 0 }, etag: "", listedBytes: 0 }])]),
    "damaged",
  );
});

describe("a part of the archives", () => {
  const many = Array.from({ length: 300 }, (_, number) => archiveOf(snapshot(number + 1), null, 100));
  test("groups share all of them out, each to one, and about evenly", () => {
    const groups = [1, 2, 3, 4, 5, 6, 7].map((group) => chooseSubset(many, { of: "group", group, groups: 7 }, 0));
    assert.deepEqual(new Set(groups.flat()), new Set(many));
    assert.equal(groups.flat().length, many.length);
    for (const group of groups) assert.ok(group.length > 20 && group.length < 70, String(group.length));
  });
  test("a share is one of bytes, and another each time", () => {
    const chosen = [1, 2].map((seed) => chooseSubset(many, { of: "share", share: 0.1 }, seed));
    for (const share of chosen) assert.equal(share.length, 30);
    assert.notDeepEqual(chosen[0], chosen[1]);
    assert.equal(chooseSubset(many, { of: "share", share: 1 }, 1).length, 300);
    assert.equal(chooseSubset(many, { of: "share", share: 0.0001 }, 1).length, 1);
  });
  test("the latest comes with its chain", () => {
    assert.equal(named(chooseSubset(all, { of: "latest" }, 0)), "1 2 3 5");
  });
  describe("after a disk was set back", () => {
    // 2 is of transaction 900; then the disk was set back, and counts on from 100.
    const [before, after] = [
      { ...archiveOf(snapshot(2), null), otransid: 900, otime: 20n, stored: 21n },
      { ...archiveOf(snapshot(3), null), otransid: 110, otime: 30n, stored: 31n },
    ];
    test("the latest is what was taken and stored later, with a warning", () => {
      const reported: Finding[] = [];
      const chosen = chooseSubset([before, after], { of: "latest" }, 0, (finding) => reported.push(finding));
      assert.deepEqual([named(chosen), reported.map(({ code }) => code)], ["3", ["SOURCE_SHARED"]]);
    });
    test("a drill restores that one, too", () => {
      const drill = findDrill([after, before], [snapshot(2), snapshot(3)]);
      assert.deepEqual([drill?.archive, drill?.snapshot, drill?.doubt?.code], [after, snapshot(3), "SOURCE_SHARED"]);
      const only = findDrill([after, before], [snapshot(2)]);
      assert.deepEqual([only?.archive, only?.doubt], [before, null], "of those whose snapshots are here");
      assert.equal(findDrill([after, before], []), null);
    });
  });
  test("is described in three ways", () => {
    assert.deepEqual(parseSubset("10%", "--x"), { of: "share", share: 0.1 });
    assert.deepEqual(parseSubset("3/7", "--x"), { of: "group", group: 3, groups: 7 });
    assert.deepEqual(parseSubset("latest", "--x"), { of: "latest" });
    for (const text of ["0%", "101%", "0/7", "8/7", "7", "", "x/y"]) {
      assert.throws(
        () => parseSubset(text, "--x"),
        (error) => error instanceof BackupError && error.code === "USAGE",
        text,
      );
    }
  });
});

describe("many archives", () => {
  /** Each on the one before it, or all on the first. */
  function made(shape: "line" | "star", size: number): Archive[] {
    return Array.from({ length: size }, (_, n) => {
      const parent = shape === "line" ? n : 1;
      const sendParent = n === 0 ? null : { uuid: uuid(parent), ctransid: parent };
      const lineage = { snapshot: { uuid: uuid(n + 1), ctransid: n + 1 }, sendParent };
      return { ...one, key: keyOf(`snapshots/${n + 1}`), path: `snapshots/${n + 1}`, otransid: n + 1, lineage };
    });
  }

  const uses: Readonly<Record<string, (archives: readonly Archive[]) => unknown>> = {
    indexed: indexArchives,
    measured: (archives) => measureChains(archives.toReversed(), indexArchives(archives)),
    drawn: arrangeTree,
    followed: (archives) => dependentsOf(archives[0] ?? assert.fail(), [...archives]),
  };
  for (const shape of ["line", "star"] as const) {
    test(`in a ${shape} are checked in time that grows with them, of any length`, () => {
      for (const [name, use] of Object.entries(uses))
        assertInProportion(name, (size, watch) => use(watch(made(shape, size))));
      for (const use of Object.values(uses)) use(made(shape, 32_000));
    });
  }

  test("that are all damaged are reported without finding out for each what builds on what", () => {
    let asked = 0;
    const archives = made("line", 300).map(({ lineage, ...archive }) => ({
      ...archive,
      bytes: 0,
      get lineage() {
        asked += 1;
        return lineage;
      },
    }));
    assert.equal(check(archives).filter(({ code }) => code === "ARCHIVE_DAMAGED").length, 300);
    assert.ok(asked < 50 * 300, `each was asked ${asked / 300} times what it builds on`);
  });

  test("of one snapshot: the one with an intact chain counts, and of several the shortest chain", () => {
    const archives = [
      archiveOf(snapshot(2), snapshot(9)),
      { ...archiveOf(snapshot(2), null), key: keyOf("again"), path: "again" },
      archiveOf(snapshot(3), snapshot(2)),
    ];
    for (const order of [archives, archives.toReversed()]) {
      const lengths = measureChains(order, indexArchives(order));
      assert.deepEqual(
        archives.map(({ key }) => lengths.get(key)?.length ?? null),
        [null, 1, 2],
      );
    }
  });
});

describe("chains to look at", () => {
  test("their lengths, whatever the order, and none for broken ones or unknown contents", () => {
    const lengths = (archives: readonly Archive[]): unknown[] => {
      const measured = measureChains(archives, indexArchives(archives));
      return archives.map(({ key }) => measured.get(key)?.length ?? null);
    };
    assert.deepEqual(lengths(all), [1, 2, 3, 3, 4]);
    assert.deepEqual(lengths(all.toReversed()), [4, 3, 3, 2, 1]);
    assert.deepEqual(lengths([one, three, four, five]), [1, null, null, null]);
    assert.deepEqual(lengths([silent(one), two]), [null, null]);
    const ring = [archiveOf(snapshot(1), snapshot(2)), archiveOf(snapshot(2), snapshot(1))];
    assert.deepEqual(lengths(ring), [null, null]);
  });
  test("of any length", () => {
    const long = Array.from({ length: 3000 }, (_, n) => archiveOf(snapshot(n + 1), n === 0 ? null : snapshot(n)));
    const last = long.at(-1) ?? assert.fail();
    assert.equal(measureChains(long.toReversed(), indexArchives(long)).get(last.key)?.length, 3000);
    assert.equal(arrangeTree(long).length, 3000);
  });
  test("as a tree: forks go deeper, the newest line last, and nothing is left out", () => {
    const tree = (archives: readonly Archive[]): string =>
      arrangeTree(archives)
        .map(({ archive, depth }) => "-".repeat(depth) + archive.path.replace("snapshots/", ""))
        .join(" ");
    assert.equal(tree(all.toReversed()), "1 -2 --3 --5 -4");
    assert.equal(tree([three, five, silent(one)]), "1 3 -5");
    const ring = [archiveOf(snapshot(1), snapshot(2)), archiveOf(snapshot(2), snapshot(1), 7)];
    assert.equal(tree(ring), "1 2");
  });
});
