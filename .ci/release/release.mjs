// `npm run release`: release/, all that is published of one commit, for both architectures: the tree with its own Node as
// .tar.zst, .deb and .rpm, the sources, the SBOM and SHA256SUMS. The same commit gives the same bytes, with the same
// versions of dpkg, rpm, xz, zstd, Node and Debian 11's compilers.
//
//   npm run release -- [--quick] [x64|arm64...]      --quick: larger packages in less time, for tests

import { createHash } from "node:crypto";
import { mkdir, mkdtemp, readdir, readFile, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { about, root } from "../layout.mjs";
import { makeDeb } from "./deb.mjs";
import { fetchNode } from "./node.mjs";
import { makeRpm } from "./rpm.mjs";
import { run } from "./run.mjs";
import { makeSbom } from "./sbom.mjs";
import { makeTree, settle } from "./tree.mjs";

const MiB = 2 ** 20;
const LARGEST = 45 * MiB;

const ALL = ["x64", "arm64"];

const pins = JSON.parse(await readFile(new URL("pins.json", import.meta.url), "utf8"));

/** What all parts know of this release. */
async function describeRelease(quick) {
  const [epoch, maintainer] = (await run("git", ["log", "-1", "--format=%ct%n%an <%ae>"], { cwd: root })).split("\n");
  const bundled = await readFile(join(root, "dist/program/licences-of-others.txt"), "utf8");
  const others = [...bundled.matchAll(/^\S+ \S+ \((.+)\)$/gm)].map(([, licence]) => licence);
  return {
    name: about.name,
    version: about.version,
    epoch: Number(epoch),
    quick,
    maintainer,
    summary: "archive btrfs snapshots in OpenStack Swift and restore them",
    description: [
      "Keeps the read-only snapshots of btrfs subvolumes in a container of OpenStack",
      "Swift, through its S3 API: the first in full, the others incrementally,",
      "optionally compressed with zstd and encrypted with age.",
      ".",
      "The package brings its own Node.js, and uses no other.",
    ],
    licences: [...new Set([about.license, "LGPL-3.0-or-later", "MIT", ...others.sort()])],
  };
}

/** The three wrappings of the tree for one architecture; their names in `out`. */
async function makePackages(out, work, release, architecture) {
  const node = await fetchNode(join(work, "node"), architecture, pins.node);
  const plain = `${release.name}-${release.version}-linux-${architecture}`;
  const trees = [
    [join(work, plain), { prefix: "/usr/local", zsh: "site-functions" }],
    [join(work, "deb/usr"), { prefix: "/usr", zsh: "vendor-completions" }],
    [join(work, "rpm-root/usr"), { prefix: "/usr", zsh: "site-functions" }],
  ];
  for (const [directory, place] of trees) await makeTree(directory, { architecture, node, ...place });
  const common = { architecture, release };
  await settle(join(work, plain), release.epoch);
  return [
    await makeTar(out, { directory: work, names: [plain], file: `${plain}.tar.zst`, release }),
    await makeDeb(out, { ...common, root: join(work, "deb") }),
    await makeRpm(out, { ...common, root: join(work, "rpm-root"), work: join(work, "rpm-work") }),
  ];
}

/** An archive in which nothing is of this machine or of this hour. @returns its name in `out` */
async function makeTar(out, { directory, names, file, release: { epoch, quick } }) {
  const plain = ["--sort=name", "--format=gnu", `--mtime=@${epoch}`, "--owner=0", "--group=0", "--numeric-owner"];
  const tar = ["--create", "--directory", directory, ...plain, "--use-compress-program", `zstd -${quick ? 3 : 19} -T0`];
  await run("tar", [...tar, "--file", join(out, file), ...names]);
  return file;
}

/** What git knows of, as it lies here: whoever gets the program may have its sources. */
async function makeSources(out, work, release) {
  const name = `${release.name}-${release.version}`;
  await mkdir(join(work, name), { recursive: true });
  const copy = 'git ls-files -z | tar --create --null --files-from - | tar --extract --directory "$1"';
  await run("sh", ["-ec", copy, "sh", join(work, name)], { cwd: root });
  await settle(join(work, name), release.epoch, (_, mode) => (mode & 0o100) !== 0);
  return await makeTar(out, { directory: work, names: [name], file: `${name}-source.tar.zst`, release });
}

/** Debian's judges of packages. Their warnings are no errors. */
async function judge(out, files) {
  const of = (end) => files.filter((file) => file.endsWith(end)).map((file) => join(out, file));
  const rules = join(root, ".ci/release/rpm/rpmlint.toml");
  await run("lintian", ["--fail-on", "error", "--allow-root", ...of(".deb")]);
  await run("rpmlint", ["--config", rules, ...of(".rpm")]);
}

async function sumOf(file) {
  return createHash("sha256")
    .update(await readFile(file))
    .digest("hex");
}

async function makeRelease(out, work, { quick, architectures }) {
  const release = await describeRelease(quick);
  const changed = await run("git", ["status", "--porcelain"], { cwd: root });
  if (changed !== "") console.error("release: this checkout has changes that are in no commit:\n" + changed);
  const packages = [];
  for (const each of architectures) {
    packages.push(...(await makePackages(out, join(work, each), release, each)));
    await rm(join(work, each), { recursive: true });
  }
  await makeSources(out, join(work, "sources"), release);
  await writeFile(join(out, `${release.name}-${release.version}.cdx.json`), await makeSbom(release, pins));
  await judge(out, packages);
  let sums = "";
  for (const file of (await readdir(out)).sort()) {
    const { size } = await stat(join(out, file));
    if (size > LARGEST) throw new Error(`${file} has ${size} bytes: at most 45 MiB are allowed`);
    console.log(`${(size / MiB).toFixed(1).padStart(5)} MiB  ${file}`);
    sums += `${await sumOf(join(out, file))}  ${file}\n`;
  }
  await writeFile(join(out, "SHA256SUMS"), sums);
}

const words = process.argv.slice(2);
const named = words.filter((word) => word !== "--quick");
const unknown = named.find((word) => !ALL.includes(word));
if (unknown !== undefined) throw new Error(`no release is made for ${unknown}`);
const out = join(root, "release");
const work = await mkdtemp(join(tmpdir(), "release-"));
try {
  await rm(out, { recursive: true, force: true });
  await mkdir(out);
  await makeRelease(out, work, { quick: words.includes("--quick"), architectures: named.length > 0 ? named : ALL });
} finally {
  await rm(work, { recursive: true, force: true });
}
