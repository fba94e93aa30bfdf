// Snapshots in every mount layout that distributions and tools use.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { mkdir, readdir, readFile, readlink, symlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { Readable } from "node:stream";
import { after, afterEach, before, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { openSource } from "../../src/btrfs/source.ts";
import { openTarget } from "../../src/btrfs/target.ts";
import { BackupError } from "../../src/errors.ts";
import type { SnapshotSource } from "../../src/operations/ports.ts";
import type { Snapshot } from "../../src/plan/model.ts";
import { btrfs, openLoopback, run, type Loopback } from "../support/loopback.ts";

const never = new AbortController().signal;
const sourceModule = new URL("../../src/btrfs/source.js", import.meta.url).href;

/** One filesystem with what snapper, Timeshift and btrbk make side by side; each test mounts it its own way. */
let loopback: Loopback;

/** The digests of the streams that plain `btrfs send` makes while the top level is mounted; by path, or path and send parent. */
const digests = new Map<string, string>();

let mounted: string[] = [];
let mountCount = 0;

const inSnapper = (number: number): string => `@home/.snapshots/${number}/snapshot`;
const inBtrbk = (number: number): string => `btrbk/@home.${number}`;
const inUbuntu = (number: number): string => `@snapshots/${number}/snapshot`;
const inTimeshift = (number: number): string => `timeshift/data-${number}`;
const named = (number: number): string => `x@home/${number}`;

const ofHome = [inSnapper(1), inBtrbk(1), inSnapper(2), inBtrbk(2)];
const ofRoot = [inUbuntu(1), inUbuntu(2)];
const ofData = [inTimeshift(1), inTimeshift(2)];
const ofNamed = [named(1), named(2)];

before(async () => {
  loopback = await openLoopback({ sizeBytes: 512 * 1024 * 1024 });
  const top = loopback.mountPoint;
  for (const name of ["@", "@home", "@snapshots", "a", "x@home", "timeshift", "@home/.snapshots", "@home/data"]) {
    await btrfs("-q", "subvolume", "create", join(top, name));
  }
  await mkdir(join(top, "btrbk"));
  for (const number of [1, 2]) await fill(top, number);
  for (const paths of [ofHome, ofRoot, ofData, ofNamed]) {
    for (const [index, path] of paths.entries()) {
      const sendParent = paths[index - 1];
      digests.set(path, await digest(plainSend(join(top, path))));
      if (sendParent === undefined) continue;
      digests.set(`${sendParent} > ${path}`, await digest(plainSend("-p", join(top, sendParent), join(top, path))));
    }
  }
  await run("umount", top);
});

afterEach(async () => {
  for (const mountPoint of mounted.toReversed()) {
    await run("umount", "--recursive", mountPoint).catch((error: unknown) => {
      // util-linux 2.41 takes a mount that is covered by this one with it.
      if (!String(error).includes("not mounted")) throw error;
    });
  }
  mounted = [];
});

after(() => loopback.close());

async function fill(top: string, number: number): Promise<void> {
  for (const name of ["@", "@home", "@home/data", "x@home"]) {
    await writeFile(join(top, name, `file-${number}`), `${name} ${number}\n`.repeat(20_000));
  }
  await mkdir(join(top, "@home/.snapshots", String(number)));
  await mkdir(join(top, "@snapshots", String(number)));
  const snapshot = (source: string, place: string): Promise<string> =>
    btrfs("-q", "subvolume", "snapshot", "-r", join(top, source), join(top, place));
  await snapshot("@home", inSnapper(number));
  await snapshot("@home", inBtrbk(number));
  await snapshot("@", inUbuntu(number));
  await snapshot("@home/data", inTimeshift(number));
  await snapshot("x@home", named(number));
}

function plainSend(...args: readonly string[]): Readable {
  return spawn("btrfs", ["send", "-q", ...args], { stdio: ["ignore", "pipe", "inherit"] }).stdout;
}

async function digest(stream: Readable): Promise<string> {
  const hash = createHash("sha256");
  for await (const chunk of stream) hash.update(chunk as Buffer);
  return hash.digest("hex");
}

/** Mounts the filesystem for one test, by default in a new directory. */
async function mount(options: string, at?: string): Promise<string> {
  const mountPoint = at ?? join(loopback.directory, `layout-${++mountCount}`);
  await mkdir(mountPoint, { recursive: true });
  await run("mount", "-t", "btrfs", "-o", options, loopback.device, mountPoint);
  mounted.push(mountPoint);
  return mountPoint;
}

/** Shows a directory in another place too, on top of whatever is there. */
async function bind(directory: string, at: string): Promise<void> {
  await mkdir(at, { recursive: true });
  await run("mount", "--bind", directory, at);
  mounted.push(at);
}

interface Found {
  /** Processes that held a private mount while a stream was read. */
  readonly holders: readonly string[];
}

/** Every snapshot of the subvolume at a path, full and as difference: all must be what plain `btrfs send` made. */
async function sendAll(path: string, paths: readonly string[]): Promise<Found> {
  const source = await openSource(path, { sendProto: 1 }, never);
  const holders = new Set<string>();
  try {
    const { snapshots } = await source.list(never);
    assert.deepEqual(
      snapshots.map((snapshot) => snapshot.path),
      paths,
    );
    for (const [index, snapshot] of snapshots.entries()) {
      const sendParent = snapshots[index - 1] ?? null;
      await sendOne(source, snapshot, null);
      if (sendParent !== null) await sendOne(source, snapshot, sendParent);
      for (const holder of await findHolders()) holders.add(holder);
    }
  } finally {
    await source.close();
  }
  assert.deepEqual(await findHolders(), [], "a private mount stays behind");
  return { holders: [...holders] };
}

async function sendOne(source: SnapshotSource, snapshot: Snapshot, sendParent: Snapshot | null): Promise<void> {
  const name = sendParent === null ? snapshot.path : `${sendParent.path} > ${snapshot.path}`;
  assert.equal(await digest(source.send({ snapshot, sendParent }, never)), digests.get(name), name);
}

/** The processes in whose mount namespace this filesystem lies on /mnt. */
async function findHolders(): Promise<string[]> {
  const found: string[] = [];
  for (const pid of (await readdir("/proc")).filter((name) => /^\d+$/.test(name))) {
    const mounts = await readFile(`/proc/${pid}/mountinfo`, "utf8").catch(() => "");
    if (mounts.includes(` /mnt ro,noatime - btrfs ${loopback.device} `)) found.push(pid);
  }
  return found;
}

test("the top level mounted", async () => {
  const top = await mount("subvolid=5");
  assert.deepEqual(await sendAll(join(top, "@home"), ofHome), { holders: [] });
  assert.deepEqual(await sendAll(join(top, "@"), ofRoot), { holders: [] });
  assert.deepEqual(await sendAll(join(top, "@home/data"), ofData), { holders: [] });
});

test("subvol=@ with subvol=@snapshots in it: snapshot and send parent through the same mount", async () => {
  const root = await mount("subvol=@");
  await mount("subvol=@snapshots", join(root, ".snapshots"));
  assert.deepEqual(await sendAll(root, ofRoot), { holders: [] });
});

test("subvol=@home alone: what lies elsewhere is reached by a private mount", async () => {
  const home = await mount("subvol=@home");
  // Other tests mount other filesystems at the same time.
  const ours = async (): Promise<readonly string[]> =>
    (await readFile("/proc/self/mountinfo", "utf8"))
      .split("\n")
      .filter((line) => line.includes(` ${loopback.device} `));
  const before = await ours();
  const { holders } = await sendAll(home, ofHome);
  assert.equal(holders.length, 1, "one private mount for all");
  assert.deepEqual([before.length, await ours()], [1, before]);
});

test("subvol=@home, by its nested subvolume, a symbolic link, and a path with a trailing slash", async () => {
  const home = await mount("subvol=@home");
  await sendAll(join(home, "data"), ofData);
  await sendAll(`${home}/`, ofHome);
  const link = join(loopback.directory, "link");
  await symlink(home, link);
  await sendAll(link, ofHome);
});

test("nothing but the source mounted", async () => {
  const data = await mount("subvol=@home/data");
  const { holders } = await sendAll(data, ofData);
  assert.equal(holders.length, 1);
});

test("the source mounted read-only", async () => {
  const home = await mount("ro,subvol=@home");
  const { holders } = await sendAll(home, ofHome);
  assert.equal(holders.length, 1);
});

test("snapshot and send parent in different mounts", async () => {
  const home = await mount("subvol=@home/data");
  await mount("subvol=timeshift/data-1");
  await mount("subvol=timeshift/data-2");
  const { holders } = await sendAll(home, ofData);
  assert.equal(holders.length, 1);
});

test("a bind mount of a directory shows the snapshots in it", async () => {
  const data = await mount("subvol=@home/data");
  await bind(await mount("subvol=timeshift"), join(loopback.directory, "bound"));
  await run("umount", mounted[1] ?? "");
  mounted.splice(1, 1);
  assert.deepEqual(await sendAll(data, ofData), { holders: [] });
  // Mounted is a directory below the top, and nothing else shows it.
  const top = await mount("subvolid=5");
  await bind(join(top, "btrbk"), join(loopback.directory, "bound btrbk"));
  const [path = ""] = mounted.splice(mounted.indexOf(top), 1);
  await run("umount", path);
  const home = await mount("subvol=@home");
  const source = await openSource(home, { sendProto: 1 }, never);
  const snapshots = (await source.list(never)).snapshots.filter((snapshot) => snapshot.path.startsWith("btrbk"));
  for (const snapshot of snapshots) await sendOne(source, snapshot, null);
  assert.deepEqual([snapshots.length, await findHolders()], [2, []]);
  await source.close();
});

test("snapshots that lie under another mount are reached by another way", async () => {
  const top = await mount("subvolid=5");
  await run("mount", "-t", "tmpfs", "none", join(top, "timeshift"));
  const { holders } = await sendAll(join(top, "@home/data"), ofData);
  assert.equal(holders.length, 1);
  const second = await mount("subvolid=5");
  assert.deepEqual(await sendAll(join(second, "@home/data"), ofData), { holders: [] });
});

test("does not use a mount that is covered by another one", async () => {
  const covered = await mount("subvol=timeshift");
  const data = await mount("subvol=@home/data");
  await bind(data, covered);
  const { holders } = await sendAll(data, ofData);
  assert.equal(holders.length, 1);
});

test("a subvolume mounted on itself: what is below it is in another mount than what is beside it", async () => {
  const top = await mount("subvolid=5");
  await mount("subvol=@home", join(top, "@home"));
  const { holders } = await sendAll(join(top, "@home"), ofHome);
  assert.equal(holders.length, 1);
});

test("a directory of the right name that is not the snapshot", async () => {
  const data = await mount("subvol=@home/data");
  await mkdir(join(data, "timeshift/data-1"), { recursive: true });
  await mkdir(join(data, "timeshift/data-2"), { recursive: true });
  await sendAll(data, ofData);
});

test("a mount point whose name ends like the subvolume", async () => {
  const home = await mount("subvol=@home", join(loopback.directory, "mnt/x@home"));
  await sendAll(home, ofHome);
  const named = await mount("subvol=x@home", join(loopback.directory, "@home"));
  assert.deepEqual(await sendAll(named, ofNamed), { holders: [] });
});

test("mount points with spaces, backslashes and other letters", async () => {
  const named = await mount("subvol=x@home", join(loopback.directory, "a b\\c\td#e ü"));
  assert.deepEqual(await sendAll(named, ofNamed), { holders: [] });
});

test("ignores a mount point that is not UTF-8", async () => {
  const odd = Buffer.concat([Buffer.from(join(loopback.directory, "odd-")), Buffer.from([0xff])]);
  await mkdir(odd);
  await run("sh", "-c", `mount -o subvol=x@home "$1" "$2"/odd-*`, "sh", loopback.device, loopback.directory);
  const named = await mount("subvol=x@home");
  assert.deepEqual(await sendAll(named, ofNamed), { holders: [] });
  await run("sh", "-c", `umount "$1"/odd-*`, "sh", loopback.directory);
});

const sendsAll = `
  const { openSource } = await import(process.argv[1]);
  const never = new AbortController().signal;
const sourceModule = new URL("../../src/btrfs/source.js", import.meta.url).href;
  const source = await openSource(process.argv[2], { sendProto: 1 }, never);
  const { snapshots } = await source.list(never);
  for (const snapshot of snapshots) for await (const chunk of source.send({ snapshot, sendParent: null }, never)) ;
  console.log(snapshots.length, "sent");
  await source.close();
`;

test("the filesystem mounted where the private mount would go", async () => {
  // In a namespace of its own, so that /mnt is not taken from anybody.
  const script = 'mount -o subvol=@home "$1" /mnt && exec "$2" --input-type=module -e "$3" "$4" /mnt';
  const args = [loopback.device, process.execPath, sendsAll, sourceModule];
  assert.equal(await run("unshare", "--mount", "sh", "-c", script, "sh", ...args), "4 sent\n");
});

test("estimates through a private mount too", async () => {
  const home = await mount("subvol=@home");
  const source = await openSource(home, { sendProto: 1 }, never);
  const { snapshots } = await source.list(never);
  const [first, second] = [snapshots.at(1), snapshots.at(-1)];
  assert.ok(first && second);
  const difference = { snapshot: second, sendParent: first };
  const { bytes, exact } = await source.estimate(difference, never);
  let sent = 0;
  for await (const chunk of source.send(difference, never)) sent += (chunk as Buffer).length;
  assert.deepEqual({ bytes, exact }, { bytes: sent, exact: true });
  await source.close();
});

const sendsForEver = `
  const { openSource } = await import(process.argv[1]);
  const never = new AbortController().signal;
const sourceModule = new URL("../../src/btrfs/source.js", import.meta.url).href;
  const source = await openSource(process.argv[2], { sendProto: 1 }, never);
  const { snapshots } = await source.list(never);
  const snapshot = snapshots.find(({ path }) => path === "btrbk/large");
  const stream = source.send({ snapshot, sendParent: null }, never);
  stream.once("readable", () => console.log("sending"));
  setInterval(() => undefined, 1000);
`;

test("leaves nothing behind when it is killed in the middle of a send", async () => {
  // More than fits into all the buffers on the way, where only a private mount reaches it.
  const top = await mount("subvolid=5");
  await writeFile(join(top, "@home/large"), Buffer.alloc(32 * 1024 * 1024, "large"));
  await btrfs("-q", "subvolume", "snapshot", "-r", join(top, "@home"), join(top, "btrbk/large"));
  await run("umount", mounted.pop() ?? "");
  const home = await mount("subvol=@home");
  const args = ["--input-type=module", "-e", sendsForEver, sourceModule, home];
  const child = spawn(process.execPath, args, { stdio: ["ignore", "pipe", "inherit"] });
  await new Promise((resolve) => child.stdout.once("data", resolve));
  assert.ok((await findHolders()).length >= 1, "there was a private mount to undo");
  child.kill("SIGKILL");
  for (let waited = 0; (await findHolders()).length > 0; waited += 50) {
    assert.ok(waited < 60_000, "a process holds the private mount");
    await sleep(50);
  }
  await btrfs("-q", "subvolume", "delete", join(await mount("subvolid=5"), "btrbk/large"));
});

test("private mounts are seen by nobody else", async () => {
  const home = await mount("subvol=@home");
  const source = await openSource(home, { sendProto: 1 }, never);
  const { snapshots } = await source.list(never);
  const [, hidden] = snapshots;
  assert.ok(hidden);
  await digest(source.send({ snapshot: hidden, sendParent: null }, never));
  const [holder] = await findHolders();
  assert.ok(holder);
  assert.notEqual(await readlink(`/proc/${holder}/ns/mnt`), await readlink("/proc/self/ns/mnt"));
  // Read-only, even where the filesystem is mounted writable.
  await assert.rejects(writeFile(`/proc/${holder}/root/mnt/btrbk/new`, ""), { code: "EROFS" });
  await writeFile(join(home, "writable"), "");
  await source.close();
  await source.close();
  assert.deepEqual(await findHolders(), []);
});

test("names the subvolume of a directory that is mounted somewhere, and what to mount", async () => {
  const top = await mount("subvolid=5");
  const there = join(loopback.directory, "bind");
  await mkdir(join(top, "a/plain/deep"), { recursive: true });
  await bind(join(top, "a/plain"), there);
  for (const [path, found] of [
    [there, "a/plain"],
    [join(there, "deep"), "a/plain/deep"],
  ] as const) {
    await assert.rejects(openSource(path, { sendProto: 1 }, never), (error) => {
      assert.ok(error instanceof BackupError && error.code === "NOT_SUBVOLUME");
      assert.equal(
        error.hint,
        `it is the directory ${found}, mounted there; mount its subvolume and name that: mount -o subvol=/a ${loopback.device} /mnt`,
      );
      return true;
    });
  }
});

test("explains what to do about a filesystem that is mounted for rescue", async () => {
  let rescued = await mount("ro,rescue=ignorebadroots");
  // A mount that is still on its way out, with the process that had it, makes the kernel ignore the options.
  while (!(await readFile("/proc/self/mountinfo", "utf8")).includes(`${loopback.device} ro,rescue`)) {
    await run("umount", mounted.pop() ?? "");
    await sleep(100);
    rescued = await mount("ro,rescue=ignorebadroots");
  }
  for (const open of [
    () => openSource(join(rescued, "a"), { sendProto: 1 }, never).then((source) => source.list(never)),
    () => openTarget(rescued, never),
  ]) {
    await assert.rejects(open, (error) => {
      assert.ok(error instanceof BackupError);
      assert.deepEqual([error.code, error.exitCode], ["SEND_FAILED", 15]);
      assert.match(
        `${error.message}: ${error.hint ?? ""}`,
        /read-only after an error, or is mounted for rescue: `dmesg` shows why/,
      );
      return true;
    });
  }
});
