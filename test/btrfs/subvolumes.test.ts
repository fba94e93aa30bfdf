// The addon's facts about subvolumes, compared with what btrfs-progs reads from the same filesystem.

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { once } from "node:events";
import { chmod, mkdir, readdir, rename, rmdir, symlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { promisify } from "node:util";
import { Worker } from "node:worker_threads";
import { addonVersions } from "../../src/addon/load.ts";
import {
  deleteSubvolume,
  findChange,
  isBtrfsError,
  isSubvolume,
  listSubvolumes,
  setReadOnly,
  subvolumeInfo,
  subvolumePath,
  syncFilesystem,
} from "../../src/addon/subvolumes.ts";
import type { RawSubvolume } from "../../src/addon/subvolumes.ts";
import { btrfs, openLoopback, run, withLoopback } from "../support/loopback.ts";
import type { Loopback } from "../support/loopback.ts";
import { noBtrfs } from "../support/requirements.ts";

const skip = noBtrfs();
const SNAPSHOTS = 1000;
const bindingUrl = new URL("../../src/addon/subvolumes.js", import.meta.url).href;

/** Snapshots of two subvolumes, writable ones, nested ones, received ones: `count` snapshots of `a` in all. */
async function populate(top: string, count: number): Promise<void> {
  const script = `
    cd "$1"
    btrfs -q subvolume create a
    btrfs -q subvolume create b
    mkdir a/in snapshots received
    btrfs -q subvolume create a/in/nested
    btrfs -q subvolume snapshot -r b snapshots/b
    btrfs -q subvolume snapshot b snapshots/b-writable
    for i in $(seq "$2"); do
      if [ $((i % 100)) = 0 ]; then echo "$i" > a/file; fi
      btrfs -q subvolume snapshot -r a "snapshots/a $i"
    done
    btrfs -q send "snapshots/a 1" 2>/dev/null | btrfs -q receive received
    btrfs -q send -p "snapshots/a 1" "snapshots/a $2" 2>/dev/null | btrfs -q receive received
    btrfs filesystem sync .`;
  await run("sh", "-ec", script, "sh", top, String(count));
}

/** FIDEDUPERANGE of a file with one that holds the same: allowed in read-only subvolumes too. */
const dedupe = `
import fcntl, os, struct, sys
source, destination = (os.open(path, os.O_RDONLY) for path in sys.argv[1:])
size = os.fstat(source).st_size // 4096 * 4096
argument = bytearray(struct.pack("=QQHHI", 0, size, 1, 0, 0) + struct.pack("=qQQiI", destination, 0, 0, 0, 0))
fcntl.ioctl(source, 0xC0189436, argument)
assert struct.unpack_from("=Qi", argument, 40)[1] == 0`;

/** The fields of `btrfs subvolume show`, by their labels. */
async function show(path: string): Promise<Map<string, string>> {
  const lines = (await btrfs("subvolume", "show", path)).split("\n");
  return new Map(
    lines.flatMap((line) => {
      const [, label, value] = /^\t([^:\t]+):\s*(.*)$/.exec(line) ?? [];
      return label === undefined || value === undefined ? [] : [[label, value] as const];
    }),
  );
}

/** Our record in the words of `btrfs subvolume show`, which shows no time below the second. */
function asShown(row: RawSubvolume): Record<string, string> {
  return {
    UUID: row.uuid ?? "-",
    "Parent UUID": row.parentUuid ?? "-",
    "Received UUID": row.receivedUuid ?? "-",
    "Creation time": localTime(row.otimeNs),
    "Subvolume ID": String(row.id),
    Generation: String(row.generation),
    "Gen at creation": String(row.otransid),
    "Parent ID": String(row.parentId),
    Flags: row.readOnly ? "readonly" : "-",
    "Send transid": String(row.stransid),
    "Receive transid": String(row.rtransid),
    "Receive time": row.rtimeNs === null ? "-" : localTime(row.rtimeNs),
  };
}

function localTime(nanoseconds: bigint): string {
  const date = new Date(Number(nanoseconds / 1_000_000n));
  const two = (n: number): string => String(n).padStart(2, "0");
  const offset = -date.getTimezoneOffset();
  const zone = `${offset < 0 ? "-" : "+"}${two(Math.floor(Math.abs(offset) / 60))}${two(Math.abs(offset) % 60)}`;
  const day = `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())}`;
  return `${day} ${two(date.getHours())}:${two(date.getMinutes())}:${two(date.getSeconds())} ${zone}`;
}

/** Transaction ids and times to the nanosecond as `btrfs inspect-internal dump-tree` reads them from the disk. */
async function dumpRoots(device: string): Promise<Map<number, string>> {
  const text = await btrfs("inspect-internal", "dump-tree", "-t", "root", device);
  const items = text.split(/^\titem \d+ key /m).flatMap((item) => {
    const id = /^\((\d+|FS_TREE) ROOT_ITEM /.exec(item)?.[1];
    if (id === undefined) return [];
    const facts = ["ctransid", "otransid", "stransid", "rtransid", "ctime", "otime", "rtime"];
    const values = facts.map((fact) => new RegExp(`\\b${fact} ([0-9.]+)`).exec(item)?.[1] ?? "?");
    return [[id === "FS_TREE" ? 5 : Number(id), values.join(" ")] as const];
  });
  return new Map(items);
}

function asDumped(row: RawSubvolume): string {
  const seconds = (ns: bigint): string => `${ns / 1_000_000_000n}.${ns % 1_000_000_000n}`;
  const transids = [row.ctransid, row.otransid, row.stransid, row.rtransid];
  return [...transids, seconds(row.ctimeNs), seconds(row.otimeNs), seconds(row.rtimeNs ?? 0n)].join(" ");
}

function byPath(rows: readonly RawSubvolume[]): Map<string, RawSubvolume> {
  return new Map(rows.map((row) => [row.path, row]));
}

/** Runs `work` on every element, a few at a time. */
async function forEach<T>(elements: readonly T[], work: (element: T) => Promise<void>): Promise<void> {
  const rest = elements.values();
  const lane = async (): Promise<void> => {
    for (const element of rest) await work(element);
  };
  await Promise.all([lane(), lane(), lane()]);
}

/** How a call fails, without the directory. */
async function failure(call: Promise<unknown>, directory: string): Promise<string> {
  try {
    await call;
    return "not at all";
  } catch (error) {
    if (!isBtrfsError(error)) throw error;
    return `${error.code} ${error.errno} ${error.btrfsCode}: ${error.message.replaceAll(directory, "…")}`;
  }
}

describe("on a filesystem with a thousand snapshots", { skip }, () => {
  let loopback: Loopback;
  let top: string;

  before(async () => {
    loopback = await openLoopback({ sizeBytes: 2 ** 30 });
    top = loopback.mountPoint;
    await populate(top, SNAPSHOTS);
  });
  after(() => loopback.close());

  test("records equal btrfs subvolume show, field by field", async () => {
    const rows = await listSubvolumes(top);
    assert.equal(rows.length, SNAPSHOTS + 7);
    await forEach(rows, async (row) => {
      const shown = await show(join(top, row.path));
      const ours = asShown(row);
      const theirs = Object.fromEntries(Object.keys(ours).map((label) => [label, shown.get(label)]));
      assert.deepEqual({ path: row.path, ...ours }, { path: row.path, ...theirs });
    });
  });

  test("transaction ids and times equal those on disk, to the nanosecond", async () => {
    await syncFilesystem(top);
    const dumped = await dumpRoots(loopback.device);
    const rows = await listSubvolumes(top);
    assert.equal(new Set(rows.map((row) => row.otimeNs % 1_000_000_000n)).size > rows.length / 10, true);
    for (const row of rows) assert.equal(asDumped(row), dumped.get(row.id), row.path);
  });

  test("one subvolume's info and path equal its record", async () => {
    const rows = await listSubvolumes(top);
    await forEach(rows, async ({ path, pathIsExact, ...info }) => {
      assert.equal(pathIsExact, true);
      assert.deepEqual(await subvolumeInfo(top, info.id), info);
      assert.deepEqual(await subvolumeInfo(join(top, path)), info);
      assert.equal(await subvolumePath(top, info.id), path);
      assert.equal(await subvolumePath(join(top, path)), path);
    });
  });

  test("filters pass exactly what they should", async () => {
    const rows = await listSubvolumes(top);
    const a = byPath(rows).get("a");
    assert.ok(a?.uuid);
    for (const parentUuid of [undefined, a.uuid, a.uuid.toUpperCase(), "00000000-0000-0000-0000-000000000001"]) {
      for (const readOnly of [undefined, true, false]) {
        const byParent = parentUuid === undefined ? {} : { parentUuid };
        const options = readOnly === undefined ? byParent : { ...byParent, readOnly };
        const expected = rows
          .filter((row) => parentUuid === undefined || row.parentUuid === parentUuid.toLowerCase())
          .filter((row) => readOnly === undefined || row.readOnly === readOnly);
        assert.deepEqual(await listSubvolumes(top, options), expected);
      }
    }
    assert.equal((await listSubvolumes(top, { parentUuid: a.uuid, readOnly: true })).length, SNAPSHOTS);
    const unrelated = await listSubvolumes(top, { parentUuid: "00000000-0000-0000-0000-000000000000" });
    assert.equal(unrelated.every((row) => row.parentUuid === null) && unrelated.length > 0, true);
  });

  test("the whole filesystem is listed whatever part of it is mounted", async () => {
    const part = await loopback.mount("subvol=a");
    const everything = await listSubvolumes(top);
    assert.deepEqual(await listSubvolumes(part), everything);
    assert.deepEqual(await listSubvolumes(join(part, "in")), everything);
    assert.deepEqual(await listSubvolumes(join(top, "snapshots")), everything);
    const id = byPath(everything).get("a")?.id ?? -1;
    for (const below of [await listSubvolumes(part, { top: 0 }), await listSubvolumes(top, { top: id })]) {
      assert.deepEqual(
        below.map((row) => row.path),
        ["in/nested"],
      );
    }
  });

  test("a received snapshot names whose copy it is", async () => {
    const rows = byPath(await listSubvolumes(top));
    const original = rows.get(`snapshots/a ${SNAPSHOTS}`);
    const received = rows.get(`received/a ${SNAPSHOTS}`);
    assert.ok(original && received && received.rtimeNs !== null);
    assert.equal(received.receivedUuid, original.uuid);
    assert.equal(received.stransid, original.ctransid);
    assert.equal(received.parentUuid, rows.get("received/a 1")?.uuid);
    assert.equal(received.rtransid > received.otransid, true);
  });

  test("many calls at once, some of them failing, leave no file open", async () => {
    const openFiles = async (): Promise<number> => (await readdir("/proc/self/fd")).length;
    await listSubvolumes(top);
    const filesBefore = await openFiles();
    for (let round = 0; round < 20; round++) {
      const failing = [listSubvolumes("/proc"), subvolumeInfo(top, 2 ** 40), subvolumePath(join(top, "snapshots"))];
      await Promise.allSettled([listSubvolumes(top), subvolumePath(top), ...failing]);
    }
    assert.equal(await openFiles(), filesBefore);
  });

  test("a worker thread has it too", async () => {
    const code = `
      import(process.env.BINDING).then(({ listSubvolumes }) => listSubvolumes(process.env.TOP))
        .then((rows) => require("node:worker_threads").parentPort.postMessage(rows.length));`;
    const worker = new Worker(code, { eval: true, env: { BINDING: bindingUrl, TOP: top } });
    const messages: readonly unknown[] = await once(worker, "message");
    assert.deepEqual(messages, [(await listSubvolumes(top)).length]);
    await worker.terminate();
  });
});

describe("on a small filesystem", { skip }, () => {
  let loopback: Loopback;
  let top: string;

  before(async () => {
    loopback = await openLoopback({ sizeBytes: 2 ** 28 });
    top = loopback.mountPoint;
    await btrfs("subvolume", "create", join(top, "a"));
    await mkdir(join(top, "a", "directory"));
    await writeFile(join(top, "a", "file"), "content");
  });
  after(() => loopback.close());

  test("an empty filesystem has no subvolumes, but its top level has a record", async () => {
    await withLoopback({ sizeBytes: 2 ** 27 }, async ({ mountPoint }) => {
      assert.deepEqual(await listSubvolumes(mountPoint), []);
      const info = await subvolumeInfo(mountPoint);
      assert.deepEqual([info.id, info.parentId, info.readOnly, info.parentUuid], [5, 0, false, null]);
      assert.deepEqual(await subvolumeInfo(mountPoint, 5), info);
      assert.equal(await subvolumePath(mountPoint), "");
    });
  });

  test("names that are not UTF-8 are marked, all others are exact", async () => {
    const exact = ["plain", "ümläut", "😀", "new\nline", "- --", "x".repeat(255), "\u{10FFFF}", "\uFFFD"];
    // Latin-1, a lone continuation, overlong, cut, a surrogate, beyond Unicode.
    const [surrogate, beyond] = ["\\355\\240\\200", "\\364\\220\\200\\200"];
    const inexact = ["\\377", "a\\200b", "\\300\\257", "\\340\\200\\257", "\\342\\202", surrogate, beyond];
    await mkdir(join(top, "names"));
    for (const name of exact) await btrfs("subvolume", "create", "--", join(top, "names", name));
    for (const name of inexact) {
      await run("sh", "-ec", `btrfs subvolume create "$1/names/$(printf '${name}')"`, "sh", top);
    }
    const rows = (await listSubvolumes(top)).filter((row) => row.path.startsWith("names/"));
    const names = rows.filter((row) => row.pathIsExact).map((row) => row.path.slice("names/".length));
    assert.deepEqual(names, exact);
    assert.deepEqual(rows.filter((row) => !row.pathIsExact).length, inexact.length);
    for (const row of rows.filter((each) => !each.pathIsExact)) assert.match(row.path, /\uFFFD/);
  });

  test("is-subvolume, and deletion", async () => {
    assert.equal(await isSubvolume(top), true);
    assert.equal(await isSubvolume(join(top, "a")), true);
    assert.equal(await isSubvolume(join(top, "a", "directory")), false);
    assert.equal(await isSubvolume(join(top, "a", "file")), false);
    assert.equal(await isSubvolume("/proc"), false);
    await symlink("a", join(top, "link"));
    assert.equal(await isSubvolume(join(top, "link")), true);
    await btrfs("subvolume", "create", join(top, "gone"));
    const { id } = await subvolumeInfo(join(top, "gone"));
    await btrfs("subvolume", "create", join(top, "stays"));
    await deleteSubvolume(top, "stays", id);
    assert.equal(byPath(await listSubvolumes(top)).has("stays"), true);
    assert.equal(byPath(await listSubvolumes(top)).has("gone"), false);
  });

  test("explains in one sentence what is wrong with a path", async () => {
    const directory = join(top, "a", "directory");
    const notBtrfs = "EINVAL -22 NOT_BTRFS: /proc does not lie on a btrfs filesystem";
    assert.equal(await failure(listSubvolumes("/proc"), top), notBtrfs);
    assert.equal(await failure(subvolumeInfo("/proc"), top), notBtrfs);
    const notSubvolume = "EINVAL -22 NOT_SUBVOLUME: …/a/directory is not a subvolume";
    assert.equal(await failure(subvolumeInfo(directory), top), notSubvolume);
    assert.equal(await failure(subvolumePath(directory), top), notSubvolume);
    assert.match(
      await failure(subvolumePath(join(top, "a/file")), top),
      /NOT_SUBVOLUME: …\/a\/file is not a subvolume$/,
    );
    const absent = "ENOENT -2 STATFS_FAILED: …/x does not exist";
    assert.equal(await failure(listSubvolumes(join(top, "x")), top), absent);
    assert.equal(await failure(isSubvolume(join(top, "x")), top), absent);
    const through = await failure(isSubvolume(join(top, "a/file/x")), top);
    assert.match(through, /^ENOTDIR -20 STATFS_FAILED: .* of …\/a\/file\/x failed: Not a/);
    const missing = "ENOENT -2 SUBVOLUME_NOT_FOUND: no such subvolume on the filesystem of …";
    assert.equal(await failure(subvolumeInfo(top, 99999), top), missing);
    assert.equal(await failure(subvolumePath(top, 99999), top), missing);
    await btrfs("subvolume", "create", join(top, "outer"));
    await btrfs("subvolume", "create", join(top, "outer", "inner"));
    const full = await failure(deleteSubvolume(top, "outer", (await subvolumeInfo(join(top, "outer"))).id), top);
    assert.match(full, /^ENOTEMPTY -39 SNAP_DESTROY_FAILED: .*not empty$/);
  });

  test("without root it reports that and never crashes, and lists what may be entered", async () => {
    await chmod(loopback.directory, 0o755);
    const closed = join(top, "closed");
    await mkdir(closed, { mode: 0o700 });
    const code = `
      const { listSubvolumes, subvolumeInfo, isSubvolume } = await import(process.argv[1]);
      await isSubvolume("/");
      process.setgroups([]); process.setgid(65534); process.setuid(65534);
      const top = process.argv[2];
      const calls = [
        () => listSubvolumes(top),
        () => subvolumeInfo(top, 256),
        () => listSubvolumes(top + "/a", { top: 0 }),
        () => subvolumeInfo(top + "/a").then((info) => info.id),
        () => listSubvolumes(top + "/closed/x"),
      ];
      const outcomes = [];
      for (const call of calls) outcomes.push(await call().catch((e) => [e.code, e.btrfsCode, e.message].join(": ")));
      console.log(JSON.stringify(outcomes));`;
    const child = promisify(execFile)(process.execPath, ["--input-type=module", "-e", code, bindingUrl, top]);
    const outcomes: unknown = JSON.parse((await child).stdout);
    const refused = `of ${top} needs root (CAP_SYS_ADMIN)`;
    assert.deepEqual(outcomes, [
      `EPERM: SEARCH_FAILED: subvolume_iterator_next_info ${refused}`,
      `EPERM: SEARCH_FAILED: subvolume_info ${refused}`,
      [],
      256,
      `EACCES: STATFS_FAILED: statfs of ${closed}/x failed: Permission denied`,
    ]);
  });

  test("arguments that make no sense are refused before anything is done", async () => {
    await assert.rejects(listSubvolumes(""), TypeError);
    await assert.rejects(listSubvolumes(`${top}\0/x`), TypeError);
    await assert.rejects(listSubvolumes(top, { parentUuid: "not a uuid" }), TypeError);
    await assert.rejects(listSubvolumes(top, { parentUuid: "00" }), TypeError);
    await assert.rejects(listSubvolumes(top, { top: -1 }), TypeError);
    await assert.rejects(subvolumeInfo(top, 0.5), TypeError);
    await assert.rejects(subvolumeInfo(top, 2 ** 53), TypeError);
    await assert.rejects(deleteSubvolume(top, "a", 5), TypeError);
    await assert.rejects(deleteSubvolume(top, "a/b", 256), TypeError);
    for (const name of ["top", "readOnly", "parentUuid"]) {
      // After the first error nothing else may be thrown: a second error ended the process.
      const options: object = Object.defineProperty({ readOnly: 5, parentUuid: "no UUID" }, name, {
        get() {
          throw new RangeError(name);
        },
      });
      await assert.rejects(listSubvolumes(top, options), { name: "RangeError", message: name });
    }
  });

  test("finds what was changed in a received subvolume after it was received, and not what only looks changed", async () => {
    const dirty = join(top, "dirty");
    await btrfs("subvolume", "create", dirty);
    await run("sh", "-ec", 'cd "$1"; mkdir d; head -c 3000000 /dev/urandom >d/f; cp d/f g; echo x >x', "sh", dirty);
    await btrfs("subvolume", "snapshot", "-r", dirty, join(top, "dirty-1"));
    await withLoopback({ sizeBytes: 256 * 2 ** 20 }, async ({ mountPoint: target }) => {
      const copy = join(target, "dirty-1");
      const change = async (): Promise<unknown> => {
        await syncFilesystem(target);
        return (await findChange(target, (await subvolumeInfo(copy)).id))?.inode ?? null;
      };
      await run("sh", "-ec", 'btrfs -q send "$1" | btrfs -q receive "$2"', "sh", join(top, "dirty-1"), target);
      await syncFilesystem(target);
      const { ctransid, rtransid } = await subvolumeInfo(copy);
      assert.equal(ctransid > rtransid, true, "data is written out after the seal");
      assert.equal(await change(), null);
      await rename(copy, `${copy}-away`);
      await rename(`${copy}-away`, copy);
      await setReadOnly(copy, false);
      await setReadOnly(copy, true);
      assert.equal(await change(), null, "renamed, and writable for a moment");
      await run("/usr/bin/python3", "-c", dedupe, join(copy, "d/f"), join(copy, "g"));
      await run("btrfs", "balance", "start", "-m", target);
      assert.equal(await change(), null, "deduplicated and balanced");
      for (const script of ["chmod 600 x", "echo y >>d/f", "rm x"]) {
        const again = join(target, "again");
        await mkdir(again);
        await run("sh", "-ec", 'btrfs -q send "$1" | btrfs -q receive "$2"', "sh", join(top, "dirty-1"), again);
        await setReadOnly(join(again, "dirty-1"), false);
        await run("sh", "-ec", `cd "$1/dirty-1"; ${script}`, "sh", again);
        await setReadOnly(join(again, "dirty-1"), true);
        await syncFilesystem(target);
        const { id, receivedUuid } = await subvolumeInfo(join(again, "dirty-1"));
        assert.notEqual(receivedUuid, null);
        assert.notEqual(await findChange(target, id), null, script);
        await deleteSubvolume(again, "dirty-1", id);
        await rmdir(again);
      }
      assert.equal(await findChange(top, (await subvolumeInfo(dirty)).id), null, "was not received");
    });
  });

  test("listing continues while snapshots come and go", async () => {
    const script = `for i in $(seq 60); do
      btrfs -q subvolume snapshot -r "$1/a" "$1/churn $i"
      if [ "$i" -gt 5 ]; then btrfs -q subvolume delete "$1/churn $((i - 5))"; fi
    done`;
    const churn = run("sh", "-ec", script, "sh", top).then(() => "over");
    let lists = 0;
    while ((await Promise.race([churn, listSubvolumes(top)])) !== "over") lists++;
    assert.equal(lists > 5, true);
  });

  test("the addon reports what it was built with", () => {
    const { libbtrfsutil, napi } = addonVersions();
    assert.match(libbtrfsutil, /^1\.\d+\.\d+$/);
    assert.equal(napi, 8);
  });
});
