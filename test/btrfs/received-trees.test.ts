// Where `btrfs receive` alone builds another tree than was sent, although the stream is good: what a restore makes of it.

import assert from "node:assert/strict";
import { chmod, chown, mkdir, rename, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { openSource } from "../../src/btrfs/source.ts";
import { openTarget } from "../../src/btrfs/target.ts";
import type { RestoreTarget, SnapshotSource } from "../../src/operations/ports.ts";
import { streamIdentity, type Snapshot } from "../../src/plan/model.ts";
import { ACL, COMPRESSION, DEFAULT_ACL, OTHER_ACL, setAttribute, ZSTD } from "../support/attributes.ts";
import { btrfs, openLoopback, run, type Loopback } from "../support/loopback.ts";
import { noBtrfs } from "../support/requirements.ts";

const never = new AbortController().signal;
const MiB = 1024 * 1024;

describe("a restore where btrfs receive alone builds another tree", { skip: noBtrfs() }, () => {
  let disk: Loopback;
  let other: Loopback;
  let target: RestoreTarget;
  let number = 0;

  before(async () => {
    [disk, other] = await Promise.all([openLoopback({ sizeBytes: 256 * MiB }), openLoopback({ sizeBytes: 256 * MiB })]);
    target = await openTarget(other.mountPoint, never);
  });
  after(async () => {
    await target.close();
    await Promise.all([disk.close(), other.close()]);
  });

  interface Home {
    readonly path: string;
    /** Takes a snapshot, restores it on top of the one before, and looks whether both trees are equal. */
    readonly passOn: () => Promise<Snapshot>;
    readonly restored: () => string;
  }

  /** A subvolume with files that are older than whatever is done to its root. */
  async function makeHome(use: (home: Home) => Promise<void>): Promise<void> {
    number += 1;
    const path = join(disk.mountPoint, `home-${number}`);
    await btrfs("-q", "subvolume", "create", path);
    await mkdir(join(path, "folder"));
    for (const name of ["old", "folder/old", "folder/other"]) await writeFile(join(path, name), name, { mode: 0o600 });
    const source: SnapshotSource = await openSource(path, { sendProto: null }, never);
    let before: Snapshot | null = null;
    const passOn = async (): Promise<Snapshot> => {
      const name = `${number}-${before === null ? 1 : before.id}`;
      await btrfs("-q", "subvolume", "snapshot", "-r", path, join(disk.mountPoint, name));
      const snapshot: Snapshot = (await source.list(never)).snapshots.at(-1) ?? assert.fail();
      const stream = source.send({ snapshot, sendParent: before }, never);
      const received = await target.receive(stream, name, streamIdentity(snapshot), never);
      before = snapshot;
      const trees = [join(disk.mountPoint, name), join(other.mountPoint, name)] as const;
      assert.equal(await differences(...trees), "");
      const present = (await target.list(new Set([snapshot.uuid]), never)).find(({ uuid }) => uuid === received.uuid);
      assert.deepEqual([present?.sealed, present?.changed], [true, null]);
      return received;
    };
    const restored = (): string => join(other.mountPoint, before?.path ?? "");
    await use({ path, passOn, restored }).finally(() => source.close());
  }

  /** The time of the uppermost directory is not compared: receiving changes it. */
  async function differences(a: string, b: string): Promise<string> {
    const listing = await run("rsync", "-aHAXn", "--checksum", "--delete", "-i", `${a}/`, `${b}/`);
    return listing
      .split("\n")
      .filter((line) => !/^\.d\.\.t\.{6} \.\/$/.test(line))
      .join("\n");
  }

  for (const [name, value, another] of [
    [DEFAULT_ACL, ACL, OTHER_ACL],
    [COMPRESSION, ZSTD, Buffer.from("lzo").toString("hex")],
  ] as const) {
    test(`gives older files no ${name} of the root, whether it is new, as before, changed or removed`, () =>
      makeHome(async ({ path, passOn }) => {
        await setAttribute(path, name, value);
        await passOn();
        // A file made under the root inherits it; in the folder it does not.
        for (const file of ["new", "folder/new"]) await writeFile(join(path, file), "new");
        await passOn();
        await setAttribute(path, name, another);
        await writeFile(join(path, "folder/newer"), "newer");
        await passOn();
        await setAttribute(path, name, null);
        await writeFile(join(path, "folder/newest"), "newest");
        await passOn();
      }));
  }

  test("gives a snapshot no property of the place that it is restored to", () =>
    makeHome(async ({ passOn }) => {
      await setAttribute(other.mountPoint, COMPRESSION, ZSTD);
      await passOn().finally(() => setAttribute(other.mountPoint, COMPRESSION, null));
    }));

  test("keeps the setuid bit of a program that got another owner and its bit again", () =>
    makeHome(async ({ path, passOn, restored }) => {
      const [tool, plain] = [join(path, "folder/old"), join(path, "old")];
      await chmod(tool, 0o6755);
      await chmod(plain, 0o4755);
      await passOn();
      // Linux takes the bits away with each change of the owner.
      await chown(tool, 1000, 1000);
      await chmod(tool, 0o6755);
      await chown(plain, 1000, 1000);
      const received = await passOn();
      assert.equal((await stat(join(restored(), "folder/old"))).mode & 0o7777, 0o6755);
      assert.equal((await stat(join(restored(), "old"))).mode & 0o7777, 0o755, "this one lost it for good");
      assert.ok(received.ctransid > 0);
    }));

  test("keeps it where the directory is moved, and gives it to no other file of that name", () =>
    makeHome(async ({ path, passOn, restored }) => {
      await chmod(join(path, "folder/old"), 0o4755);
      await chmod(join(path, "folder/other"), 0o4755);
      await passOn();
      await chown(join(path, "folder/old"), 1000, 1000);
      await chmod(join(path, "folder/old"), 0o4755);
      await rename(join(path, "old"), join(path, "folder/other"));
      await chown(join(path, "folder/other"), 1000, 1000);
      await rename(join(path, "folder"), join(path, "moved"));
      await passOn();
      assert.equal((await stat(join(restored(), "moved/old"))).mode & 0o7777, 0o4755);
      assert.equal((await stat(join(restored(), "moved/other"))).mode & 0o7777, 0o600);
    }));
});
