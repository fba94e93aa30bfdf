// Keys and metadata of archives: written, and read again.

import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { formatKey, formatMetadata, formatTime, keyPrefix, parseArchive, parseKey } from "../../../src/plan/key.ts";
import { parseUuid } from "../../../src/plan/model.ts";
import { archiveOf, snapshot, source, uuid } from "../../support/builders.ts";

const home = uuid(0xabc);

describe("keys", () => {
  test("each slash becomes the four characters \\x2f, behind the source's UUID", () => {
    const { key } = formatKey(home, "prefix/subvol.1") as { key: string };
    assert.equal(key, `${home}\\x2fprefix\\x2fsubvol.1`);
    assert.equal(key.includes("/"), false);
    assert.ok(key.startsWith(keyPrefix(home)));
  });

  for (const [name, path, reason] of [
    ["a literal \\x2f", "a\\x2fb", /\\x2f/],
    ["a NUL", "a\0b", /NUL/],
    ["half a surrogate pair", "a\ud800b", /UTF-8/],
    ["a control character", "a\u0001b", /control character/],
    ["what is no character", "a\uffffb", /control character/],
    ["nothing at all", "", /top/],
    ["more than 960 bytes", "é".repeat(461), /960/],
  ] as const) {
    test(`a path with ${name} is refused with the reason`, () => {
      assert.match((formatKey(home, path) as { refused: string }).refused, reason);
    });
  }

  test("a key of exactly 960 bytes is accepted", () => {
    assert.ok("key" in formatKey(home, "é".repeat(460)));
  });

  test("what XML can carry is accepted, however odd", () => {
    assert.ok("key" in formatKey(home, "tab\tand\nnewline\rDEL\u007fC1\u0085\ufffd\u{1f389}\u{10ffff}"));
  });

  test("a key is read back; other names are no archive's", () => {
    assert.deepEqual(parseKey(`${home}\\x2fsnapshots\\x2f1`), {
      key: `${home}\\x2fsnapshots\\x2f1`,
      source: home,
      path: "snapshots/1",
    });
    const others = [
      "",
      "photo.jpg",
      home,
      `${home}\\x2f`,
      `${home}\\x2fa/000001`,
      `${home}-x`,
      `${home.toUpperCase()}\\x2fa`,
    ];
    for (const other of others) assert.equal(parseKey(other), null, other);
  });
});

describe("metadata", () => {
  test("an archive's metadata is read back as what was written", () => {
    const parent = snapshot(1);
    const child = snapshot(2, { path: "schöne photos/100%/2 ", otime: 1_700_000_000_123_456_789n });
    const archive = archiveOf(child, parent, 77);
    assert.deepEqual(archive.lineage, {
      snapshot: { uuid: child.uuid, ctransid: child.ctransid },
      sendParent: { uuid: parent.uuid, ctransid: parent.ctransid },
    });
    assert.equal(archive.otime, child.otime);
    assert.equal(archive.otransid, child.otransid);
    assert.equal(archive.encoding, "identity");
    assert.equal(archive.partBytes, 5242880);
    assert.equal(archive.bytes, 77);
    assert.equal(archive.path, child.path);
  });

  test("values are printable ASCII of at most 256 bytes, whatever the path", () => {
    for (const path of ["schöne photos/100%", "tab\there", " spaces ", "日本".repeat(150)]) {
      const facts = { encoding: "identity", sendProto: 2, partBytes: 1, volumes: null, tool: "t/1" } as const;
      const metadata = formatMetadata({ snapshot: snapshot(1, { path }), sendParent: null }, facts);
      for (const [name, value] of Object.entries(metadata)) {
        assert.match(name, /^[a-z-]+$/);
        assert.match(value, /^[\x21-\x7e]([\x20-\x7e]{0,254}[\x21-\x7e])?$/);
      }
      assert.equal(decodeURIComponent(metadata["btrfs-path"] ?? path), path);
      assert.equal("btrfs-send-parent-uuid" in metadata, false);
    }
  });

  test("a received snapshot goes by the UUID it was received under, and by its own ctransid", () => {
    const received = snapshot(3, { received: { uuid: uuid(99), ctransid: 5 } });
    assert.deepEqual(archiveOf(received, null).lineage?.snapshot, { uuid: uuid(99), ctransid: received.ctransid });
  });

  test("without metadata, or with damaged metadata, the lineage is unknown and nothing is guessed", () => {
    const { key } = archiveOf(snapshot(1), null);
    const good = { "btrfs-format": "1", "btrfs-uuid": uuid(1), "btrfs-ctransid": "9" };
    for (const metadata of [
      {},
      { ...good, "btrfs-format": "2" },
      { ...good, "btrfs-uuid": "nonsense" },
      { ...good, "btrfs-ctransid": "-1" },
      { ...good, "btrfs-ctransid": "99999999999999999999" },
      { ...good, "btrfs-send-parent-uuid": uuid(2) },
      { ...good, "btrfs-send-parent-uuid": "00000000-0000-0000-0000-000000000000", "btrfs-send-parent-ctransid": "1" },
    ]) {
      assert.equal(parseArchive({ key, bytes: 1, metadata })?.lineage, null, JSON.stringify(metadata));
    }
    assert.notEqual(parseArchive({ key, bytes: 1, metadata: good })?.lineage, null);
  });
});

test("times keep their nanoseconds, before the epoch too", () => {
  assert.equal(formatTime(1_700_000_000_000_000_001n), "2023-11-14T22:13:20.000000001Z");
  assert.equal(formatTime(-1n), "1969-12-31T23:59:59.999999999Z");
});

test("a UUID is lower case, and the all-zero one is none", () => {
  assert.equal(parseUuid("6F1E0000-0000-4000-8000-000000000001"), "6f1e0000-0000-4000-8000-000000000001");
  for (const text of ["00000000-0000-0000-0000-000000000000", "6f1e", `${source.uuid}0`, ""]) {
    assert.equal(parseUuid(text), null);
  }
});
