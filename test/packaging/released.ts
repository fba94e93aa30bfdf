// What `npm run release` makes, in Debian roots that have no Node: the .deb, the .rpm and the bare tree archive a real
// btrfs in a real Swift, restore it, and leave nothing. And the release, made twice.

import assert from "node:assert/strict";
import { mkdir, readFile, rm, symlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { btrfs, openLoopback, run } from "../support/loopback.ts";
import { compareTrees, makeTree } from "../support/tree.ts";
import { copyReleased, makeEmptyRoot, playSteps, type Bench, type Step } from "./roots.ts";

const MiB = 2 ** 20;
const NAME = "btrfs-snapshots-to-swift";

/** Runs a command where only /run and what others have mounted can be written, and nothing can be started from /tmp. */
const readOnly = (command: string): string => `
  mkdir -p /ro && mount --rbind / /ro && mount -o remount,bind,ro /ro
  mount -t tmpfs -o noexec tmpfs /ro/tmp && mount -t tmpfs tmpfs /ro/run
  ! touch /ro/usr/file 2>/dev/null
  chroot /ro sh -exc '${command}'`;

/** A backup and a restore; `change` makes of each command what is run. */
const backup = (program: string, change: (command: string) => string): readonly Step[] => [
  ["doctor", `${program} doctor /mnt/disk/data --container-name "$CONTAINER"`],
  ["sync", change(`${program} sync /mnt/disk/data --container-name "$CONTAINER"`)],
  ["list", `${program} list /mnt/disk/data --container-name "$CONTAINER"`],
  ["verify", change(`${program} verify --read-data --container-name "$CONTAINER"`)],
  ["restore", change(`${program} restore --container-name "$CONTAINER" /mnt/disk/data --latest --target /mnt/other`)],
];

/** Prints what has our name, and fails when that is anything else than these paths. */
const onlyLeft = (...paths: readonly string[]): string =>
  `find / -xdev -path '*btrfs-snapshot*' ! -path '/released/*' | sort >/left; cat /left >&2; [ "$(cat /left)" = "$(printf '%s\\n' ${paths.join(" ")})" ]`;

/** With age and zstd, which are only recommended. The files of the user stay. */
const DEB: readonly Step[] = [
  ["bare", "! command -v node && ! command -v btrfs"],
  [
    "install",
    `apt-get --quiet -o Acquire::Check-Valid-Until=false update
    apt-get --quiet install --yes /released/*.deb
    ! command -v node && command -v age && command -v zstd && ${NAME} --version && btrfs-snapshot-to-swift --version`,
  ],
  ...backup(NAME, readOnly),
  [
    "encrypt and compress",
    `age-keygen -o /root/key 2>/dev/null
    ${NAME} sync /mnt/disk/srv --container-name "$CONTAINER" --age-recipient "$(age-keygen -y /root/key)" --compress zstd
    ${NAME} verify --read-data --identity /root/key --container-name "$CONTAINER"`,
  ],
  [
    "install-units",
    `mkdir -p /etc/${NAME} && echo 'targets: {x: {paths: [/mnt/disk/data]}}' >/etc/${NAME}/config.yaml
    ${NAME} install-units
    [ ! -e /etc/systemd/system/${NAME}@.service ] && [ -e /usr/lib/systemd/system/${NAME}@.service ]`,
  ],
  ["remove", `dpkg --remove ${NAME} && ! command -v ${NAME} && [ ! -e /usr/lib/${NAME} ]`],
  ["purge", `dpkg --purge ${NAME}`],
  ["nothing is left", onlyLeft(`/etc/${NAME}`, `/etc/${NAME}/config.yaml`)],
];

/** What every distribution with glibc 2.28 has, under these names. */
const REQUIRED_OF_RPM =
  /^(\/bin\/sh|btrfs-progs|rtld\(GNU_HASH\)|rpmlib\(.*|ld-linux-\S+|lib(c|dl|m|pthread|stdc\+\+|gcc_s)\.so\.\d\(.*\)\(64bit\))$/;

/** A package of nothing that provides what Debian's own files are, of which rpm knows nothing. */
const standIn = (provided: readonly string[]): string => `Name: debian
Version: 1
Release: 1
Summary: What Debian has
License: none
${provided.map((each) => `Provides: ${each}`).join("\n")}
%description
It holds no files.
%files
`;

const RPM: readonly Step[] = [
  ["bare", "! command -v node"],
  [
    "install",
    `rpmbuild -bb --quiet --define '_topdir /root/rpm' /released/debian.spec
    dnf --assumeyes --disablerepo='*' --releasever=1 --setopt=install_weak_deps=0 install /root/rpm/RPMS/*/debian*.rpm /released/*.rpm
    ${NAME} --version && btrfs-snapshot-to-swift --version && rpm --verify ${NAME}`,
  ],
  ...backup(NAME, readOnly),
  ["remove", `dnf --assumeyes remove ${NAME} && ! command -v ${NAME} && [ ! -e /usr/lib/${NAME} ]`],
];

/** Nothing is found by PATH but btrfs. */
const TREE: readonly Step[] = [
  ["bare", "! command -v node"],
  ...backup(`PATH=/only /opt/a\\ tree/bin/${NAME}`, (command) => command),
  [
    "by a link",
    `ln -s '/opt/a tree/bin/btrfs-snapshot-to-swift' /usr/bin/b && PATH=/only /usr/bin/b --version && b --version`,
  ],
];

/** The packages for this machine's own architecture, in the bare root of a suite; the name of the step that failed. */
export async function tryDeb(bench: Bench, suite: string): Promise<string | null> {
  return await inEmptyRoot(bench, { part: "deb", suite, packages: ["ca-certificates"], steps: DEB }, (root) =>
    copyReleased(bench, ".deb", root),
  );
}

export async function tryRpm(bench: Bench, suite: string): Promise<string | null> {
  const packages = ["rpm", "dnf", "btrfs-progs", "libstdc++6"];
  return await inEmptyRoot(bench, { part: "rpm", suite, packages, steps: RPM }, async (root) => {
    const file = await copyReleased(bench, ".rpm", root);
    const required = (await run("rpm", "--query", "--package", "--requires", file)).trim().split("\n");
    for (const each of required) {
      const [, version = "0"] = /GLIBC_([\d.]+)/.exec(each) ?? [];
      assert.ok(REQUIRED_OF_RPM.test(each) && Number(version.split(".")[1] ?? 0) <= 28, each);
    }
    const provided = required.filter((each) => !each.startsWith("rpmlib("));
    await writeFile(join(root, "released/debian.spec"), standIn(provided));
  });
}

export async function tryTree(bench: Bench, suite: string): Promise<string | null> {
  const packages = ["btrfs-progs", "libstdc++6"];
  return await inEmptyRoot(bench, { part: "tree", suite, packages, steps: TREE }, async (root) => {
    const file = await copyReleased(bench, `linux-${process.arch}.tar.zst`, root);
    await mkdir(join(root, "opt/a tree"));
    await run("tar", "--extract", "--file", file, "--directory", join(root, "opt/a tree"), "--strip-components=1");
    await mkdir(join(root, "only"));
    await symlink("/usr/bin/btrfs", join(root, "only/btrfs"));
  });
}

interface Attempt {
  readonly part: string;
  readonly suite: string;
  readonly packages: readonly string[];
  readonly steps: readonly Step[];
}

/** Plays the steps beside two disks: one with two subvolumes to archive, one to restore to. */
async function inEmptyRoot(
  bench: Bench,
  { part, suite, packages, steps }: Attempt,
  prepare: (root: string) => Promise<unknown>,
): Promise<string | null> {
  const container = `${part}-${suite}`;
  const root = await makeEmptyRoot(bench, container, suite, packages);
  const [disk, other] = [await openLoopback({ sizeBytes: 512 * MiB }), await openLoopback({ sizeBytes: 512 * MiB })];
  try {
    await prepare(root);
    for (const name of ["data", "srv"]) {
      await btrfs("subvolume", "create", join(disk.mountPoint, name));
      await makeTree(join(disk.mountPoint, name, "tree"), { seed: 1, files: 20, bytes: 8 * MiB });
      await btrfs("subvolume", "snapshot", "-r", join(disk.mountPoint, name), join(disk.mountPoint, `${name}-1`));
    }
    await bench.swift.createContainer(container);
    const mounts = [
      [disk.mountPoint, "/mnt/disk"],
      [other.mountPoint, "/mnt/other"],
    ] as const;
    const environment = { ...bench.swift.environment, CONTAINER: container, DEBIAN_FRONTEND: "noninteractive" };
    const failed = await playSteps(bench, { root, mounts, environment }, steps);
    if (failed !== null) return failed;
    const { differences } = await compareTrees(join(disk.mountPoint, "data-1"), join(other.mountPoint, "data-1"));
    return differences.length === 0 ? null : `comparison: ${differences.join(", ")}`;
  } finally {
    await Promise.all([disk.close(), other.close()]);
    await rm(root, { recursive: true });
  }
}

/** Makes the release of the commit in two clones, in directories with names of other lengths; the files that differ. */
export async function tryTwice({ directory }: Bench): Promise<string | null> {
  const sums: (readonly string[])[] = [];
  for (const [index, place] of ["one", "the-other/deeper"].entries()) {
    const clone = join(directory, place);
    await run("git", "clone", "--quiet", "--no-hardlinks", ".", clone);
    // Another umask, and another hour.
    const script = `umask ${index === 0 ? "022" : "077"}; cd "$1"; npm run --silent release -- --quick`;
    await run("sh", "-ec", script, "sh", clone);
    sums.push((await readFile(join(clone, "release/SHA256SUMS"), "utf8")).trim().split("\n"));
    await rm(clone, { recursive: true });
  }
  const [first = [], second = []] = sums;
  const different = first.filter((line) => !second.includes(line));
  return different.length === 0 && first.length === second.length ? null : `comparison: ${different.join(", ")}`;
}
