// The systemd units that `install-units` writes.

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import {
  copyFileSync,
  existsSync,
  lchownSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir, userInfo } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { cli } from "../../support/cli.ts";

const hasSystemd = spawnSync("systemd-analyze", ["--version"]).status === 0;

describe("install-units", () => {
  let directory: string;
  before(() => {
    directory = mkdtempSync(join(tmpdir(), "units-"));
  });
  after(() => rmSync(directory, { recursive: true }));
  const read = (file: string): string => readFileSync(join(directory, file), "utf8");

  test("writes what systemd accepts without a warning, and prints the next command", async () => {
    const config = join(directory, "config.yaml");
    writeFileSync(
      config,
      "targets: {home: {paths: [/home, '/a b'], work-dir: /var/spool/x, metrics-file: /srv/m/x.prom}, 'o/dd': {}}",
    );
    const { code, stdout, stderr } = await cli(["install-units", "--directory", directory, "--config", config]);
    assert.equal(code, 0, stderr);
    const names = [
      "btrfs-snapshots-to-swift@.service",
      "btrfs-snapshots-to-swift@.timer",
      "btrfs-snapshots-to-swift@home.service.d/target.conf",
    ];
    assert.equal(stdout, names.map((name) => `${join(directory, name)}\n`).join(""));
    assert.match(
      stderr,
      /^next: systemctl daemon-reload && systemctl enable --now btrfs-snapshots-to-swift@home\.timer/,
    );
    assert.match(
      read("btrfs-snapshots-to-swift@home.service.d/target.conf"),
      /RequiresMountsFor="\/home" "\/a b"[^]*ReadWritePaths="-\/var\/spool\/x" "-\/srv\/m"/,
    );
    assert.match(
      read("btrfs-snapshots-to-swift@.service"),
      new RegExp(`ExecStart="${process.execPath}" "--" ".*/main\\.js" "sync" "--config" "${config}" --use %i`),
    );
    if (!hasSystemd) return;
    copyFileSync(
      join(directory, "btrfs-snapshots-to-swift@.service"),
      join(directory, "btrfs-snapshots-to-swift@home.service"),
    );
    const units = ["@.service", "@.timer", "@home.service"].map((end) =>
      join(directory, `btrfs-snapshots-to-swift${end}`),
    );
    const verified = spawnSync("systemd-analyze", ["verify", ...units], { encoding: "utf8" });
    assert.doesNotMatch(verified.stderr, /btrfs-snapshots-to-swift/);
  });

  test("with -n prints the files, and writes none", async () => {
    const none = join(directory, "none");
    const { code, stdout, stderr } = await cli(["install-units", "-n", "--directory", none]);
    assert.deepEqual([code, stderr, existsSync(none)], [0, "", false]);
    assert.match(stdout, /^# \S+\/none\/btrfs-snapshots-to-swift@\.service\n\[Unit\]$/m);
    assert.match(stdout, /^OnCalendar=daily$/m);
  });

  test("writes no unit that the program's package has brought, unless it hides that one", async () => {
    const lib = join(directory, "tree/lib");
    const { layOutProgram } = (await import(new URL("../../../../.ci/layout.mjs", import.meta.url).href)) as {
      layOutProgram(out: string, architectures: readonly string[]): Promise<void>;
    };
    await layOutProgram(join(lib, "btrfs-snapshots-to-swift"), []);
    const config = join(directory, "packaged.yaml");
    writeFileSync(config, "targets: {home: {paths: [/home]}}");
    const install = (into: string): string => {
      const main = join(lib, "btrfs-snapshots-to-swift/dist/program/main.js");
      const words = ["--", main, "install-units", "--directory", into, "--config", config];
      const { stdout, stderr, status } = spawnSync(process.execPath, words, { encoding: "utf8" });
      assert.equal(status, 0, stderr);
      return stdout.replaceAll(`${into}/btrfs-snapshots-to-swift`, "");
    };
    const [packaged, etc] = [join(lib, "systemd/system"), join(directory, "etc")];
    assert.equal(install(packaged), "@.service\n@.timer\n@home.service.d/target.conf\n");
    assert.equal(install(etc), "@home.service.d/target.conf\n");
    writeFileSync(join(etc, "btrfs-snapshots-to-swift@.service"), "of another installation");
    assert.equal(install(etc), "@.service\n@home.service.d/target.conf\n");
    writeFileSync(join(packaged, "btrfs-snapshots-to-swift@.timer"), "of another version");
    assert.match(install(etc), /@\.timer\n/);
  });

  // Each was seen to fail under a booted systemd 252 without it.
  for (const line of [
    /^SystemCallFilter=.*@pkey/m,
    /^SystemCallErrorNumber=EPERM$/m,
    /^CapabilityBoundingSet=.*CAP_FOWNER/m,
    /^SyslogIdentifier=btrfs-snapshots-to-swift$/m,
    /^SuccessExitStatus=143$/m,
    /^CacheDirectory=btrfs-snapshots-to-swift$/m,
  ]) {
    test(`the service has ${line.source}`, () => {
      assert.match(read("btrfs-snapshots-to-swift@.service"), line);
    });
  }

  test("a directory that cannot be written to is named with a reason, not with an errno", async () => {
    const { code, stderr } = await cli(["install-units", "--directory", "/dev/null/units"]);
    assert.equal(code, 2);
    assert.equal(stderr, "error: the units were not written to /dev/null/units: it is not a directory\n");
  });

  test("writes through no link of another user", { skip: userInfo().uid === 0 ? false : "needs root" }, async () => {
    const service = "btrfs-snapshots-to-swift@.service";
    const roots = join(directory, "roots");
    mkdirSync(roots);
    symlinkSync("roots", join(directory, "link"));
    lchownSync(join(directory, "link"), 65534, 65534);
    for (const below of ["link", "link/new"]) {
      const { code, stderr } = await cli(["install-units", "--directory", join(directory, below)]);
      assert.equal(code, 2);
      assert.match(stderr, /link is a link of another user, which root does not follow/);
      assert.deepEqual(readdirSync(roots), []);
    }
    // In the place of a unit, it is replaced.
    writeFileSync(join(directory, "victim"), "as it was");
    symlinkSync("../victim", join(roots, service));
    assert.equal((await cli(["install-units", "--directory", roots])).code, 0);
    assert.equal(read("victim"), "as it was");
    assert.match(read(join("roots", service)), /ExecStart=/);
  });

  test("a path that would write further lines into a unit is refused", async () => {
    const config = join(directory, "evil.yaml");
    writeFileSync(
      config,
      JSON.stringify({ targets: { evil: { paths: ["/home\n[Service]\nExecStartPre=/bin/true"] } } }),
    );
    const into = join(directory, "refused");
    const { code, stdout, stderr } = await cli(["install-units", "--directory", into, "--config", config]);
    assert.deepEqual([code, stdout], [2, ""]);
    assert.match(stderr, /control character/);
    assert.doesNotMatch(stderr, /^\[Service\]/m);
    assert.equal(existsSync(into), false);
  });

  test("shows no control character of a name", async () => {
    const name = "a\u001b[2J\u009bb";
    const shown = await cli(["install-units", "--directory", join(directory, name)]);
    const refused = await cli(["install-units", "--directory", `/dev/null/${name}`]);
    for (const text of [shown.stdout, shown.stderr, refused.stderr]) assert.doesNotMatch(text, /[\u001b\u009b]/);
    assert.match(shown.stdout, /a\\x1b\[2J\\x9bb/);
    assert.match(refused.stderr, /a\\x1b\[2J\\x9bb/);
  });

  test("without a configuration file, the next command names the timer of any target", async () => {
    const { stderr } = await cli(["install-units", "--directory", directory]);
    assert.match(stderr, /enable --now btrfs-snapshots-to-swift@(NAME|\w+)\.timer/);
  });
});
