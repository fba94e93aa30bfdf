// Restores onto a disk that does not keep what is written to it. The kernel does not let `btrfs receive` see that: it
// exits with 0, and so does `btrfs filesystem sync` (Linux 6.18, btrfs-progs 6.2).

import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { readdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { openSource, type SourceOptions } from "../../src/btrfs/source.ts";
import { openTarget } from "../../src/btrfs/target.ts";
import { readDeviceErrors } from "../../src/addon/subvolumes.ts";
import { BackupError } from "../../src/errors.ts";
import { streamIdentity, type Snapshot } from "../../src/plan/model.ts";
import { FIRST_BYTES, openFailingDisk, type FailingDisk } from "../support/failing-disk.ts";
import { btrfs, openLoopback, type Loopback } from "../support/loopback.ts";
import { noBtrfs, noProgs } from "../support/requirements.ts";

const never = new AbortController().signal;

interface Options extends SourceOptions {
  readonly forceDecompress?: boolean;
}

describe("a disk that loses what is written to it", { skip: noBtrfs() }, () => {
  let origin: Loopback;
  let home: string;
  before(async () => {
    origin = await openLoopback({ sizeBytes: 256 * 2 ** 20, mountOptions: "compress-force=zstd" });
    home = join(origin.mountPoint, "home");
    await btrfs("subvolume", "create", home);
    // It compresses to three quarters.
    await writeFile(join(home, "file"), randomBytes(1.5 * FIRST_BYTES).toString("base64"));
    await btrfs("subvolume", "snapshot", "-r", home, join(origin.mountPoint, "one"));
  });
  after(() => origin.close());

  async function receive(
    disk: FailingDisk,
    { forceDecompress = false, ...options }: Options,
    disturb: () => Promise<unknown>,
  ): Promise<Snapshot | BackupError> {
    const source = await openSource(home, options, never);
    const target = await openTarget(disk.mountPoint, never, { forceDecompress });
    try {
      const [snapshot] = (await source.list(never)).snapshots;
      assert.ok(snapshot);
      await disturb();
      const stream = source.send({ snapshot, sendParent: null }, never);
      return await target.receive(stream, "one", streamIdentity(snapshot), never).catch((error: unknown) => {
        assert.ok(error instanceof BackupError, String(error));
        return error;
      });
    } finally {
      await Promise.all([source.close(), target.close()]);
    }
  }

  const kinds: readonly (readonly [string, Options])[] = [
    ["plain writes", { sendProto: 1 }],
    ["compressed writes", { sendProto: null }],
    ["compressed writes, decompressed", { sendProto: null, forceDecompress: true }],
  ];
  for (const [kind, options] of kinds) {
    const skip = options.forceDecompress === true ? noProgs(6, 2) : false;
    test(`${kind}: the restore fails, and leaves nothing`, { skip }, async () => {
      const disk = await openFailingDisk();
      try {
        const failure = await receive(disk, options, () => disk.fail());
        assert.ok(failure instanceof BackupError, "a restore of lost data succeeded");
        assert.equal(failure.code, "RECEIVE_FAILED");
        assert.match(failure.message, /one is not safely on disk: /);
        assert.match(failure.hint ?? "", /dmesg/);
        assert.deepEqual(await readdir(disk.mountPoint), []);
        assert.ok((await readDeviceErrors(disk.mountPoint)).some(({ write }) => write > 0));
      } finally {
        await disk.close();
      }
    });
  }

  test("errors from before the restore do not count", async () => {
    const disk = await openFailingDisk();
    try {
      await disk.fail();
      await receive(disk, { sendProto: 1 }, async () => undefined);
      await disk.heal();
      const received = await receive(disk, { sendProto: null }, async () => undefined);
      assert.ok(!(received instanceof BackupError), received instanceof BackupError ? received.message : "");
      assert.deepEqual(await readFile(join(disk.mountPoint, "one/file")), await readFile(join(home, "file")));
    } finally {
      await disk.close();
    }
  });
});
