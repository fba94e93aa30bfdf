// Which addon the program loads, and which ones it skips.

import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { mkdir, mkdtemp, readFile, rm, symlink, writeFile } from "node:fs/promises";
import { arch, platform, tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { after, before, describe, test } from "node:test";
import { howToBuild, loadAddon } from "../../../src/addon/load.ts";
import { BackupError } from "../../../src/errors.ts";

const BUILT = resolve("build/Release/btrfs.node");
const noAddon = existsSync(BUILT) ? false : "the addon is not built";

describe("finding the addon", () => {
  let root: string;
  let prebuilds: string;
  before(async () => {
    root = await mkdtemp(join(tmpdir(), "addon-"));
    prebuilds = join(root, "prebuilds", `${platform()}-${arch()}`);
    await mkdir(prebuilds, { recursive: true });
  });
  after(() => rm(root, { recursive: true }));

  test("prints in two lines what to install if there is none", () => {
    assert.throws(
      () => loadAddon(root),
      (error) =>
        error instanceof BackupError &&
        error.code === "CONFIG" &&
        !`${error.message}${error.hint ?? ""}`.includes("\n"),
    );
  });

  test("skips what does not load", { skip: noAddon }, async () => {
    await mkdir(join(root, "build/Release"), { recursive: true });
    await writeFile(join(root, "build/Release/btrfs.node"), "broken");
    await writeFile(join(prebuilds, "btrfs.glibc.node"), "broken too");
    assert.throws(() => loadAddon(root), /cannot be loaded/);
    await symlink(BUILT, join(prebuilds, "btrfs.musl.node"));
    assert.ok("listSubvolumes" in (loadAddon(root) as object));
  });

  test("skips an addon that was built from other sources", { skip: noAddon }, async () => {
    const own = (await readFile(new URL("../../../addon-sources.txt", import.meta.url), "utf8")).trim();
    const stale = join(root, "build/Release/btrfs.node");
    await rm(prebuilds, { recursive: true });
    await mkdir(join(root, "build/Release"), { recursive: true });
    await rm(stale, { force: true });
    const bytes = await readFile(BUILT);
    bytes.write("0".repeat(own.length), bytes.indexOf(own));
    await writeFile(stale, bytes);
    assert.throws(
      () => loadAddon(root),
      (error) =>
        error instanceof BackupError &&
        error.code === "CONFIG" &&
        /^the native addon cannot be loaded: \S+btrfs\.node was built from other sources than this program$/.test(
          error.message,
        ),
    );
    await mkdir(prebuilds);
    await symlink(BUILT, join(prebuilds, "btrfs.glibc.node"));
    assert.ok("listSubvolumes" in (loadAddon(root) as object));
  });

  test("names the packages of each distribution", () => {
    const hint = (installer: string): string => howToBuild("/lib/x", (path) => path === installer);
    assert.match(hint("/usr/bin/apt-get"), /^apt-get install .*libbtrfsutil-dev/);
    assert.match(hint("/usr/bin/dnf"), /^dnf install .*btrfs-progs-devel/);
    assert.match(hint("/usr/bin/pacman"), /^pacman -S .*btrfs-progs/);
    assert.match(hint("/sbin/apk"), /^apk add .*btrfs-progs-dev/);
    assert.match(hint("/usr/bin/zypper"), /^zypper install .*libbtrfsutil-devel/);
  });
});
