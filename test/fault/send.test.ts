// Ways in which `btrfs send` fails, and what the reader of its stream makes of them.

import assert from "node:assert/strict";
import { chmod, mkdir, open, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { Readable } from "node:stream";
import { buffer } from "node:stream/consumers";
import { after, afterEach, before, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { openSource } from "../../src/btrfs/source.ts";
import { BackupError } from "../../src/errors.ts";
import type { DirectReadable, SnapshotSource } from "../../src/operations/ports.ts";
import type { Snapshot } from "../../src/plan/model.ts";
import { observe } from "../../src/stream/tap.ts";
import { btrfs, openLoopback, run, withLoopback, type Loopback } from "../support/loopback.ts";

const never = new AbortController().signal;
const MiB = 1024 * 1024;
const realPath = process.env["PATH"] ?? "";

/** Found before any stand-in is in the way: a stand-in that calls itself would never stop forking. */
let realBtrfs: string;
let loopback: Loopback;
let source: SnapshotSource;
let first: Snapshot;
let second: Snapshot;

before(async () => {
  realBtrfs = (await run("sh", "-c", "command -v btrfs")).trim();
  loopback = await openLoopback({ sizeBytes: 1024 * MiB });
  const home = join(loopback.mountPoint, "home");
  await btrfs("-q", "subvolume", "create", home);
  await run("sh", "-c", 'head -c 134217728 /dev/urandom > "$1/random"', "sh", home);
  await btrfs("-q", "subvolume", "snapshot", "-r", home, join(loopback.mountPoint, "first"));
  await run("sh", "-c", 'head -c 67108864 /dev/urandom > "$1/more"', "sh", home);
  await btrfs("-q", "subvolume", "snapshot", "-r", home, join(loopback.mountPoint, "second"));
  source = await openSource(home, { sendProto: 1 }, never);
  const [one, two] = (await source.list(never)).snapshots;
  assert.ok(one && two);
  [first, second] = [one, two];
});

afterEach(() => {
  process.env["PATH"] = realPath;
});

after(async () => {
  await source.close();
  await loopback.close();
});

interface Outcome {
  readonly bytes: number;
  readonly ended: boolean;
  readonly error: unknown;
}

/** The pieces of a stream, read as one. */
async function* pieces(stream: Readable): AsyncGenerator<Buffer> {
  for await (const chunk of stream) yield chunk as Buffer;
}

/** The same, read into memory that is used again and again. */
async function* directPieces(stream: Readable): AsyncGenerator<Buffer> {
  const memory = Buffer.alloc(MiB);
  const { readInto } = stream as DirectReadable;
  for (let bytes = 0; (bytes = await readInto(memory)) > 0;) yield memory.subarray(0, bytes);
}

const ways = { "as a stream": pieces, directly: directPieces };

/** Reads a stream to its end or failure; `meanwhile` runs once, after the first megabyte, with the reader waiting. */
async function consumeBy(read: typeof pieces, stream: Readable, meanwhile?: () => Promise<void>): Promise<Outcome> {
  let bytes = 0;
  let ended = false;
  let left = meanwhile;
  stream.once("end", () => void (ended = true));
  try {
    for await (const chunk of read(stream)) {
      bytes += chunk.length;
      if (left === undefined || bytes < MiB) continue;
      await left();
      left = undefined;
    }
    return { bytes, ended, error: null };
  } catch (error) {
    return { bytes, ended, error };
  }
}

function assertFailed({ ended, error }: Outcome, message: RegExp): void {
  assert.ok(error instanceof BackupError, `it ended well: ${String(error)}`);
  assert.equal(error.code, "SEND_FAILED");
  assert.match(error.message, message);
  assert.equal(ended, false, "an end was emitted");
}

/** The process id of the `btrfs send` that this process has started. */
async function senderPid(): Promise<number> {
  const children = await readFile(`/proc/${process.pid}/task/${process.pid}/children`, "utf8");
  for (const pid of children.trim().split(" ")) {
    const command = await readFile(`/proc/${pid}/cmdline`, "utf8").catch(() => "");
    if (command.startsWith("btrfs\0send\0")) return Number(pid);
  }
  throw new Error("no btrfs send is running");
}

/** A program that takes the place of btrfs for one test; `$real` is the true one. */
async function replaceBtrfs(script: string): Promise<void> {
  const directory = join(loopback.directory, "programs");
  await mkdir(directory, { recursive: true });
  await writeFile(join(directory, "btrfs"), `#!/bin/sh\nreal=${realBtrfs}\n${script}\n`);
  await chmod(join(directory, "btrfs"), 0o755);
  process.env["PATH"] = `${directory}:${realPath}`;
}

const full = (): Readable => source.send({ snapshot: first, sendParent: null }, never);

for (const [way, read] of Object.entries(ways)) {
  const consume = (stream: Readable, meanwhile?: () => Promise<void>): Promise<Outcome> =>
    consumeBy(read, stream, meanwhile);

  describe(`a send stream that is read ${way}, when`, () => {
    test("btrfs send is killed", async () => {
      for (const [signal, name] of [
        ["SIGKILL", /killed by SIGKILL/],
        ["SIGTERM", /killed by SIGTERM|status 143/],
        ["SIGSEGV", /killed by SIGSEGV/],
      ] as const) {
        assertFailed(await consume(full(), async () => void process.kill(await senderPid(), signal)), name);
      }
    });

    test("btrfs send is stopped and continued: the stream is right, or it fails", async () => {
      const right = await buffer(full());
      let damaged = 0;
      for (let attempt = 0; attempt < 6; attempt++) {
        const stopAndContinue = async (): Promise<void> => {
          const pid = await senderPid();
          try {
            for (let times = 0; times < 20; times++) {
              process.kill(pid, "SIGSTOP");
              await sleep(5);
              process.kill(pid, "SIGCONT");
              await sleep(1);
            }
          } catch {
            // The stream that was read ahead was damaged, and was ended for that.
          }
        };
        const chunks: Buffer[] = [];
        const stream = full();
        observe(stream, (chunk) => void chunks.push(Buffer.from(chunk)));
        const outcome = await consume(stream, stopAndContinue);
        if (outcome.error === null) {
          assert.ok(Buffer.concat(chunks).equals(right), "another stream, and no error");
          continue;
        }
        damaged += 1;
        assertFailed(outcome, /./);
      }
      console.log(`stopped and continued: ${damaged} of 6 streams were damaged, and refused`);
    });

    test("btrfs send exits 1 after a complete stream", async () => {
      await replaceBtrfs('"$real" "$@"; echo "ERROR: what a pity" >&2; exit 1');
      assertFailed(await consume(full()), /exited with status 1: what a pity/);
    });

    test("btrfs send exits 1 after half a stream", async () => {
      await replaceBtrfs('"$real" "$@" | head -c 50000000; exit 1');
      assertFailed(await consume(full()), /exited with status 1/);
    });

    test("btrfs send exits 0 after half a stream", async () => {
      await replaceBtrfs('"$real" "$@" | head -c 50000000; exit 0');
      assertFailed(await consume(full()), /damaged/);
    });

    test("btrfs send exits 0 after a stream with a changed byte", async () => {
      const changeByte = 'head -c 1 | tr "\\000-\\377" "\\001-\\377\\000"';
      await replaceBtrfs(`"$real" "$@" | { head -c 50000000; ${changeByte}; cat; }; exit 0`);
      assertFailed(await consume(full()), /damaged/);
    });

    test("btrfs send exits 0 without having sent anything", async () => {
      await replaceBtrfs("exit 0");
      assertFailed(await consume(full()), /there is nothing at byte 0/);
    });

    test("btrfs send leaves the data of files out", async () => {
      await replaceBtrfs('shift; exec "$real" send --no-data "$@"');
      assertFailed(await consume(full()), /without the data of files/);
    });

    test("btrfs send sends another snapshot, or on another base", async () => {
      const other = join(loopback.mountPoint, "second");
      await replaceBtrfs(`"$real" send -q ${other}`);
      assertFailed(await consume(full()), /the send stream is of .*, expected was/);
      const difference = (): Readable => source.send({ snapshot: second, sendParent: first }, never);
      assertFailed(await consume(difference()), /on top of nothing, expected was/);
      await replaceBtrfs(`"$real" send -q -p ${join(loopback.mountPoint, "first")} ${other}`);
      assert.equal((await consume(difference())).error, null);
      const inFull = source.send({ snapshot: second, sendParent: null }, never);
      assertFailed(await consume(inFull), /on top of .*, expected was nothing/);
    });

    test("btrfs send writes nothing any more", { timeout: 20_000 }, async () => {
      await replaceBtrfs('"$real" "$@" | head -c 5000000; exec sleep 1000');
      const controller = new AbortController();
      const stream = source.send({ snapshot: first, sendParent: null }, controller.signal);
      setTimeout(() => controller.abort(), 500);
      const { ended, error } = await consume(stream);
      assert.ok(error instanceof BackupError && error.code === "ABORTED", String(error));
      assert.equal(ended, false);
    });

    test("the snapshot was made writable or deleted after it was listed", async () => {
      const place = join(loopback.mountPoint, "short-lived");
      await btrfs("-q", "subvolume", "snapshot", "-r", join(loopback.mountPoint, "home"), place);
      const snapshot = (await source.list(never)).snapshots.at(-1);
      assert.equal(snapshot?.path, "short-lived");
      await btrfs("-q", "property", "set", place, "ro", "false");
      assertFailed(await consume(source.send({ snapshot, sendParent: null }, never)), /made writable/);
      await writeFile(join(place, "change"), "change");
      await btrfs("-q", "property", "set", place, "ro", "true");
      await btrfs("-q", "filesystem", "sync", place);
      assertFailed(await consume(source.send({ snapshot, sendParent: null }, never)), /at transaction .* expected was/);
      await btrfs("-q", "subvolume", "delete", place);
      assertFailed(await consume(source.send({ snapshot, sendParent: null }, never)), /short-lived is gone/);
      // Another one in its place is another one.
      await btrfs("-q", "subvolume", "snapshot", "-r", join(loopback.mountPoint, "first"), place);
      assertFailed(await consume(source.send({ snapshot, sendParent: null }, never)), /short-lived is gone/);
      await btrfs("-q", "subvolume", "delete", place);
    });

    test("the disk gives back other bytes than were written", async () => {
      await withLoopback({ sizeBytes: 256 * MiB }, async (other) => {
        const home = join(other.mountPoint, "home");
        await btrfs("-q", "subvolume", "create", home);
        await writeFile(join(home, "good"), Buffer.alloc(4 * MiB, "good"));
        await writeFile(join(home, "rotten"), Buffer.alloc(4 * MiB, "look here for me"));
        await btrfs("-q", "subvolume", "snapshot", "-r", home, join(other.mountPoint, "one"));
        await run("umount", other.mountPoint);
        await rot(other.device, "look here for me");
        await run("mount", other.device, other.mountPoint);
        const opened = await openSource(home, { sendProto: 1 }, never);
        const snapshot = (await opened.list(never)).snapshots[0];
        assert.ok(snapshot);
        // The metadata is intact, so the estimate shows nothing.
        assert.ok((await opened.estimate({ snapshot, sendParent: null }, never)).bytes > 8 * MiB);
        const outcome = await consume(opened.send({ snapshot, sendParent: null }, never));
        assertFailed(outcome, /the disk did not give back what was written/);
        assert.ok(outcome.bytes > 0);
        await opened.close();
      });
    });
  });
}

/** Changes a byte in the middle of the first extent that begins with this text. */
async function rot(device: string, text: string): Promise<void> {
  const file = await open(device, "r+");
  try {
    const { buffer: bytes } = await file.read(Buffer.alloc(200 * MiB), 0, 200 * MiB, 0);
    const place = bytes.indexOf(text.repeat(1000));
    assert.ok(place > 0, "the data is not on the disk");
    await file.write(Buffer.from("rot"), 0, 3, place + 2 * MiB);
    await file.sync();
  } finally {
    await file.close();
  }
}

test("no process is left behind by all this", async () => {
  await source.close();
  const children = await readFile(`/proc/${process.pid}/task/${process.pid}/children`, "utf8");
  const names = await Promise.all(
    children
      .split(" ")
      .filter(Boolean)
      .map((pid) => readFile(`/proc/${pid}/cmdline`, "utf8")),
  );
  // The rig has one that takes the filesystem down should this process be killed.
  assert.deepEqual(
    names.filter((name) => /\0send\0|btrfs\0|^age\0|^zstd\0/.test(name)),
    [],
  );
});
