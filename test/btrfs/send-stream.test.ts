// The send stream's checker: what the kernel really sends passes, in whatever pieces it comes, and nothing else does.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { closeSync, readSync, writeSync } from "node:fs";
import { readdir, readlink } from "node:fs/promises";
import { join } from "node:path";
import { Readable } from "node:stream";
import { buffer } from "node:stream/consumers";
import { after, before, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { moveSendStream, openSendStreamChecker } from "../../src/addon/send-stream.ts";
import { openPipe } from "../../src/addon/pipe.ts";
import { subvolumeInfo } from "../../src/addon/subvolumes.ts";
import type { StreamSummary } from "../../src/addon/send-stream.ts";
import { BackupError } from "../../src/errors.ts";
import { checkedStream } from "../../src/stream/send-stream.ts";
import { btrfs, openLoopback, run } from "../support/loopback.ts";
import type { Loopback } from "../support/loopback.ts";
import { noBtrfs } from "../support/requirements.ts";
import { changeTree, makeTree } from "../support/tree.ts";
import { crc32c } from "../../src/btrfs/send-commands.ts";
import { estimateFrom, peekLineage } from "../../src/stream/stream-facts.ts";

// ---- streams made by hand

const attribute = {
  uuid: 1,
  ctransid: 2,
  ino: 3,
  size: 4,
  xattrName: 13,
  xattrData: 14,
  path: 15,
  pathTo: 16,
  fileOffset: 18,
  data: 19,
  cloneUuid: 20,
  cloneCtransid: 21,
  clonePath: 22,
  cloneOffset: 23,
  cloneLength: 24,
  pathLink: 17,
  mode: 5,
  uid: 6,
  gid: 7,
} as const;
const command = {
  subvol: 1,
  snapshot: 2,
  mkfile: 3,
  mkdir: 4,
  symlink: 8,
  rename: 9,
  link: 10,
  unlink: 11,
  rmdir: 12,
  setXattr: 13,
  write: 15,
  clone: 16,
  truncate: 17,
  chmod: 18,
  chown: 19,
  end: 21,
  updateExtent: 22,
  fileattr: 24,
  enableVerity: 26,
} as const;
const uuidA = Buffer.from("00112233445566778899aabbccddeeff", "hex");
const uuidB = Buffer.from("ffeeddccbbaa99887766554433221100", "hex");

function header(version: number): Buffer {
  const bytes = Buffer.from("btrfs-stream\0\0\0\0\0", "latin1");
  bytes.writeUInt32LE(version, 13);
  return bytes;
}

function tlv(type: number, value: Buffer | string): Buffer {
  const bytes = Buffer.from(value);
  const head = Buffer.alloc(4);
  head.writeUInt16LE(type, 0);
  head.writeUInt16LE(bytes.length, 2);
  return Buffer.concat([head, bytes]);
}

function number(value: number): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64LE(BigInt(value));
  return bytes;
}

/** A command with its right checksum, whatever else is wrong with it. */
function cmd(type: number, ...attributes: readonly Buffer[]): Buffer {
  const payload = Buffer.concat(attributes);
  const bytes = Buffer.concat([Buffer.alloc(10), payload]);
  bytes.writeUInt32LE(payload.length, 0);
  bytes.writeUInt16LE(type, 4);
  bytes.writeUInt32LE(crc32c(bytes), 6);
  return bytes;
}

const subvolOf = (name: string, uuid: Buffer, ctransid: Buffer): Buffer =>
  cmd(command.subvol, tlv(attribute.path, name), tlv(attribute.uuid, uuid), tlv(attribute.ctransid, ctransid));
const subvol = subvolOf("s", uuidA, number(7));
const end = cmd(command.end);
const path = tlv(attribute.path, "f");
const mkfile = cmd(command.mkfile, path, tlv(attribute.ino, number(257)));
const writeOf = (data: Buffer): Buffer =>
  cmd(command.write, path, tlv(attribute.fileOffset, number(0)), tlv(attribute.data, data));

/** A version 1 stream of these commands between SUBVOL and END. */
function stream(...commands: readonly Buffer[]): Buffer {
  return Buffer.concat([header(1), subvol, ...commands, end]);
}

// ---- reading

/** Null when the stream is good, else the error about it. */
function refusal(bytes: Buffer, pieceBytes = bytes.length): string | null {
  try {
    check(bytes, pieceBytes);
    return null;
  } catch (error) {
    return error instanceof Error ? error.message : String(error);
  }
}

/** Feeds it in pieces, and what lies after `until` in one. */
function check(bytes: Buffer, pieceBytes: number, until = bytes.length): StreamSummary {
  const checker = openSendStreamChecker();
  for (let at = 0; at < until; at += pieceBytes) checker.push(bytes.subarray(at, Math.min(at + pieceBytes, until)));
  if (until < bytes.length) checker.push(bytes.subarray(until));
  checker.finish();
  return checker.summary();
}

/** Where each command of a stream starts, and where the last one ends. */
function borders(bytes: Buffer): readonly number[] {
  const found = [17];
  for (let at = 17; at < bytes.length; at += 10 + bytes.readUInt32LE(at)) found.push(at + 10 + bytes.readUInt32LE(at));
  return found;
}

async function send(...args: readonly string[]): Promise<Buffer> {
  const child = spawn("btrfs", ["send", "--quiet", ...args], { stdio: ["ignore", "pipe", "inherit"] });
  const [bytes] = await Promise.all([buffer(child.stdout), once(child, "close")]);
  assert.equal(child.exitCode, 0);
  return bytes;
}

describe("real streams", { skip: noBtrfs() }, () => {
  let plain: Loopback;
  let compressed: Loopback;
  /** Arguments of `btrfs send`, by what they make. */
  const cases = new Map<string, { readonly args: readonly string[]; readonly exact: boolean }>();

  /** Three snapshots of a tree with one of everything, changed in between; and small ones. */
  async function populate(top: string): Promise<void> {
    const tree = join(top, "tree");
    await btrfs("subvolume", "create", tree);
    await makeTree(tree, { seed: 11, files: 120, bytes: 12_000_000, zoo: true });
    const extra = `cd "$1"
      mkdir many; for i in $(seq 300); do head -c $((5 * i)) /dev/urandom > "many/$i"; done
      for size in 0 1 49151 49152 49153 131071 131072 131073 262144; do head -c $size /dev/urandom > "size-$size"; done
      truncate -s 1G sparse; printf x | dd of=sparse bs=1 seek=500000000 conv=notrunc status=none
      fallocate -l 8M prealloc; printf data | dd of=prealloc conv=notrunc status=none
      head -c 3000000 /dev/urandom > origin; cp --reflink=always origin clone
      cp --reflink=always origin half; printf changed | dd of=half bs=4096 seek=7 conv=notrunc status=none
      head -c 4000000 /dev/urandom > punched; head -c 4000000 /dev/zero | tr '\\0' 'z' > zeroed`;
    await run("sh", "-ec", extra, "sh", tree);
    await btrfs("subvolume", "snapshot", "-r", tree, join(top, "one"));
    await changeTree(tree, 12);
    const changes = `cd "$1"
      fallocate --punch-hole --offset 65536 --length 2000000 punched
      fallocate --zero-range --offset 4096 --length 1000000 zeroed
      truncate -s 1000 size-262144; truncate -s 300000 size-131073
      rm -r many; mv origin renamed; setfattr -n user.new -v value half 2>/dev/null || chmod 600 half
      cp --reflink=always clone again`;
    await run("sh", "-ec", changes, "sh", tree);
    await btrfs("subvolume", "snapshot", "-r", tree, join(top, "two"));
    await btrfs("subvolume", "snapshot", "-r", tree, join(top, "same"));
    await btrfs("filesystem", "sync", top);
  }

  function addCases(top: string, name: string, compressedData: boolean): void {
    const lineages: Record<string, readonly string[]> = {
      full: [join(top, "one")],
      incremental: ["-p", join(top, "one"), join(top, "two")],
      "incremental without changes": ["-p", join(top, "two"), join(top, "same")],
    };
    for (const [lineage, args] of Object.entries(lineages)) {
      for (const proto of ["1", "2"]) {
        cases.set(`${name}, version ${proto}, ${lineage}`, { args: ["--proto", proto, ...args], exact: true });
      }
      if (!compressedData) continue;
      cases.set(`${name}, as compressed, ${lineage}`, { args: ["--compressed-data", ...args], exact: false });
    }
  }

  before(async () => {
    [plain, compressed] = await Promise.all([
      openLoopback({ sizeBytes: 2 ** 30 }),
      openLoopback({ sizeBytes: 2 ** 30, mountOptions: "compress-force=lzo" }),
    ]);
    await populate(plain.mountPoint);
    await populate(compressed.mountPoint);
    addCases(plain.mountPoint, "plain", false);
    addCases(compressed.mountPoint, "lzo", true);
  });
  after(async () => {
    await plain.close();
    await compressed.close();
  });

  test("pass in pieces of any size, with one and the same summary", async () => {
    for (const [name, { args }] of cases) {
      const bytes = await send(...args);
      const unsplit = check(bytes, bytes.length);
      assert.equal(unsplit.bytes, bytes.length, name);
      assert.equal(unsplit.estimatedBytes, bytes.length, name);
      const tallies = Object.values(unsplit.commands);
      assert.equal(
        tallies.reduce((sum, each) => sum + each.bytes, 17),
        bytes.length,
        name,
      );
      assert.equal(
        tallies.reduce((sum, each) => sum + each.count, 0),
        borders(bytes).length - 1,
        name,
      );
      for (const pieceBytes of [4096, 65536, 2 ** 20]) assert.deepEqual(check(bytes, pieceBytes), unsplit, name);
      for (const pieceBytes of [1, 7]) assert.deepEqual(check(bytes, pieceBytes, 2 ** 20), unsplit, name);
    }
  });

  test("a --no-data stream shows the size of the real one, to the byte", async () => {
    for (const [name, { args, exact }] of cases) {
      const real = await send(...args);
      const estimate = await estimateFrom(Readable.from([await send("--no-data", ...args)]));
      if (exact) assert.equal(estimate.bytes, real.length, name);
      assert.equal(estimate.upperBound >= real.length, true, `${name}: ${estimate.upperBound} for ${real.length}`);
      assert.equal(estimate.proto, name.includes("version 1") ? 1 : 2);
      assert.deepEqual(estimate.lineage, peekLineage(real.subarray(0, 350)));
    }
  });

  test("many tiny files are larger when sent as compressed, but not than the upper bound", async () => {
    const tiny = join(compressed.mountPoint, "tiny");
    await btrfs("subvolume", "create", tiny);
    const script = `cd "$1"; for i in $(seq 200); do head -c $((i + 50)) /dev/urandom > $i; printf %40s >> $i; done`;
    await run("sh", "-ec", script, "sh", tiny);
    await btrfs("subvolume", "snapshot", "-r", tiny, `${tiny}-snapshot`);
    const real = await send("--compressed-data", `${tiny}-snapshot`);
    const withoutData = await send("--compressed-data", "--no-data", `${tiny}-snapshot`);
    const estimate = await estimateFrom(Readable.from([withoutData]));
    assert.equal(real.length > estimate.bytes && real.length <= estimate.upperBound, true);
  });

  test("the first bytes show whose stream it is", async () => {
    for (const top of [plain.mountPoint, compressed.mountPoint]) {
      const [one, two] = [await subvolumeInfo(join(top, "one")), await subvolumeInfo(join(top, "two"))];
      const [first, second] = [one, two].map(({ uuid, ctransid }) => ({ uuid, ctransid }));
      const incremental = await send("-p", join(top, "one"), join(top, "two"));
      assert.deepEqual(peekLineage(incremental.subarray(0, 350)), { ...second, sendParent: first });
      assert.deepEqual(peekLineage(await send(join(top, "one"))), { ...first, sendParent: null });
    }
  });

  test("a name of 255 bytes still lies within the first 350", async () => {
    const name = join(plain.mountPoint, "n".repeat(255));
    await btrfs("subvolume", "snapshot", "-r", join(plain.mountPoint, "one"), name);
    const bytes = await send("--no-data", "-p", join(plain.mountPoint, "two"), name);
    const { uuid, ctransid } = await subvolumeInfo(join(plain.mountPoint, "two"));
    assert.deepEqual(peekLineage(bytes.subarray(0, 350))?.sendParent, { uuid, ctransid });
    assert.equal(peekLineage(bytes.subarray(0, 17 + 78 + 254)), null);
  });

  /** A full stream of a few kilobytes. */
  async function sendSmall(proto: string): Promise<Buffer> {
    const tree = join(plain.mountPoint, `small-${proto}`);
    await btrfs("subvolume", "create", tree);
    const script = `cd "$1"; mkdir directory; head -c 700 /dev/urandom > file; ln -s file link; ln file directory`;
    await run("sh", "-ec", script, "sh", tree);
    await btrfs("subvolume", "snapshot", "-r", tree, `${tree}-snapshot`);
    return send("--proto", proto, `${tree}-snapshot`);
  }

  for (const proto of ["1", "2"]) {
    test(`version ${proto}: any flipped bit, any cut, any byte more or less is refused`, async () => {
      const bytes = await sendSmall(proto);
      assert.equal(refusal(bytes), null);
      for (let at = 0; at < bytes.length; at++) {
        for (let bit = 0; bit < 8; bit++) {
          const flipped = Buffer.from(bytes);
          flipped.writeUInt8(bytes.readUInt8(at) ^ (1 << bit), at);
          assert.notEqual(refusal(flipped), null, `bit ${bit} of byte ${at}`);
          assert.notEqual(refusal(flipped, 13), null, `bit ${bit} of byte ${at}, in pieces`);
        }
        const [front, back] = [bytes.subarray(0, at), bytes.subarray(at)];
        assert.notEqual(refusal(front), null, `cut at ${at}`);
        assert.notEqual(refusal(Buffer.concat([front, Buffer.alloc(1), back])), null, `one more at ${at}`);
        assert.notEqual(refusal(Buffer.concat([front, back.subarray(1)])), null, `one less at ${at}`);
      }
    });

    test(`version ${proto}: zeros between commands, and anything after END, are refused`, async () => {
      const bytes = await send("--proto", proto, join(plain.mountPoint, `small-${proto}-snapshot`));
      for (const border of borders(bytes)) {
        for (const zeros of [1, 10, 5000]) {
          const stuffed = Buffer.concat([bytes.subarray(0, border), Buffer.alloc(zeros), bytes.subarray(border)]);
          assert.notEqual(refusal(stuffed), null, `${zeros} zeros at ${border}`);
        }
      }
      assert.notEqual(refusal(Buffer.concat([bytes, end])), null);
      assert.notEqual(refusal(Buffer.concat([bytes, bytes])), null);
    });
  }

  test("a stream that names another version than the one it is written in is refused", async () => {
    for (const [name, { args }] of cases) {
      const bytes = await send(...args);
      bytes.writeUInt32LE(3 - bytes.readUInt32LE(13), 13);
      // Two snapshots without a difference: SNAPSHOT and END are the same in both versions.
      if (borders(bytes).length === 3) assert.equal(refusal(bytes), null, name);
      else assert.notEqual(refusal(bytes), null, name);
    }
  });

  test("through the pipeline: the same bytes, and an end only after all is checked", async () => {
    const bytes = await send(join(plain.mountPoint, "one"));
    const summaries: StreamSummary[] = [];
    const args = ["send", "--quiet", join(plain.mountPoint, "one")];
    const { stdout } = spawn("btrfs", args, { stdio: ["ignore", "pipe", "inherit"] });
    const passed = await buffer(checkedStream(stdout, { onSummary: (summary) => summaries.push(summary) }));
    assert.equal(passed.equals(bytes), true);
    assert.deepEqual(summaries, [check(bytes, bytes.length)]);
  });
});

describe("streams made by hand", () => {
  test("are good as they are made here", () => {
    const snapshot = cmd(
      command.snapshot,
      ...[tlv(attribute.path, "s"), tlv(attribute.uuid, uuidA), tlv(attribute.ctransid, number(9))],
      ...[tlv(attribute.cloneUuid, uuidB), tlv(attribute.cloneCtransid, number(8))],
    );
    assert.equal(refusal(stream(mkfile, writeOf(Buffer.alloc(49152)))), null);
    assert.deepEqual(check(Buffer.concat([header(1), snapshot, end]), 5), {
      identity: {
        version: 1,
        kind: "incremental",
        path: Buffer.from("s"),
        uuid: "00112233-4455-6677-8899-aabbccddeeff",
        ctransid: 9,
        cloneUuid: "ffeeddcc-bbaa-9988-7766-554433221100",
        cloneCtransid: 8,
      },
      bytes: 17 + 79 + 10,
      estimatedBytes: 17 + 79 + 10,
      commands: { SNAPSHOT: { count: 1, bytes: 79 }, END: { count: 1, bytes: 10 } },
    });
  });

  /** Where what follows SUBVOL starts. */
  const at = 17 + subvol.length;
  type Wrong = ReadonlyArray<readonly [Buffer, string]>;

  function assertRefused(wrong: Wrong, place: string): void {
    for (const [bytes, sentence] of wrong) {
      for (const pieceBytes of [1, 5, 100, Math.max(1, bytes.length)]) {
        assert.equal(refusal(bytes, pieceBytes), `${sentence}${place} of the send stream`);
      }
    }
  }

  test("a wrong beginning is refused", () => {
    const alone = (first: Buffer): Buffer => Buffer.concat([header(1), first, end]);
    const versioned = (version: number): Buffer => Buffer.concat([header(version), subvol, end]);
    const headers: Wrong = [
      [Buffer.alloc(0), "there is nothing at byte 0"],
      [Buffer.from("btrfs"), "the end comes inside the header, at byte 5"],
      [Buffer.from("age-encryption.org/v1\n"), "there is no btrfs send header at byte 0"],
      [versioned(3), "protocol version 3 is not known here (only 1 and 2), at byte 0"],
      [versioned(0), "protocol version 0 is not known here (only 1 and 2), at byte 0"],
    ];
    assertRefused(headers, "");
    const firsts: Wrong = [
      [alone(mkfile), "a start without SUBVOL or SNAPSHOT in the MKFILE command"],
      [alone(end), "a start without SUBVOL or SNAPSHOT in the END command"],
      [alone(subvolOf("", uuidA, number(7))), "an impossible name in the SUBVOL command"],
      [alone(subvolOf("a/b", uuidA, number(7))), "an impossible name in the SUBVOL command"],
      [alone(subvolOf(".", uuidA, number(7))), "an impossible name in the SUBVOL command"],
      [alone(subvolOf("..", uuidA, number(7))), "an impossible name in the SUBVOL command"],
      [alone(subvolOf("a\0b", uuidA, number(7))), "an impossible name in the SUBVOL command"],
      [alone(subvolOf("n".repeat(256), uuidA, number(7))), "an impossible name in the SUBVOL command"],
      [alone(subvolOf("s", Buffer.alloc(16), number(7))), "a UUID of zeros in the SUBVOL command"],
      [alone(subvolOf("s", uuidA, Buffer.alloc(8, 255))), "an impossibly high transaction id in the SUBVOL command"],
    ];
    assertRefused(firsts, " at byte 17");
  });

  test("a wrong end is refused", () => {
    const missing = [[Buffer.concat([header(1), subvol]), "the end comes without an END command"]] as const;
    assertRefused(missing, ` at byte ${at}`);
    assertRefused([[header(1), "the end comes without an END command"]], " at byte 17");
    assertRefused([[stream().subarray(0, -1), "the end comes inside the command"]], ` at byte ${at}`);
    for (const more of [Buffer.alloc(1), end, stream()]) {
      const wrong = [[Buffer.concat([stream(), more]), "there is something after the END command"]] as const;
      assertRefused(wrong, ` at byte ${at + 10}`);
    }
  });

  test("impossible commands are refused even if their checksums are right", () => {
    const v2 = (...commands: readonly Buffer[]): Buffer => Buffer.concat([header(2), subvol, ...commands, end]);
    const offset = tlv(attribute.fileOffset, number(0));
    const mkfileOf = (...more: readonly Buffer[]): Buffer => stream(cmd(command.mkfile, ...more));
    const nameless = cmd(command.setXattr, path, tlv(attribute.xattrName, ""), tlv(attribute.xattrData, ""));
    const dataFirst = cmd(command.write, path, tlv(attribute.data, "d"), offset);
    const wrong: Wrong = [
      [stream(subvol), "a second snapshot starts in the SUBVOL command"],
      [stream(Buffer.alloc(10)), "unknown command 0"],
      [stream(cmd(99)), "unknown command 99"],
      [stream(cmd(command.fileattr, path)), "unknown command 24"],
      [v2(cmd(command.enableVerity, path)), "unknown command 26"],
      [stream(cmd(command.end, path)), "unexpected attribute 15 in the END command"],
      [mkfileOf(), "missing attribute 15 in the MKFILE command"],
      [stream(cmd(command.rename, path)), "missing attribute 16 in the RENAME command"],
      [mkfileOf(path, path), "repeated attribute 15 in the MKFILE command"],
      [mkfileOf(path, tlv(0, "")), "unexpected attribute 0 in the MKFILE command"],
      [mkfileOf(path, tlv(40, "")), "unexpected attribute 40 in the MKFILE command"],
      [mkfileOf(path, Buffer.alloc(3)), "an attribute is cut short in the MKFILE command"],
      [mkfileOf(path.subarray(0, 4)), "wrong length of attribute 15 in the MKFILE command"],
      [mkfileOf(path, tlv(attribute.ino, "1234567")), "wrong length of attribute 3 in the MKFILE command"],
      [mkfileOf(tlv(attribute.path, "p".repeat(4097))), "wrong length of attribute 15 in the MKFILE command"],
      [stream(nameless), "wrong length of attribute 13 in the SET_XATTR command"],
      [stream(dataFirst), "wrong length of attribute 19 in the WRITE command"],
      [stream(writeOf(Buffer.alloc(65535))), "impossible length in the WRITE command"],
      [v2(cmd(command.write, path, offset, Buffer.alloc(192 << 10))), "impossible length in the WRITE command"],
    ];
    assertRefused(wrong, ` at byte ${at}`);
  });

  test("a path that leads out of the snapshot, or is none, is refused in whatever command it stands", () => {
    const of = (value: string): Buffer => tlv(attribute.path, value);
    const offset = tlv(attribute.fileOffset, number(0));
    const cloneOf = (from: string): Buffer =>
      cmd(
        command.clone,
        path,
        offset,
        tlv(attribute.cloneLength, number(1)),
        tlv(attribute.cloneUuid, uuidA),
        tlv(attribute.cloneCtransid, number(7)),
        tlv(attribute.clonePath, from),
        tlv(attribute.cloneOffset, number(0)),
      );
    const ways: ReadonlyArray<readonly [string, (bad: string) => Buffer]> = [
      ["MKFILE", (bad) => cmd(command.mkfile, of(bad))],
      ["MKDIR", (bad) => cmd(command.mkdir, of(bad))],
      ["SYMLINK", (bad) => cmd(command.symlink, of(bad), tlv(attribute.pathLink, "target"))],
      ["RENAME", (bad) => cmd(command.rename, of(bad), tlv(attribute.pathTo, "g"))],
      ["RENAME", (bad) => cmd(command.rename, path, tlv(attribute.pathTo, bad))],
      ["LINK", (bad) => cmd(command.link, of(bad), tlv(attribute.pathLink, "g"))],
      ["LINK", (bad) => cmd(command.link, path, tlv(attribute.pathLink, bad))],
      ["UNLINK", (bad) => cmd(command.unlink, of(bad))],
      ["RMDIR", (bad) => cmd(command.rmdir, of(bad))],
      ["WRITE", (bad) => cmd(command.write, of(bad), offset, tlv(attribute.data, "d"))],
      ["CLONE", cloneOf],
      ["TRUNCATE", (bad) => cmd(command.truncate, of(bad), tlv(attribute.size, number(1)))],
      ["CHMOD", (bad) => cmd(command.chmod, of(bad), tlv(attribute.mode, number(0o644)))],
      ["CHOWN", (bad) => cmd(command.chown, of(bad), tlv(attribute.uid, number(0)), tlv(attribute.gid, number(0)))],
    ];
    const bad = [
      "/",
      "/f",
      "f/",
      "a//f",
      "..",
      "../f",
      "a/../f",
      "a/..",
      ".",
      "./f",
      "a/./f",
      "a\0/f",
      `a/${"n".repeat(256)}`,
    ];
    const rootless = ways.filter(([name]) => !["CHMOD", "CHOWN"].includes(name));
    const wrong: Wrong = [
      ...ways.flatMap(([name, make]) => bad.map((value) => [name, make(value)] as const)),
      ...rootless.map(([name, make]) => [name, make("")] as const),
    ].map(
      ([name, bytes]) =>
        [stream(bytes), `a path that leads out of the snapshot, or is none, in the ${name} command`] as const,
    );
    for (const [bytes, sentence] of wrong) {
      for (const pieceBytes of [7, bytes.length])
        assert.equal(refusal(bytes, pieceBytes), `${sentence} at byte ${at} of the send stream`);
    }
  });

  test("valid paths, and the targets of symbolic links, are accepted", () => {
    const good = [
      "f",
      "a/b",
      "...",
      ".a",
      "..a",
      "a..",
      "a/...",
      "-",
      "\u00e9 \n",
      "n".repeat(255),
      Array(2048).fill("a").join("/"),
    ];
    for (const value of good)
      assert.equal(refusal(stream(cmd(command.mkfile, tlv(attribute.path, value)))), null, value);
    for (const target of ["/etc/target", "../../target", "a//b/./c"]) {
      assert.equal(refusal(stream(cmd(command.symlink, path, tlv(attribute.pathLink, target)))), null, target);
    }
    const root = tlv(attribute.path, "");
    const xattr = cmd(command.setXattr, root, tlv(attribute.xattrName, "user.x"), tlv(attribute.xattrData, "y"));
    assert.equal(refusal(stream(cmd(command.chmod, root, tlv(attribute.mode, number(0o700))), xattr)), null);
  });

  test("sizes whose sum exceeds 32 or 64 bits are neither accepted nor wrapped around", () => {
    const huge = Buffer.from(mkfile);
    huge.writeUInt32LE(0xffffffff, 0);
    assertRefused([[stream(huge), "impossible length in the MKFILE command"]], ` at byte ${at}`);
    huge.writeUInt32LE(0xfffffff6, 0);
    assertRefused([[stream(huge), "impossible length in the MKFILE command"]], ` at byte ${at}`);
    const extent = cmd(
      command.updateExtent,
      path,
      tlv(attribute.fileOffset, number(0)),
      tlv(attribute.size, Buffer.alloc(8, 255)),
    );
    assert.equal(check(stream(extent, extent), 50).estimatedBytes, 2 ** 64);
  });

  test("does not detect complete commands that are missing, doubled or in another order", () => {
    const rename = cmd(command.rename, path, tlv(attribute.pathTo, "g"));
    for (const commands of [[mkfile, rename], [rename, mkfile], [mkfile], [mkfile, mkfile, rename]]) {
      assert.equal(refusal(stream(...commands)), null);
    }
  });

  test("file data of version 2 has no length of its own", () => {
    const bare = (data: Buffer): Buffer => Buffer.concat([Buffer.from([attribute.data, 0]), data]);
    const write = cmd(command.write, path, tlv(attribute.fileOffset, number(0)), bare(Buffer.alloc(131072, 5)));
    const bytes = Buffer.concat([header(2), subvol, write, end]);
    for (const pieceBytes of [1, 4000, 5000, bytes.length]) assert.equal(refusal(bytes, pieceBytes), null);
    const nothing = cmd(command.write, path, tlv(attribute.fileOffset, number(0)), bare(Buffer.alloc(0)));
    assert.equal(refusal(Buffer.concat([header(2), subvol, nothing, end])), null);
  });

  test("sizes of UPDATE_EXTENT around the borders of WRITE", () => {
    const offset = tlv(attribute.fileOffset, number(0));
    for (const [version, max, around] of [
      [1, 49152, 31],
      [2, 131072, 29],
    ] as const) {
      for (const [size, writes] of [
        [0, 0],
        [1, 1],
        [max, 1],
        [max + 1, 2],
        [2 ** 24 * max, 2 ** 24],
      ] as const) {
        const extent = cmd(command.updateExtent, path, offset, tlv(attribute.size, number(size)));
        const summary = check(Buffer.concat([header(version), subvol, extent, end]), 50);
        assert.equal(summary.estimatedBytes, 17 + subvol.length + size + writes * around + 10);
      }
    }
  });

  test("once refused, it stays refused, with the same error", () => {
    const checker = openSendStreamChecker();
    assert.throws(() => checker.push(stream(cmd(99))), { message: /unknown command 99/, offset: 17 + subvol.length });
    assert.throws(() => checker.push(stream()), /unknown command 99/);
    assert.throws(() => checker.finish(), /unknown command 99/);
    const ended = openSendStreamChecker();
    ended.push(stream());
    ended.finish();
    ended.finish();
    assert.throws(() => ended.push(Buffer.alloc(1)), /after the END/);
  });

  test("a peek at something else returns null", () => {
    const others = [Buffer.alloc(0), Buffer.alloc(400), Buffer.from("age-encryption.org/v1\n-> X25519"), header(1)];
    for (const bytes of others) assert.equal(peekLineage(bytes), null);
    const damaged = stream();
    damaged.writeUInt8(damaged.readUInt8(60) ^ 1, 60);
    assert.equal(peekLineage(damaged), null);
    assert.deepEqual(peekLineage(stream().subarray(0, 17 + subvol.length))?.ctransid, 7);
  });
});

describe("the checker as a stage", () => {
  const good = stream(mkfile, writeOf(Buffer.alloc(40000, 1)));

  /** All that could be read, and how it went on. */
  async function outcome(pieces: AsyncIterable<Buffer>): Promise<{ readonly bytes: number; readonly error: unknown }> {
    let bytes = 0;
    try {
      for await (const piece of pieces) bytes += piece.length;
      return { bytes, error: null };
    } catch (error) {
      return { bytes, error };
    }
  }

  test("damage destroys it and its source, with the requested code and subject", async () => {
    const bytes = Buffer.from(good);
    bytes.writeUInt8(9, 100);
    const source = Readable.from([bytes.subarray(0, 50), bytes.subarray(50)]);
    const onSummary = (): void => assert.fail("a summary of damage");
    const checked = checkedStream(source, { code: "ARCHIVE_DAMAGED", subject: "archive x", onSummary });
    const { bytes: read, error } = await outcome(checked);
    assert.equal(read <= 50, true);
    assert.ok(error instanceof BackupError);
    assert.equal(error.code, "ARCHIVE_DAMAGED");
    assert.match(error.message, /^archive x is damaged: wrong checksum in the WRITE command at byte \d+ of the send/);
    assert.equal(source.destroyed, true);
  });

  test("a stream without the data of files is damage, but for an estimate", async () => {
    const offset = tlv(attribute.fileOffset, number(0));
    const withoutData = stream(mkfile, cmd(command.updateExtent, path, offset, tlv(attribute.size, number(40000))));
    const onSummary = (): void => assert.fail("a summary of damage");
    const { bytes, error } = await outcome(
      checkedStream(Readable.from([withoutData]), { code: "ARCHIVE_DAMAGED", onSummary }),
    );
    assert.equal(bytes, withoutData.length - 1, "END, which seals a snapshot, is not passed on completely");
    assert.ok(error instanceof BackupError && error.code === "ARCHIVE_DAMAGED");
    assert.match(error.message, /without the data of files/);
    assert.ok((await estimateFrom(Readable.from([withoutData]))).bytes > 40000);
  });

  test("a source that just ends is damage too", async () => {
    for (const cut of [0, 10, 17, good.length - 10, good.length - 1]) {
      const { error } = await outcome(checkedStream(Readable.from([good.subarray(0, cut)])));
      assert.equal(error instanceof BackupError && error.code, "SEND_FAILED", `cut at ${cut}`);
      await assert.rejects(estimateFrom(Readable.from([good.subarray(0, cut)])), { code: "SEND_FAILED" });
    }
  });

  test("a source that fails passes its own error on, even after END", async () => {
    const failure = new BackupError("SEND_FAILED", "btrfs send exited with 1");
    const failing = (): Readable =>
      Readable.from(
        (async function* () {
          yield good.subarray(0, 30);
          yield await Promise.resolve(good.subarray(30));
          throw failure;
        })(),
      );
    // The last byte of END is not let through before all is known to be well.
    const { bytes, error } = await outcome(checkedStream(failing()));
    assert.equal(error, failure);
    assert.equal(bytes, good.length - 1);
    await assert.rejects(estimateFrom(failing()), failure);
  });

  test("stopping to read stops the source", async () => {
    const source = new Readable({ read: () => undefined });
    source.push(good.subarray(0, 50));
    source.push(good.subarray(50, 100));
    const checked = checkedStream(source);
    const closed = new Promise((resolve) => source.once("close", resolve));
    await checked[Symbol.asyncIterator]().next();
    checked.destroy();
    await closed;
  });
});

describe("the checker on a thread of its own", () => {
  const good = stream(mkfile, writeOf(Buffer.alloc(40_000, 1)));

  /** Moves what fits a pipe into another one; gives what went wrong, and what would have cancelled it. */
  async function move(bytes: Buffer): Promise<{ readonly failure: Error | null; readonly cancel: () => void }> {
    const [from, to] = [openPipe(1 << 20), openPipe(1 << 20)];
    writeSync(from.writeEnd, bytes);
    closeSync(from.writeEnd);
    let cancel = (): void => undefined;
    const failure = await new Promise<Error | null>(
      (resolve) => (cancel = moveSendStream(from.readEnd, to.writeEnd, resolve)),
    );
    closeSync(to.readEnd);
    return { failure, cancel };
  }

  /** Pipes, and what threads are woken by. */
  async function countEnds(): Promise<number> {
    const names = await readdir("/proc/self/fd");
    const ends = await Promise.all(names.map((name) => readlink(`/proc/self/fd/${name}`).catch(() => "")));
    return ends.filter((end) => /^(pipe|anon_inode:\[eventfd)/.test(end)).length;
  }

  test("leaves nothing open, whether the stream is good or damaged, and takes being cancelled when it is over", async () => {
    const before = await countEnds();
    const kept: (() => void)[] = [];
    for (const bytes of [good, good.subarray(0, -1), good, Buffer.alloc(9)]) {
      const { failure, cancel } = await move(bytes);
      assert.equal(failure === null, bytes === good);
      kept.push(cancel);
    }
    // The last thread may still be on its way out.
    for (let patience = 100; (await countEnds()) > before && patience > 0; patience -= 1) await sleep(10);
    assert.equal(await countEnds(), before);
    for (const cancel of kept) cancel();
  });

  test("rests when everything is moved and the pipe is full", async () => {
    const page = 4096;
    const room = 16 * page;
    const head = stream(mkfile).subarray(0, -end.length);
    const filling = writeOf(
      Buffer.alloc(room - page / 2 - head.length - (writeOf(Buffer.alloc(0)).length + end.length)),
    );
    const bytes = Buffer.concat([head, filling, end]);
    const [from, to] = [openPipe(1 << 20), openPipe(room)];
    writeSync(from.writeEnd, bytes);
    closeSync(from.writeEnd);
    const over = new Promise<Error | null>((resolve) => void moveSendStream(from.readEnd, to.writeEnd, resolve));
    await sleep(100);
    const { user, system } = process.cpuUsage();
    await sleep(500);
    const used = process.cpuUsage({ user, system });
    assert.ok(used.user + used.system < 250_000, `${used.user + used.system} us of CPU`);
    const read = Buffer.alloc(2 * room);
    let length = 0;
    for (let got = 0; (got = readSync(to.readEnd, read, length, read.length - length, null)) > 0;) length += got;
    closeSync(to.readEnd);
    assert.ok(read.subarray(0, length).equals(bytes));
    assert.equal(await over, null);
  });
});
