// Locks: who holds one, who waits, who is refused, and that nothing but life holds one.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { chmod, chown, mkdir, mkdtemp, readFile, rm, stat, symlink } from "node:fs/promises";
import { tmpdir, userInfo } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { BackupError } from "../../../src/errors.ts";
import { lockDirectory, lockOfSource, takeLocks, type Lock, type LockSubject } from "../../../src/state/lock.ts";

const subject = lockOfSource("backup", "11111111-2222-3333-4444-555555555555");
const other = lockOfSource("elsewhere", "11111111-2222-3333-4444-555555555555");

describe("a lock", () => {
  let directory: string;
  before(async () => {
    directory = join(await mkdtemp(join(tmpdir(), "lock-")), "made/by/need");
  });
  after(async () => {
    await rm(join(directory, "../../.."), { recursive: true });
  });

  function take(
    subjects: readonly LockSubject[] = [subject],
    waitMs = 0,
    onWait = (): void => undefined,
  ): Promise<Lock> {
    const holder = { pid: process.pid, command: "sync /home" };
    const options = { directory, holder, waitMs, now: () => performance.now(), onWait };
    return takeLocks(subjects, options, AbortSignal.timeout(60_000));
  }

  test("is held once; the second learns by whom and since when", async () => {
    const minute = (): string => new Date().toLocaleString("sv-SE").slice(0, 16);
    const earliest = minute();
    const lock = await take();
    const since = `(${earliest}|${minute()})`;
    await assert.rejects(take(), (error) => {
      assert.ok(error instanceof BackupError && error.exitCode === 11);
      assert.match(
        error.message,
        new RegExp(`container backup: process ${process.pid}, since ${since}.*: sync /home$`),
      );
      assert.match(error.hint ?? "", /--wait-lock/);
      return true;
    });
    lock.close();
    lock.close();
    (await take()).close();
  });

  test("can be held for any container name that Swift accepts, and for no other", async () => {
    const source = "11111111-2222-3333-4444-555555555555";
    const names = ["x".repeat(255), `${"x".repeat(255)}y`, "ü".repeat(128), "a b\nc\u0001"];
    const locks = await Promise.all(names.map((name) => take([lockOfSource(name, source)])));
    for (const name of names) await assert.rejects(take([lockOfSource(name, source)]), { code: "LOCKED" });
    for (const lock of locks) lock.close();
  });

  test("of another container is another lock; of several, all or none are held", async () => {
    const lock = await take();
    (await take([other])).close();
    await assert.rejects(take([other, subject]), { code: "LOCKED" });
    (await take([other])).close();
    lock.close();
    (await take([other, subject])).close();
  });

  test("is waited for as long as requested", async () => {
    const lock = await take();
    await assert.rejects(take([subject], 300), { code: "LOCKED", hint: "it did not end in time" });
    const waiting = take([subject], 60_000, () => lock.close());
    const taken = await waiting;
    assert.equal(taken.waited, true);
    taken.close();
  });

  test("is no longer waited for once the run is stopped", async () => {
    const lock = await take();
    const stopped = new AbortController();
    const options = {
      directory,
      holder: { pid: 1, command: "" },
      waitMs: 60_000,
      now: () => 0,
      onWait: () => stopped.abort(),
    };
    await assert.rejects(takeLocks([subject], options, stopped.signal), { code: "ABORTED" });
    lock.close();
  });

  test("is free when its holder is killed, though a program that it started lives on", async () => {
    const source = `
      import { spawn } from "node:child_process";
      import { takeLocks } from ${JSON.stringify(new URL("../../../src/state/lock.js", import.meta.url).href)};
      const options = { directory: ${JSON.stringify(directory)}, holder: { pid: process.pid, command: "x" }, waitMs: 0, now: () => 0 };
      await takeLocks([${JSON.stringify(subject)}], options, new AbortController().signal);
      const { pid } = spawn("sleep", ["60"], { detached: true, stdio: "ignore" });
      console.log(pid);
      setInterval(() => undefined, 1000);`;
    const holder = spawn(process.execPath, ["--input-type=module", "--eval", source], {
      stdio: ["ignore", "pipe", "inherit"],
    });
    const [chunk] = (await once(holder.stdout, "data")) as [Buffer];
    try {
      await assert.rejects(take(), { code: "LOCKED" });
      holder.kill("SIGKILL");
      await once(holder, "exit");
      (await take()).close();
    } finally {
      process.kill(Number(chunk.toString()));
    }
  });

  test("shows no secrets: only its owner can read the file", async () => {
    const lock = await take();
    const { mode } = await stat(join(directory, subject.file));
    assert.equal(mode & 0o777, 0o600);
    assert.deepEqual(JSON.parse(await readFile(join(directory, subject.file), "utf8")), {
      pid: process.pid,
      command: "sync /home",
    });
    lock.close();
  });
});

describe("a place for locks", () => {
  const attempt = (directory: string): Promise<Lock> => {
    const options = { directory, holder: { pid: 1, command: "" }, waitMs: 0, now: () => 0, onWait: () => undefined };
    return takeLocks([subject], options, new AbortController().signal);
  };

  test("is refused where others could put files, or have put the directory or a link", async () => {
    const root = await mkdtemp(join(tmpdir(), "lock-"));
    try {
      const open = join(root, "open");
      await mkdir(open);
      await chmod(open, 0o777);
      await assert.rejects(attempt(open), { code: "CONFIG", message: /written by others/ });
      await mkdir(join(root, "real"), { mode: 0o700 });
      await symlink(join(root, "real"), join(root, "link"));
      await assert.rejects(attempt(join(root, "link")), { code: "CONFIG", message: /not a directory/ });
      await symlink("/etc/passwd", join(root, "real", subject.file));
      await assert.rejects(attempt(join(root, "real")), { code: "CONFIG", message: /ELOOP/ });
    } finally {
      await rm(root, { recursive: true });
    }
  });

  test("of somebody else is refused", { skip: userInfo().uid !== 0 && "needs root" }, async () => {
    const directory = await mkdtemp(join(tmpdir(), "lock-"));
    try {
      await chown(directory, 65534, 65534);
      await assert.rejects(attempt(directory), { code: "CONFIG", message: /somebody else/ });
    } finally {
      await rm(directory, { recursive: true });
    }
  });

  test("is root's own whatever the environment says", { skip: userInfo().uid !== 0 && "needs root" }, () => {
    assert.equal(lockDirectory({ XDG_RUNTIME_DIR: "/run/user/1000" }), "/run/btrfs-snapshots-to-swift");
  });
});
