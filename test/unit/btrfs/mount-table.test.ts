// Parsing the mount table, and finding the mount that shows a subvolume.

import assert from "node:assert/strict";
import { test } from "node:test";
import { parseMountInfo, pathThrough, type Mount } from "../../../src/btrfs/mount-table.ts";

/** As a Debian with `subvol=@`, a bind mount and odd names shows it. */
const lines = [
  "27 1 0:25 /@ / rw,relatime shared:1 - btrfs /dev/vda2 rw,space_cache=v2,subvolid=256,subvol=/@",
  "28 27 0:25 /@home /home rw shared:2 master:3 - btrfs /dev/vda2 rw,subvolid=257,subvol=/@home",
  "29 27 0:25 /@data/sub\\040dir /srv/a\\134b\\011c rw - btrfs /dev/mapper/x\\043y rw,subvolid=258,subvol=/@data",
  "30 27 0:25 /@old//deleted /old rw - btrfs /dev/vda2 rw,subvolid=259,subvol=/@old",
  "31 27 0:22 / /proc rw - proc proc rw",
  "",
].join("\n");

const mount = (root: string, mountPoint: string): Mount => ({
  id: 1,
  device: "0:25",
  root,
  mountPoint,
  filesystem: "btrfs",
  source: "/dev/vda2",
});

const through = (root: string, mountPoint: string, path: string): string | null =>
  pathThrough(mount(root, mountPoint), path);

test("mountinfo: fields, optional fields, octal escapes", () => {
  assert.deepEqual(parseMountInfo(Buffer.from(lines)), [
    { id: 27, device: "0:25", root: "/@", mountPoint: "/", filesystem: "btrfs", source: "/dev/vda2" },
    { id: 28, device: "0:25", root: "/@home", mountPoint: "/home", filesystem: "btrfs", source: "/dev/vda2" },
    {
      id: 29,
      device: "0:25",
      root: "/@data/sub dir",
      mountPoint: "/srv/a\\b\tc",
      filesystem: "btrfs",
      source: "/dev/mapper/x#y",
    },
    { id: 31, device: "0:22", root: "/", mountPoint: "/proc", filesystem: "proc", source: "proc" },
  ]);
});

test("mountinfo: UTF-8 is kept, a line with other bytes is left out", () => {
  const utf8 = parseMountInfo(Buffer.from("40 27 0:25 /Überall /mnt/ü rw - btrfs /dev/vda2 rw\n"));
  assert.deepEqual(
    utf8.map(({ root, mountPoint }) => [root, mountPoint]),
    [["/Überall", "/mnt/ü"]],
  );
  assert.deepEqual(parseMountInfo(Buffer.from("40 27 0:25 / /mnt/\xff rw - btrfs /dev/vda2 rw\n", "latin1")), []);
});

test("mountinfo: an invalid line is left out", () => {
  for (const text of ["", "\n", "27 1 0:25", "27 1 0:25 / /mnt rw", " - btrfs x"]) {
    assert.deepEqual(parseMountInfo(Buffer.from(text)), [], text);
  }
});

test("a mount of the top level shows everything", () => {
  assert.equal(through("/", "/mnt/top", "@home/.snapshots/1/snapshot"), "/mnt/top/@home/.snapshots/1/snapshot");
  assert.equal(through("/", "/", "a"), "/a");
  assert.equal(through("/", "/", ""), "/");
  assert.equal(through("/", "/mnt/top", ""), "/mnt/top");
});

test("a mount of a subvolume shows it and what is below", () => {
  assert.equal(through("/@home", "/home", "@home"), "/home");
  assert.equal(through("/@home", "/", "@home"), "/");
  assert.equal(through("/@home", "/", "@home/.snapshots/1/snapshot"), "/.snapshots/1/snapshot");
  assert.equal(through("/@home", "/home", "@snapshots/1"), null);
  assert.equal(through("/@home", "/home", ""), null);
});

test("a name that only begins or ends alike is another name", () => {
  assert.equal(through("/@home", "/home", "@home2"), null);
  assert.equal(through("/@home", "/mnt/x@home", "@home/a"), "/mnt/x@home/a");
  assert.equal(through("/a", "/mnt/data", "data/a"), null);
});

test("a bind mount of a directory shows what lies below that directory", () => {
  assert.equal(through("/@data/dir", "/srv", "@data/dir/snapshot"), "/srv/snapshot");
  assert.equal(through("/@data/dir", "/srv", "@data"), null);
});
