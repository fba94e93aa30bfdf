// `btrfs send` and `btrfs receive` as the program uses them, on real filesystems.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { mkdir, mkdtemp, readdir, readFile, rename, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { basename, dirname, join } from "node:path";
import { Readable } from "node:stream";
import { buffer } from "node:stream/consumers";
import { after, before, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { openSource, type SourceOptions } from "../../src/btrfs/source.ts";
import { openTarget } from "../../src/btrfs/target.ts";
import { BackupError } from "../../src/errors.ts";
import { openPieces } from "../../src/stream/pieces.ts";
import { checkedStream } from "../../src/stream/send-stream.ts";
import type { RestoreTarget, SnapshotSource } from "../../src/operations/ports.ts";
import { parseUuid, streamIdentity, type Identity, type SendProto, type Snapshot } from "../../src/plan/model.ts";
import { btrfs, openLoopback, run, withLoopback, type Loopback } from "../support/loopback.ts";
import { noProgs } from "../support/requirements.ts";
import { makeFile, makeLink, withCommands } from "../support/stream-commands.ts";

const never = new AbortController().signal;
const MiB = 1024 * 1024;

let loopback: Loopback;
let home: string;
let source: SnapshotSource;
let first: Snapshot;
let second: Snapshot;

before(async () => {
  loopback = await openLoopback({ sizeBytes: 512 * MiB, mountOptions: "compress-force=zstd" });
  home = join(loopback.mountPoint, "home");
  await btrfs("-q", "subvolume", "create", home);
  await mkdir(join(home, "directory"));
  for (let file = 0; file < 200; file++) await writeFile(join(home, "directory", `file-${file}`), `small ${file}`);
  await writeFile(join(home, "large"), Buffer.alloc(8 * MiB, "compresses well "));
  await snapshot("snapshots/1/snapshot");
  await writeFile(join(home, "directory/file-7"), "changed");
  await rm(join(home, "directory/file-8"));
  await writeFile(join(home, "new"), Buffer.alloc(MiB, "new"));
  await snapshot("snapshots/2/snapshot");
  source = await openSource(home, { sendProto: 1 }, never);
  const { snapshots } = await source.list(never);
  const [one, two] = snapshots;
  assert.ok(one && two && snapshots.length === 2);
  [first, second] = [one, two];
});

after(async () => {
  await source.close();
  await loopback.close();
});

async function snapshot(path: string): Promise<void> {
  const place = join(loopback.mountPoint, path);
  await mkdir(dirname(place), { recursive: true });
  await btrfs("-q", "subvolume", "snapshot", "-r", home, place);
}

const send = (sendParent: Snapshot | null, of: Snapshot): Readable => source.send({ snapshot: of, sendParent }, never);

/** An empty filesystem to restore to. */
async function withTarget(
  use: (target: RestoreTarget, directory: string, loopback: Loopback) => Promise<void>,
  sizeBytes = 256 * MiB,
): Promise<void> {
  await withLoopback({ sizeBytes }, async (loopback) => {
    const directory = join(loopback.mountPoint, "restored");
    await mkdir(directory);
    const target = await openTarget(directory, never);
    await use(target, directory, loopback).finally(() => target.close());
  });
}

/** No line: both trees are equal, with owners, modes, times, extended attributes and hard links. */
async function differences(a: string, b: string): Promise<string> {
  return run("rsync", "-aHAXn", "--checksum", "--delete", "-i", "--omit-dir-times", `${a}/`, `${b}/`);
}

async function subvolumes(loopback: Loopback): Promise<string[]> {
  const list = await btrfs("subvolume", "list", loopback.mountPoint);
  return list
    .split("\n")
    .filter((line) => line !== "")
    .map((line) => line.replace(/^.* path /, ""));
}

/** The snapshots that a restore may build on. */
async function sealedOn(target: RestoreTarget): Promise<Snapshot[]> {
  return (await target.list(new Set(), never)).flatMap(({ sealed, changed, within, ...snapshot }) =>
    sealed && within && changed === null ? [snapshot] : [],
  );
}

async function failsWith(promise: Promise<unknown>, code: string, message?: RegExp): Promise<BackupError> {
  const error: unknown = await promise.then(
    () => null,
    (reason: unknown) => reason,
  );
  assert.ok(error instanceof BackupError, String(error));
  assert.equal(error.code, code, error.message);
  if (message !== undefined) assert.match(error.message, message);
  return error;
}

test("the source: a path that is not a subvolume is refused, with a path that would be one", async () => {
  const open = (path: string): Promise<unknown> => openSource(path, { sendProto: 1 }, never);
  const inside = await failsWith(open(join(home, "directory")), "NOT_SUBVOLUME", /directory is not the root/);
  assert.equal(inside.hint, `the subvolume that contains it is ${home}`);
  await failsWith(open(join(home, "large")), "NOT_SUBVOLUME");
  await failsWith(open("/proc"), "NOT_BTRFS", /^\/proc is not on a btrfs filesystem$/);
  await failsWith(open("/proc/no such thing"), "USAGE", /does not exist/);
  await failsWith(open(join(home, "large/below")), "USAGE", /does not exist/);
});

test("the source: without CAP_SYS_ADMIN, the error names what is missing", async () => {
  const script = `
    const { openSource } = await import(process.argv[1]);
    const never = new AbortController().signal;
    await openSource(process.argv[2], { sendProto: 1 }, never)
      .then((source) => source.list(never))
      .catch((error) => console.log(error.code, error.message, error.hint));`;
  const module = new URL("../../src/btrfs/source.js", import.meta.url).href;
  const node = [process.execPath, "--input-type=module", "-e", script, module, home];
  const output = await run("setpriv", "--bounding-set=-sys_admin", ...node);
  assert.match(output, /^NO_PRIVILEGE the kernel does not let us read .* CAP_SYS_ADMIN/);
});

test("the source: a snapshot that was made read-only a moment ago shows its final state", async () => {
  const place = join(loopback.mountPoint, "flipped");
  await btrfs("-q", "subvolume", "snapshot", home, place);
  await writeFile(join(place, "dirty"), Buffer.alloc(MiB, "dirty"));
  await btrfs("-q", "property", "set", place, "ro", "true");
  const { snapshots } = await source.list(never);
  const flipped = snapshots.find(({ path }) => path === "flipped");
  assert.ok(flipped);
  await buffer(send(null, flipped));
  await btrfs("-q", "subvolume", "delete", place);
});

test(
  "the protocol: the newest by default, and estimates are exact or an upper bound",
  { skip: noProgs(5, 19) },
  async () => {
    const modes: [SourceOptions, number, boolean][] = [
      [{ sendProto: null }, 2, true],
      [{ sendProto: 2, compressedData: false }, 2, false],
      [{ sendProto: null, compressedData: false }, 2, false],
      [{ sendProto: 1 }, 1, false],
      [{ sendProto: 1, compressedData: true }, 1, false],
    ];
    for (const [options, proto, compressed] of modes) {
      const opened = await openSource(home, options, never);
      assert.deepEqual([opened.sendProto, opened.compressedData], [proto, compressed]);
      for (const difference of [
        { snapshot: first, sendParent: null },
        { snapshot: second, sendParent: first },
      ]) {
        const { bytes, exact } = await opened.estimate(difference, never);
        const stream = await buffer(opened.send(difference, never));
        assert.equal(stream.readUInt32LE(13), proto);
        assert.equal(exact, !compressed);
        if (exact) assert.equal(bytes, stream.length);
        else assert.ok(bytes > stream.length * 1.5, `${bytes} for ${stream.length}`);
      }
      await opened.close();
    }
  },
);

test("a stream that nobody reads any more stops its process", async () => {
  const children = (): Promise<string> => readFile(`/proc/${process.pid}/task/${process.pid}/children`, "utf8");
  const others = await children();
  const stream = send(null, first);
  stream.destroy();
  const reading = send(null, first);
  await new Promise((resolve) => reading.once("readable", resolve));
  assert.notEqual(await children(), others);
  reading.destroy();
  for (let tries = 0; tries < 100 && (await children()) !== others; tries += 1) await sleep(100);
  assert.equal(await children(), others);
});

test("sent and received by protocol 1, a snapshot is what it was", () => sendAndReceive(1));
test("sent and received by protocol 2, a snapshot is what it was", { skip: noProgs(5, 19) }, () => sendAndReceive(2));

test("protocol 2 is refused at once where btrfs-progs does not know it", async () => {
  const directory = await mkdtemp(join(tmpdir(), "progs-"));
  const { PATH } = process.env;
  try {
    await writeFile(join(directory, "btrfs"), "#!/bin/sh\necho 'usage: btrfs send [-ve] [-p <parent>]'\n", {
      mode: 0o755,
    });
    process.env["PATH"] = `${directory}:${PATH ?? ""}`;
    await failsWith(
      openSource(home, { sendProto: 2 }, never),
      "CONFIG",
      /^version 2 of the btrfs send protocol is not/,
    );
    const old = await openSource(home, { sendProto: null }, never);
    assert.equal(old.sendProto, 1);
    await old.close();
  } finally {
    process.env["PATH"] = PATH;
    await rm(directory, { recursive: true });
  }
});

async function sendAndReceive(sendProto: SendProto): Promise<void> {
  const source = await openSource(home, { sendProto }, never);
  await withTarget(async (target, directory, other) => {
    const full = source.send({ snapshot: first, sendParent: null }, never);
    const one = await target.receive(full, first.path, streamIdentity(first), never);
    const difference = source.send({ snapshot: second, sendParent: first }, never);
    const two = await target.receive(difference, second.path, streamIdentity(second), never);
    assert.deepEqual(one.received, streamIdentity(first));
    assert.deepEqual([one.path, two.path], ["restored/snapshots/1/snapshot", "restored/snapshots/2/snapshot"]);
    assert.equal(two.source, one.uuid);
    for (const { path } of [first, second]) {
      assert.equal(await differences(join(loopback.mountPoint, path), join(directory, path)), "");
    }
    assert.deepEqual(await sealedOn(target), [one, two]);
    assert.deepEqual(await subvolumes(other), [one.path, two.path]);
  });
}

test("sent and received back on the filesystem it came from", async () => {
  const directory = join(loopback.mountPoint, "back");
  await mkdir(directory);
  const target = await openTarget(directory, never);
  const back = await target.receive(send(first, second), "snapshot", streamIdentity(second), never);
  assert.equal(await differences(join(loopback.mountPoint, second.path), join(directory, "snapshot")), "");
  assert.deepEqual(streamIdentity(back).uuid, second.uuid);
  await target.close();
  await btrfs("-q", "subvolume", "delete", join(directory, "snapshot"));
});

test("what travels compressed is stored compressed, or decompressed on request", { skip: noProgs(6, 2) }, async () => {
  const compressed = await openSource(home, { sendProto: 2 }, never);
  const taken: number[] = [];
  for (const forceDecompress of [false, true])
    await withLoopback({ sizeBytes: 256 * MiB }, async ({ mountPoint }) => {
      const target = await openTarget(mountPoint, never, { forceDecompress });
      const before = await target.room();
      const stream = compressed.send({ snapshot: first, sendParent: null }, never);
      await target.receive(stream, "one", streamIdentity(first), never);
      taken.push(before - (await target.room()));
      assert.equal(await differences(join(loopback.mountPoint, first.path), join(mountPoint, "one")), "");
      await target.close();
    });
  await compressed.close();
  const [asSent = 0, decompressed = 0] = taken;
  assert.ok(asSent < 4 * MiB && decompressed > 4 * MiB, taken.join());
});

test("under its own name, whatever name the stream has for it", async () => {
  await withTarget(async (target, directory) => {
    for (const path of ["x", "n".repeat(255), "übung/\n -dash", "-rf"]) {
      const stream = await buffer(send(null, first));
      await target.receive(Readable.from([stream]), path, streamIdentity(first), never);
      assert.equal(await differences(join(loopback.mountPoint, first.path), join(directory, path)), "");
      await btrfs("-q", "subvolume", "delete", join(directory, path));
    }
    // In pieces of one byte too.
    const start = await buffer(send(null, first));
    const pieces = Array.from({ length: 400 }, (_, index) => start.subarray(index, index + 1));
    await target.receive(Readable.from([...pieces, start.subarray(400)]), "y", streamIdentity(first), never);
  });
});

test("the target: a path that is not a directory on btrfs is refused", async () => {
  await failsWith(openTarget("/proc", never), "NOT_BTRFS");
  await failsWith(openTarget(join(home, "none"), never), "USAGE", /does not exist/);
  await failsWith(openTarget(join(home, "large"), never), "USAGE", /is not a directory/);
});

test("a path that leads out of the target is refused, and a symbolic link is not followed", async () => {
  await withTarget(async (target, directory, other) => {
    const receive = (path: string): Promise<unknown> =>
      target.receive(send(null, first), path, streamIdentity(first), never);
    for (const path of ["", ".", "..", "/", "/a", "a/", "a//b", "a/../b", "./a"]) {
      await failsWith(receive(path), "USAGE");
    }
    await symlink(loopback.directory, join(directory, "link"));
    await failsWith(receive("link/snapshot"), "RECEIVE_FAILED", /link is in the way/);
    await writeFile(join(directory, "file"), "");
    await failsWith(receive("file/snapshot"), "RECEIVE_FAILED", /file is in the way/);
    assert.deepEqual(await subvolumes(other), []);
  });
});

test("never touches what is already in the place of the snapshot", async () => {
  await withTarget(async (target, directory, other) => {
    await btrfs("-q", "subvolume", "create", join(directory, "writable"));
    await writeFile(join(directory, "writable/precious"), "precious");
    await btrfs("-q", "subvolume", "create", join(directory, "empty"));
    await btrfs("-q", "subvolume", "snapshot", "-r", join(directory, "writable"), join(directory, "sealed"));
    await mkdir(join(directory, "directory"));
    await writeFile(join(directory, "file"), "");
    await symlink("nowhere", join(directory, "link"));
    const before = await readdir(directory);
    for (const path of ["writable", "empty", "sealed", "directory", "file", "link"]) {
      const stream = send(null, first);
      const error = await failsWith(
        target.receive(stream, path, streamIdentity(first), never),
        "RECEIVE_FAILED",
        /exists already/,
      );
      assert.match(error.hint ?? "", /move it away/);
      assert.ok(stream.destroyed);
    }
    assert.deepEqual(await readdir(directory), before);
    assert.equal(await readFile(join(directory, "writable/precious"), "utf8"), "precious");
    assert.equal((await subvolumes(other)).length, 3);
  });
});

/** Gives most of a stream, then fails. */
async function* failing(stream: Buffer): AsyncGenerator<Buffer> {
  yield stream.subarray(0, stream.length - 100);
  await sleep(200);
  throw new BackupError("ARCHIVE_DAMAGED", "the checksum is wrong");
}

test("a stream that fails passes on its error and leaves no half, and a second attempt works", async () => {
  await withTarget(async (target, directory, other) => {
    const stream = await buffer(send(null, first));
    const attempt = target.receive(Readable.from(failing(stream)), "a/b", streamIdentity(first), never);
    await failsWith(attempt, "ARCHIVE_DAMAGED", /^the checksum is wrong$/);
    assert.deepEqual([await subvolumes(other), await readdir(join(directory, "a"))], [[], []]);
    const early = openPieces(async function* () {
      yield* await Promise.reject<Buffer[]>(new BackupError("ARCHIVE_DAMAGED", "early"));
    }, never);
    await failsWith(target.receive(early, "a/b", streamIdentity(first), never), "ARCHIVE_DAMAGED", /^early$/);
    await target.receive(Readable.from([stream]), "a/b", streamIdentity(first), never);
  });
});

test("a stream that is cut, foreign or not the expected one creates nothing", async () => {
  await withTarget(async (target, directory, other) => {
    const stream = await buffer(send(null, first));
    const receive = (bytes: Buffer, expected: Identity = streamIdentity(first)): Promise<unknown> =>
      target.receive(Readable.from(bytes.length === 0 ? [] : [bytes]), "s", expected, never);
    await failsWith(receive(stream.subarray(0, stream.length - 10)), "RECEIVE_FAILED", /unexpected EOF/);
    await failsWith(receive(stream.subarray(0, 1_000_000)), "RECEIVE_FAILED");
    await failsWith(receive(stream.subarray(0, 40)), "RECEIVE_FAILED", /does not begin like one/);
    await failsWith(receive(Buffer.alloc(0)), "RECEIVE_FAILED", /does not begin like one/);
    await failsWith(receive(Buffer.alloc(MiB)), "RECEIVE_FAILED", /does not begin like one/);
    const other_ = streamIdentity(second);
    await failsWith(receive(stream, other_), "RECEIVE_FAILED", /is of .*, expected was/);
    const later = { ...streamIdentity(first), ctransid: first.ctransid + 1 };
    await failsWith(receive(stream, later), "RECEIVE_FAILED", /expected was/);
    assert.deepEqual([await subvolumes(other), await readdir(directory)], [[], []]);
  });
});

test("a stream that names files outside of its snapshot never reaches btrfs receive", async () => {
  await withTarget(async (target, directory, other) => {
    const stream = await buffer(send(null, first));
    for (const path of ["../../evil", "/evil", "../precious/evil"]) {
      const evil = Readable.from([withCommands(stream, makeFile(path))]);
      const checked = checkedStream(evil, { code: "ARCHIVE_DAMAGED" });
      const attempt = target.receive(checked, "s", streamIdentity(first), never);
      await failsWith(
        attempt,
        "ARCHIVE_DAMAGED",
        /a path that leads out of the snapshot, or is none, in the MKFILE command/,
      );
      assert.deepEqual([await readdir(directory), await subvolumes(other)], [[], []]);
    }
  });
});

test("a stream reaches only what it created itself through its symbolic links", async () => {
  await withTarget(async (target, directory, other) => {
    await mkdir(join(directory, "precious"));
    const stream = await buffer(send(null, first));
    for (const [to, path] of [
      ["/precious", "evil"],
      ["../precious", "evil"],
      ["../../restored/precious", "evil"],
    ] as const) {
      const bytes = withCommands(stream, makeLink("link", to), makeFile(`link/${path}`));
      await failsWith(
        target.receive(checkedStream(Readable.from([bytes])), "s", streamIdentity(first), never),
        "RECEIVE_FAILED",
      );
      assert.deepEqual([await readdir(directory), await readdir(join(directory, "precious"))], [["precious"], []]);
    }
    const beside = withCommands(stream, makeLink("link", "/"), makeFile("link/evil"));
    const attempt = (): Promise<unknown> =>
      target.receive(checkedStream(Readable.from([beside])), "s", streamIdentity(first), never);
    await failsWith(attempt(), "RECEIVE_FAILED", /made something besides its snapshot/);
    const [stage = ""] = (await readdir(directory)).filter((name) => name !== "precious");
    assert.deepEqual([await readdir(join(directory, stage)), await subvolumes(other)], [["evil"], []]);
    await failsWith(attempt(), "RECEIVE_FAILED", /holds something that no restore put there/);
  });
});

test("what is removed is removed by its id, and only what a restore brought", async () => {
  await withTarget(async (target, directory, other) => {
    const { uuid } = streamIdentity(first);
    const scaffold = join(directory, "scaffold");
    await target.receive(send(null, first), `scaffold/${uuid}`, streamIdentity(first), never);
    await btrfs("-q", "subvolume", "create", join(directory, "precious"));
    await btrfs("-q", "subvolume", "snapshot", "-r", join(directory, "precious"), join(scaffold, "mine"));
    await failsWith(
      target.removeReceived("scaffold", new Set([uuid])),
      "RECEIVE_FAILED",
      /holds something that no restore put there/,
    );
    assert.deepEqual(await readdir(scaffold), ["mine"]);
    await btrfs("-q", "subvolume", "delete", join(scaffold, "mine"));
    await btrfs("-q", "subvolume", "snapshot", "-r", join(directory, "precious"), join(scaffold, uuid));
    await failsWith(
      target.removeReceived("scaffold", new Set([uuid])),
      "RECEIVE_FAILED",
      /it was not left by a restore/,
    );
    await btrfs("-q", "subvolume", "delete", join(scaffold, uuid));
    await symlink("../precious", join(scaffold, uuid));
    await failsWith(target.removeReceived("scaffold", new Set([uuid])), "RECEIVE_FAILED", /is in the way/);
    await rm(scaffold, { recursive: true });
    await symlink("precious", scaffold);
    await failsWith(target.removeReceived("scaffold", new Set([uuid])), "RECEIVE_FAILED", /is in the way/);
    assert.deepEqual(
      (await subvolumes(other)).map((path) => basename(path)),
      ["precious"],
    );
    await rm(scaffold);
    await target.removeReceived("scaffold", new Set([uuid]));
  });
});

test("does not follow a link that replaces a directory", async () => {
  await withTarget(async (target, directory, other) => {
    const stream = await buffer(send(null, first));
    await mkdir(join(directory, "elsewhere"));
    async function* exchanging(): AsyncGenerator<Buffer> {
      yield stream.subarray(0, 200_000);
      const stage = `.btrfs-snapshots-to-swift-in-${streamIdentity(first).uuid}`;
      while ((await readdir(join(directory, "way", stage)).catch(() => [])).length === 0) await sleep(20);
      await rename(join(directory, "way"), join(directory, "moved"));
      await symlink("elsewhere", join(directory, "way"));
      yield stream.subarray(200_000);
    }
    await target.receive(Readable.from(exchanging()), "way/s", streamIdentity(first), never);
    assert.deepEqual(await readdir(join(directory, "elsewhere")), []);
    assert.deepEqual(await readdir(join(directory, "moved")), ["s"]);
    assert.equal((await subvolumes(other)).length, 1);
  });
});

test("the snapshot it builds on is missing", async () => {
  await withTarget(async (target, directory, other) => {
    const error = await failsWith(
      target.receive(send(first, second), "s", streamIdentity(second), never),
      "RECEIVE_FAILED",
      /the snapshot that it builds on is not on this filesystem/,
    );
    assert.match(error.hint ?? "", /restore that one first/);
    assert.deepEqual([await subvolumes(other), await readdir(directory)], [[], []]);
  });
});

test("a full target is reported, and no half is left", async () => {
  const large = join(loopback.mountPoint, "large");
  await btrfs("-q", "subvolume", "create", large);
  await run("sh", "-c", 'head -c 125829120 /dev/urandom > "$1/random"', "sh", large);
  await btrfs("-q", "subvolume", "snapshot", "-r", large, join(loopback.mountPoint, "large-1"));
  const opened = await openSource(large, { sendProto: 1 }, never);
  const [only] = (await opened.list(never)).snapshots;
  assert.ok(only);
  await withTarget(async (target, directory, other) => {
    const stream = opened.send({ snapshot: only, sendParent: null }, never);
    await failsWith(
      target.receive(stream, "s", streamIdentity(only), never),
      "RECEIVE_FAILED",
      /the filesystem is full/,
    );
    assert.deepEqual([await subvolumes(other), await readdir(directory)], [[], []]);
  }, 128 * MiB);
  await opened.close();
  await btrfs("-q", "subvolume", "delete", join(loopback.mountPoint, "large-1"), large);
});

test("a read-only target", async () => {
  await withTarget(async (_target, directory, other) => {
    await run("mount", "-o", "remount,ro", other.mountPoint);
    const target = await openTarget(directory, never);
    const receive = (path: string): Promise<unknown> =>
      target.receive(send(null, first), path, streamIdentity(first), never);
    await failsWith(receive("s"), "RECEIVE_FAILED", /read-only/);
    await failsWith(receive("a/s"), "RECEIVE_FAILED", /read-only/);
    await target.close();
  });
});

test("an abort leaves no half", async () => {
  await withTarget(async (target, directory, other) => {
    const controller = new AbortController();
    const stream = await buffer(send(null, first));
    async function* stalling(): AsyncGenerator<Buffer> {
      yield stream.subarray(0, 100_000);
      setTimeout(() => controller.abort(), 100);
      await sleep(60_000, undefined, { signal: controller.signal });
    }
    const attempt = target.receive(Readable.from(stalling()), "s", streamIdentity(first), controller.signal);
    await failsWith(attempt, "ABORTED");
    assert.deepEqual([await subvolumes(other), await readdir(directory)], [[], []]);
  });
});

const receives = `
  const { openTarget } = await import(process.argv[1]);
  const never = new AbortController().signal;
  const target = await openTarget(process.argv[2], never);
  const expected = { uuid: process.argv[3], ctransid: Number(process.argv[4]) };
  await target.receive(process.stdin, "s", expected, never);
`;

test("a half that is left by a kill while receiving is not a snapshot, and the next attempt removes it", async () => {
  await withTarget(async (target, directory, other) => {
    const stream = await buffer(send(null, first));
    const module = new URL("../../src/btrfs/target.js", import.meta.url).href;
    const { uuid, ctransid } = streamIdentity(first);
    const args = ["--input-type=module", "-e", receives, module, directory, uuid, String(ctransid)];
    const child = spawn(process.execPath, args, { stdio: ["pipe", "inherit", "inherit"] });
    child.stdin.on("error", () => undefined);
    child.stdin.write(stream.subarray(0, 500_000));
    const folder = join(directory, `.btrfs-snapshots-to-swift-in-${uuid}`);
    while ((await readdir(folder).catch(() => [])).length === 0) await sleep(20);
    child.kill("SIGKILL");
    await new Promise((resolve) => child.once("exit", resolve));
    const half = join(folder, "s");
    assert.ok(parseUuid(uuid));
    // Read-only or not, nothing may build on it.
    assert.deepEqual(await sealedOn(target), []);
    await btrfs("-q", "property", "set", half, "ro", "true");
    assert.deepEqual(await sealedOn(target), []);
    // Somebody's snapshot, whatever its name: stays. What nobody finished: goes.
    await failsWith(
      target.receive(Readable.from([stream]), "s", { uuid, ctransid }, never),
      "RECEIVE_FAILED",
      /it was not left by a restore/,
    );
    await btrfs("-q", "property", "set", half, "ro", "false");
    await target.receive(Readable.from([stream]), "s", { uuid, ctransid }, never);
    assert.deepEqual(await readdir(directory), ["s"]);
    assert.deepEqual(
      (await subvolumes(other)).map((path) => basename(path)),
      ["s"],
    );
  });
});
