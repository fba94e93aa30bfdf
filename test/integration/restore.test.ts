// Restores with the program as users start it: from a container that a real Swift holds to a filesystem
// that has never seen it.

import assert from "node:assert/strict";
import { spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { mkdir, readdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { setReadOnly } from "../../src/addon/subvolumes.ts";
import { cli, MAIN, type Ran } from "../support/cli.ts";
import { btrfs, openLoopback, run, withLoopback, type Loopback } from "../support/loopback.ts";
import { noBtrfsOrSwift } from "../support/requirements.ts";
import { endOfFirst, makeFile, sealCommand, withCommands } from "../support/stream-commands.ts";
import { openSwift, rot, type Swift } from "../support/swift.ts";
import { changeTree, compareTrees, makeTree } from "../support/tree.ts";

const MiB = 2 ** 20;

interface Listed {
  readonly key: string;
  readonly path: string;
  readonly uuid: string;
  readonly otime: string;
  readonly source: string;
  readonly bytes: number;
  readonly chainLength: number | null;
}

describe("restore", { skip: noBtrfsOrSwift() }, () => {
  let swift: Swift;
  let disk: Loopback;
  let top: string;
  let archives: readonly Listed[];

  const program = (...args: string[]): Promise<Ran> => cli(args, { env: swift.environment });
  const restore = (...args: string[]): Promise<Ran> => program("restore", "--container-name", "main", ...args);
  const ok = async (running: Promise<Ran>): Promise<Ran> => {
    const ran = await running;
    assert.equal(ran.code, 0, ran.stderr);
    return ran;
  };

  async function takeSnapshot(name: string): Promise<void> {
    await btrfs("subvolume", "snapshot", "-r", join(top, "home"), join(top, "snapshots", name));
  }

  async function listed(container: string): Promise<readonly Listed[]> {
    const { stdout } = await ok(program("list", "--container-name", container, "--json"));
    return (JSON.parse(stdout) as { archives: Listed[] }).archives;
  }

  async function assertEqualTo(snapshot: string, restored: string): Promise<void> {
    const { differences, entries } = await compareTrees(join(top, "snapshots", snapshot), restored);
    assert.deepEqual(differences, []);
    assert.ok(entries > 40);
  }

  const withTarget = (use: (directory: string, target: Loopback) => Promise<void>): Promise<void> =>
    withLoopback({ sizeBytes: 512 * MiB }, (target) => use(target.mountPoint, target));

  before(async () => {
    // A reader that pauses is cut off after 3 seconds, instead of the minute of a stock Swift.
    [swift, disk] = await Promise.all([
      openSwift({ proxy: { client_timeout: 3 } }),
      openLoopback({ sizeBytes: 1024 * MiB }),
    ]);
    top = disk.mountPoint;
    await btrfs("subvolume", "create", join(top, "home"));
    await mkdir(join(top, "snapshots"));
    await makeTree(join(top, "home"), { seed: 1, files: 40, bytes: 4 * MiB, zoo: true });
    for (const number of [1, 2, 3, 4]) {
      if (number > 1) await changeTree(join(top, "home"), number);
      // --at could not distinguish two of the same second.
      if (number === 3) await sleep(1100);
      await takeSnapshot(String(number));
    }
    await swift.createContainer("main");
    await ok(program("sync", join(top, "home"), "--container-name", "main"));
    archives = await listed("main");
  });
  after(async () => {
    await Promise.all([swift.close(), disk.close()]);
  });

  test("the worst day: a container, a new machine, and nothing else", async () => {
    await withTarget(async (directory) => {
      await ok(restore("--latest", "--target", directory));
      for (const name of ["1", "2", "3", "4"]) await assertEqualTo(name, join(directory, "snapshots", name));
    });
  });

  test("an archive is named by its path, its UUID, its key, its age or the subvolume it is of", async () => {
    const [, second, third] = archives;
    assert.ok(second && third);
    const home = join(top, "home");
    const names: [string[], string][] = [
      [["/snapshots/2"], "2"],
      [[third.uuid.slice(0, 8)], "3"],
      [[second.key], "2"],
      [["--latest"], "4"],
      [[home, "--latest"], "4"],
      [["snapshots", "--latest"], "4"],
      [[third.source.slice(0, 8), "--at", `${second.otime.slice(0, 19)}Z`], "2"],
    ];
    for (const [words, expected] of names) {
      const { stdout } = await ok(restore(...words, "--dry-run", "--json"));
      const { chain } = JSON.parse(stdout) as { chain: Listed[] };
      assert.equal(chain.at(-1)?.path, `snapshots/${expected}`, words.join(" "));
      assert.equal(chain.length, Number(expected));
    }
  });

  test("a dry run shows the chain, its sizes and what is there already, and receives nothing", async () => {
    await withTarget(async (directory) => {
      await ok(restore("snapshots/2", "--target", directory));
      const { stdout } = await ok(restore("snapshots/4", "--target", directory, "--dry-run"));
      assert.match(stdout, /snapshots\/2 +incremental .* not needed/);
      assert.match(stdout, /snapshots\/3 +incremental .*[kM]iB +to receive/i);
      assert.match(stdout, /2 of 4 archives to receive/);
      assert.deepEqual(await readdir(join(directory, "snapshots")), ["1", "2"]);
      const { stdout: json } = await ok(restore("snapshots/4", "--target", directory, "--json"));
      const receipts = json
        .trim()
        .split("\n")
        .map((line) => JSON.parse(line) as { type: string; path: string });
      assert.deepEqual(
        receipts.map(({ type, path }) => [type, path]),
        [
          ["receipt", "snapshots/3"],
          ["receipt", "snapshots/4"],
          ["summary", "snapshots/4"],
        ],
      );
    });
  });

  test("--only leaves nothing but the snapshot, and --writable makes one to work with", async () => {
    await withTarget(async (directory, target) => {
      await ok(restore("snapshots/3", "--only", "--writable", "home", "--target", directory));
      assert.deepEqual((await readdir(directory)).toSorted(), ["home", "snapshots"]);
      assert.deepEqual(await readdir(join(directory, "snapshots")), ["3"]);
      await assertEqualTo("3", join(directory, "home"));
      await writeFile(join(directory, "home/new"), "new");
      await assertEqualTo("3", join(directory, "snapshots/3"));
      // The next one builds on it, without what it was built from.
      await ok(restore("snapshots/4", "--only", "--target", directory));
      await assertEqualTo("4", join(directory, "snapshots/4"));
      assert.equal((await btrfs("subvolume", "list", target.mountPoint)).trim().split("\n").length, 3);
      const taken = await restore("snapshots/4", "--writable", "home", "--target", directory);
      assert.deepEqual([taken.code, /home exists already/.test(taken.stderr)], [15, true], taken.stderr);
    });
  });

  test("--stdout writes what `btrfs receive` accepts in one go", async () => {
    await withTarget(async (directory) => {
      await pipeInto(["--latest", "--stdout"], ["receive", "-q", "-C", directory]);
      for (const name of ["1", "4"]) await assertEqualTo(name, join(directory, name));
    });
    await withTarget(async (directory) => {
      await pipeInto(["snapshots/1", "--stdout", "--only"], ["receive", "-q", "-C", directory]);
      await pipeInto(["snapshots/2", "--stdout", "--only"], ["receive", "-q", "-C", directory]);
      await assertEqualTo("2", join(directory, "2"));
    });
    const gone = spawn(process.execPath, [MAIN, "restore", "--container-name", "main", "--latest", "--stdout"], {
      env: { PATH: process.env["PATH"], ...swift.environment },
      stdio: ["ignore", "pipe", "ignore"],
    });
    gone.stdout.once("data", () => gone.stdout.destroy());
    await once(gone, "close");
    assert.notEqual(gone.exitCode, 0);
  });

  async function pipeInto(words: readonly string[], receive: readonly string[]): Promise<void> {
    const ours = spawn(process.execPath, [MAIN, "restore", "--container-name", "main", ...words], {
      env: { PATH: process.env["PATH"], ...swift.environment },
      stdio: ["ignore", "pipe", "inherit"],
    });
    const theirs = spawn("btrfs", receive, { stdio: ["pipe", "ignore", "inherit"] });
    ours.stdout.pipe(theirs.stdin);
    await Promise.all([once(ours, "exit"), once(theirs, "exit")]);
    assert.deepEqual([ours.exitCode, theirs.exitCode], [0, 0]);
  }

  test("resumes where it stopped when it was killed at any time, and leaves nothing of its own", async () => {
    for (const only of [[], ["--only"]]) {
      await withTarget(async (directory, target) => {
        const args = ["snapshots/4", "--target", directory, ...only];
        const command = ["restore", "--container-name", "main", ...args];
        for (const wanted of [1, 2]) {
          const during = (child: ChildProcess): void => void killWhen(child, () => countSealed(target, wanted));
          await cli(command, { env: swift.environment, during });
        }
        const { stdout } = await ok(restore(...args, "--dry-run"));
        assert.match(stdout, /snapshots\/1 .* not needed/);
        await ok(restore(...args));
        await assertEqualTo("4", join(directory, "snapshots/4"));
        assert.deepEqual(await readdir(directory), ["snapshots"]);
        assert.deepEqual(await readdir(join(directory, "snapshots")), only.length > 0 ? ["4"] : ["1", "2", "3", "4"]);
      });
    }
  });

  async function killWhen(child: ChildProcess, reached: () => Promise<boolean>): Promise<void> {
    while (child.exitCode === null && child.signalCode === null) {
      if (await reached()) child.kill("SIGKILL");
      await sleep(10);
    }
  }

  async function countSealed({ mountPoint }: Loopback, wanted: number): Promise<boolean> {
    const list = await btrfs("subvolume", "list", "-r", mountPoint);
    return (
      list
        .split("\n")
        .filter((line) => line !== "" && !/\.btrfs-snapshots-to-swift-(in-)?[0-9a-f-]{36}(\/s)?$/.test(line)).length >=
      wanted
    );
  }

  test("after a restore, or going back to a snapshot, sync sends incrementally against it", async () => {
    await withTarget(async (directory) => {
      await ok(restore("--latest", "--writable", "home", "--target", directory));
      await mkdir(join(directory, "new"));
      const continuesFrom = async (home: string, place: string, since: RegExp): Promise<void> => {
        await changeTree(home, 99);
        await btrfs("subvolume", "snapshot", "-r", home, place);
        const { stdout } = await ok(program("sync", home, "--container-name", "main"));
        assert.match(stdout, since);
      };
      await continuesFrom(join(directory, "home"), join(directory, "new/5"), /new\/5 +parent snapshots\/4 /);
      await continuesFrom(join(directory, "home"), join(directory, "new/6"), /new\/6 +parent new\/5 /);
      await btrfs("subvolume", "snapshot", join(top, "snapshots/3"), join(top, "back"));
      await continuesFrom(join(top, "back"), join(top, "snapshots/back"), /snapshots\/back +parent snapshots\/3 /);
      await withTarget(async (other) => {
        await ok(restore("new/6", "--target", other));
        await ok(restore("snapshots/back", "--target", other));
        const { differences } = await compareTrees(join(directory, "new/6"), join(other, "new/6"));
        assert.deepEqual(differences, []);
        await assertEqualTo("back", join(other, "snapshots/back"));
      });
      const { stdout } = await ok(program("list", "--container-name", "main", join(directory, "home")));
      assert.match(stdout, /new\/6 .* 6 +both/);
      const verified = await ok(program("verify", "--container-name", "main", "--read-data"));
      assert.match(verified.stdout, /no damage found/);
    });
  });

  test("a place that is taken is found before anything is received", async () => {
    await withTarget(async (directory) => {
      await mkdir(join(directory, "snapshots/4"), { recursive: true });
      const { code, stderr } = await restore("snapshots/4", "--target", directory);
      assert.deepEqual([code, /snapshots\/4 exists already.*move it away/.test(stderr)], [15, true], stderr);
      assert.deepEqual(await readdir(join(directory, "snapshots")), ["4"]);
    });
  });

  test("what btrfs would build on by mistake is refused, with the reason", async () => {
    await withTarget(async (directory) => {
      await ok(restore("snapshots/2", "--target", directory));
      const impostor = join(directory, "snapshots/2");
      // The ioctl itself, unlike `btrfs property set -f`, leaves it its received UUID.
      await run("python3", "-c", SET_WRITABLE, impostor);
      await writeFile(join(impostor, "changed"), "changed");
      const { code, stderr } = await restore("snapshots/3", "--target", directory);
      assert.equal(code, 15, stderr);
      assert.match(stderr, /snapshots\/3 would be built on snapshots\/2, .* is writable/);
      assert.deepEqual(await readdir(join(directory, "snapshots")), ["1", "2"]);
    });
  });

  test("a received snapshot that was changed and made read-only again is not what was archived", async () => {
    await withTarget(async (directory) => {
      await ok(restore("snapshots/2", "--target", directory));
      const changed = join(directory, "snapshots/2");
      await ok(restore("snapshots/2", "--target", directory, "--dry-run"));
      await setReadOnly(changed, false);
      await writeFile(join(changed, "changed"), "changed");
      await setReadOnly(changed, true);
      for (const args of [[], ["--dry-run"]]) {
        const parent = await restore("snapshots/3", "--target", directory, ...args);
        assert.equal(parent.code, 15, parent.stderr);
        assert.match(parent.stderr, /built on snapshots\/2, .* but was changed after it was received \(inode 256,/);
        const held = await restore("snapshots/2", "--target", directory, ...args);
        assert.equal(held.code, 15, held.stderr);
        assert.match(held.stderr, /exists already .*: snapshots\/2 was changed after it was received/);
      }
      assert.deepEqual(await readdir(join(directory, "snapshots")), ["1", "2"]);
      // A subvolume that began as that snapshot is not the archived one with changes either.
      await btrfs("subvolume", "snapshot", changed, join(directory, "again"));
      await btrfs("subvolume", "snapshot", "-r", join(directory, "again"), join(directory, "again-1"));
      const { stdout, stderr } = await ok(
        program("sync", join(directory, "again"), "--container-name", "main", "--plan"),
      );
      assert.match(stderr, /snapshots\/2, from which this subvolume was made, was changed after it was received/);
      assert.doesNotMatch(stdout, /again-1 +since/);
    });
  });

  test("on the filesystem it came from, with extents of a snapshot that is there, even outside of what is mounted", async () => {
    const home = join(top, "cloning");
    const [base, archived] = [join(top, "snapshots/c1"), join(top, "snapshots/c2")];
    await btrfs("subvolume", "create", home);
    await run("sh", "-ec", 'head -c 1000000 /dev/urandom >"$1/a"', "sh", home);
    await btrfs("subvolume", "snapshot", "-r", home, base);
    // In c2 it is a clone of what only c1 has under a name.
    await run("sh", "-ec", 'cp --reflink=always "$1/a" "$1/b"; rm "$1/a"', "sh", home);
    await btrfs("subvolume", "snapshot", "-r", home, archived);
    await swift.createContainer("cloning");
    await ok(program("sync", home, "--container-name", "cloning"));
    await btrfs("subvolume", "delete", archived);
    for (const target of [join(top, "here"), join(await disk.mount("subvol=cloning"), "there")]) {
      await mkdir(target);
      const args = ["restore", "--container-name", "cloning", "snapshots/c2", "--target", target];
      const { stdout } = await ok(program(...args, "--dry-run"));
      assert.match(stdout, /builds on snapshots\/c1, which is there/);
      await ok(program(...args));
      assert.ok((await readFile(join(base, "a"))).equals(await readFile(join(target, "snapshots/c2/b"))));
      assert.deepEqual(await readdir(target), ["snapshots"]);
      await btrfs("subvolume", "delete", join(target, "snapshots/c2"));
    }
  });

  test("a parent that was received outside the mounted part is reported before anything is received", async () => {
    await withTarget(async (directory, target) => {
      await ok(restore("snapshots/1", "--target", directory));
      await btrfs("subvolume", "create", join(directory, "part"));
      const part = await target.mount("subvol=part");
      for (const args of [["--dry-run"], []]) {
        const { code, stderr } = await restore("snapshots/2", "--target", part, ...args);
        assert.deepEqual(
          [code, /builds on snapshots\/1, which is outside.*subvolid=5/.test(stderr)],
          [15, true],
          stderr,
        );
      }
      assert.deepEqual(await readdir(part), []);
    });
  });

  test("an archive with a stream that is not the one of its metadata, or leads out of its snapshot, creates nothing", async () => {
    const [first, second, third] = archives;
    assert.ok(first && second && third);
    await swift.createContainer("hostile");
    const copy = async (key: string, change: (stream: Buffer) => Buffer): Promise<void> => {
      const path = `/main/${encodeURIComponent(key)}`;
      const { headers } = await swift.native.request("HEAD", path);
      const metadata = Object.fromEntries([...headers].filter(([name]) => name.startsWith("x-object-meta-")));
      const body = change(await swift.native.getObject("main", key));
      await swift.native.request("PUT", path.replace("main", "hostile"), { body, headers: metadata });
    };
    const refuses = async (reason: RegExp): Promise<void> => {
      await withTarget(async (directory, target) => {
        for (const words of [["--target", directory], ["--stdout"]]) {
          const { code, stderr, stdout } = await program("restore", "--container-name", "hostile", third.key, ...words);
          assert.deepEqual([code, stdout.includes("evil"), reason.test(stderr)], [14, false, true], stderr);
        }
        assert.doesNotMatch(await btrfs("subvolume", "list", target.mountPoint), /3$|btrfs-snapshots-to-swift/m);
      });
    };
    for (const { key } of [first, second]) await copy(key, (stream) => stream);
    await copy(third.key, (stream) => withCommands(stream, makeFile("../evil")));
    await refuses(/a path that leads out of the snapshot/);
    await copy(third.key, (stream) => {
      const snapshot = Buffer.from(stream.subarray(17, endOfFirst(stream)));
      snapshot.writeUInt32LE(77, snapshot.length - 8);
      return Buffer.concat([stream.subarray(0, 17), sealCommand(snapshot), stream.subarray(endOfFirst(stream))]);
    });
    await refuses(/holds the stream of .* on top of .* at transaction 77, and its metadata says/);
  });

  test("a receiver that pauses for longer than the store waits gets everything", async () => {
    await btrfs("subvolume", "create", join(top, "large"));
    await run("sh", "-c", `head -c ${64 * MiB} /dev/urandom > ${top}/large/file`);
    await btrfs("subvolume", "snapshot", "-r", join(top, "large"), join(top, "snapshots/large"));
    await swift.createContainer("slow");
    await ok(program("sync", join(top, "large"), "--container-name", "slow"));
    await withLoopback({ sizeBytes: 128 * MiB }, async ({ mountPoint }) => {
      const { stderr } = await ok(
        program("restore", "--container-name", "slow", "--latest", "--target", mountPoint, "--dry-run"),
      );
      assert.match(stderr, /64.* MiB to receive, but only .* MiB are free there/);
    });
    await withTarget(async (directory) => {
      let paused = 0;
      const during = (child: ChildProcess): void => {
        void pauseReceive(child, 5_000).then((times) => (paused = times));
      };
      const args = ["restore", "--container-name", "slow", "--latest", "--target", directory, "-vv"];
      const { code, stderr } = await cli(args, { env: swift.environment, during });
      assert.equal(code, 0, stderr);
      assert.equal(paused, 1);
      assert.doesNotMatch(stderr, /connection was lost/, "no connection waits for a receiver");
      const [there, back] = await Promise.all([
        readFile(join(top, "large/file")),
        readFile(join(directory, "snapshots/large/file")),
      ]);
      assert.ok(there.equals(back));
    });
  });

  /** Stops the `btrfs receive` of a restore once, as soon as it has begun. */
  async function pauseReceive(child: ChildProcess, milliseconds: number): Promise<number> {
    while (child.exitCode === null) {
      const pids = (
        await readFile(`/proc/${child.pid ?? 0}/task/${child.pid ?? 0}/children`, "utf8").catch(() => "")
      ).split(" ");
      for (const pid of pids.filter((text) => text !== "").map(Number)) {
        const words = await readFile(`/proc/${pid}/cmdline`, "utf8").catch(() => "");
        if (!words.startsWith("btrfs\0receive")) continue;
        process.kill(pid, "SIGSTOP");
        await sleep(milliseconds);
        process.kill(pid, "SIGCONT");
        return 1;
      }
      await sleep(2);
    }
    return 0;
  }

  test("an archive that rotted on the store's disk is reported, and leaves no snapshot", async () => {
    await swift.createContainer("rotten");
    await ok(program("sync", join(top, "home"), "--container-name", "rotten"));
    const [first] = await listed("rotten");
    await rot(swift, first?.bytes ?? 0);
    await withTarget(async (directory) => {
      const args = ["--container-name", "rotten", "--target", directory];
      const { code, stderr } = await program("restore", "snapshots/2", ...args);
      assert.equal(code, 14, stderr);
      assert.match(stderr, /damaged.*verify --read-data/s);
      assert.deepEqual(await readdir(join(directory, "snapshots")), []);
    });
  });
});

/** BTRFS_IOC_SUBVOL_SETFLAGS with no flag. */
const SET_WRITABLE = `
import fcntl, os, struct, sys
fcntl.ioctl(os.open(sys.argv[1], os.O_RDONLY), 0x4008941a, struct.pack("<Q", 0))
`;
