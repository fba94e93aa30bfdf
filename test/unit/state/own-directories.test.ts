// The directories that the program keeps data in, when root runs it.

import assert from "node:assert/strict";
import { lchownSync } from "node:fs";
import { chmod, mkdir, mkdtemp, readdir, rm, stat, symlink, writeFile } from "node:fs/promises";
import { tmpdir, userInfo } from "node:os";
import { join } from "node:path";
import { Readable } from "node:stream";
import { after, before, describe, test } from "node:test";
import { stateDirectory } from "../../../src/state/paths.ts";
import {
  ensureDirectory,
  isRootsAlone,
  openOwnDirectory,
  withOwnDirectories,
} from "../../../src/state/own-directories.ts";
import { spool } from "../../../src/stream/spool.ts";

const NOBODY = 65534;

describe("what root keeps", { skip: userInfo().uid === 0 ? false : "needs root" }, () => {
  let directory: string;
  before(async () => {
    directory = await mkdtemp(join(tmpdir(), "own-"));
    await mkdir(join(directory, "roots"), { mode: 0o700 });
    await mkdir(join(directory, "users"));
    await mkdir(join(directory, "users/inside"));
    await symlink("roots", join(directory, "roots-link"));
    await symlink(join(directory, "roots"), join(directory, "users-link"));
    await mkdir(join(directory, "shared"));
    await chmod(join(directory, "shared"), 0o777);
    for (const name of ["users", "users-link"]) lchownSync(join(directory, name), NOBODY, NOBODY);
  });
  after(() => rm(directory, { recursive: true }));

  test("is kept in the system's directories, whatever home the environment names", () => {
    const env = { HOME: "/home/user", XDG_STATE_HOME: "/home/user/state", XDG_CACHE_HOME: "/home/user/cache" };
    assert.equal(stateDirectory(withOwnDirectories(env, 0)), "/var/lib/btrfs-snapshots-to-swift");
    assert.equal(withOwnDirectories(env, 0).XDG_CACHE_HOME, "/var/cache");
    assert.equal(withOwnDirectories(env, 1000), env);
  });

  test("is kept where systemd puts it, unless another user could change that", () => {
    const kept = (path: string): string | null => stateDirectory(withOwnDirectories({ STATE_DIRECTORY: path }, 0));
    for (const name of ["roots", "roots/new", "roots-link/new"]) {
      assert.equal(kept(join(directory, name)), join(directory, name));
      assert.equal(isRootsAlone(join(directory, name)), true);
    }
    for (const name of ["users", "users/new", "users/inside", "users-link", "shared", "shared/new"]) {
      assert.equal(kept(join(directory, name)), "/var/lib/btrfs-snapshots-to-swift", name);
    }
    assert.equal(isRootsAlone("relative"), false);
  });

  test("is not written through a link of another user", async () => {
    for (const name of ["roots", "users", "roots-link"]) {
      const handle = await openOwnDirectory(join(directory, name, ".."), 0);
      await handle.close();
      const held = await openOwnDirectory(join(directory, name), 0);
      assert.deepEqual(await readdir(`/proc/self/fd/${held.fd}`), name === "users" ? ["inside"] : []);
      await held.close();
    }
    // Its owner can put another one there at any time.
    await symlink("../roots", join(directory, "users/roots-link"));
    for (const name of ["users-link", "users-link/x", "users/roots-link"]) {
      await assert.rejects(openOwnDirectory(join(directory, name), 0), /link is a link of another user/);
    }
    await assert.rejects(openOwnDirectory(join(directory, "none"), 0), /ENOENT/);
    await assert.rejects(
      spool(Readable.from([]), join(directory, "users-link")),
      /work directory .*link of another user/,
    );
  });
});

describe("a directory of our own", () => {
  let directory: string;
  before(async () => void (directory = await mkdtemp(join(tmpdir(), "own-"))));
  after(() => rm(directory, { recursive: true }));

  test("is made with those above it, and found when it is made again", async () => {
    assert.equal(await ensureDirectory(join(directory, "a/b/c"), 0o700), true);
    assert.equal(await ensureDirectory(join(directory, "a/b/c"), 0o700), false);
    assert.equal((await stat(join(directory, "a/b/c"))).mode & 0o7777, 0o700);
  });

  test("is refused where the kernel makes none, or something else is in the way", { timeout: 10_000 }, async () => {
    // Node's recursive mkdir never comes back from here.
    await assert.rejects(ensureDirectory("/proc/nowhere/x", 0o700), /ENOENT/);
    await writeFile(join(directory, "file"), "");
    await assert.rejects(ensureDirectory(join(directory, "file"), 0o700), /EEXIST/);
    await assert.rejects(ensureDirectory(join(directory, "file/x"), 0o700), /ENOTDIR/);
  });
});
