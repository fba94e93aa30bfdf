// `npm run test:matrix [-- PART...] [SUITE...]`: what is packed, in bare Debian roots. Prints a table; fails when one cell
// does. Needs what native/release/debian-root.sh needs. ROOT_CACHE names a directory to keep the roots in, PACKAGE a
// tarball that exists, RELEASE a directory that `npm run release` has filled.
//
//   packages   the tarball installed without install scripts, where neither compiler nor libbtrfsutil is, under two
//              majors of Node each: it lists and archives a real btrfs
//   deb        the .deb, where no Node is: installed, used, removed and purged
//   rpm        the .rpm likewise, by Debian's dnf
//   tree       the .tar.zst, unpacked, with a PATH that has nothing but btrfs
//   twice      the release of the commit, made in two clones: byte for byte the same
//   night      the shipped units, under the suite's own systemd, booted
//   readme     the README's commands, in its order
//   versions   tests of this checkout with the suite's btrfs-progs, age, zstd and Swift; what is packed is not used
//   copies     a container copied with rclone, awscli and swiftclient into the suite's Swift; what is packed is not used
//
// Without a PART all of them, without a SUITE each one's own.

import { existsSync } from "node:fs";
import { mkdtemp, realpath, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { noCopyTools } from "../support/copies.ts";
import { btrfs, run, withLoopback } from "../support/loopback.ts";
import { noBtrfsOrSwift, noKeystone } from "../support/requirements.ts";
import { enterRoot, openProcessCleanup, openSwift } from "../support/swift.ts";
import { noBoot } from "./booted.ts";
import { playCopies } from "./copies.ts";
import { playNight } from "./night.ts";
import { tryDeb, tryRpm, tryTree, tryTwice } from "./released.ts";
import {
  copyReleased,
  INSTALL,
  makeBareRoot,
  makeEmptyRoot,
  makeRoot,
  PACKAGES as PACKAGES_OF_ROOT,
  playSteps,
  PROGRAM,
  runInRoot,
  type Bench,
  type Step,
} from "./roots.ts";
import { playVersions } from "./versions.ts";
import { walkReadme } from "./walk.ts";

/** Every suite with the oldest Node we take and one newer; all of Node's majors appear. */
const PACKAGES: Readonly<Record<string, readonly number[]>> = {
  bullseye: [20, 22],
  bookworm: [20, 24],
  trixie: [20, 26],
  sid: [20, 26],
};

/** systemd 252 and 257. Null: the .deb. */
const NIGHTS: Readonly<Record<string, readonly (number | null)[]>> = { bookworm: [20, null], trixie: [null] };

/**
 * The suites of parts that need no Node of npm's: it is the one that was released, Debian's own (readme), or this machine's
 * (copies, versions). rpm and dnf are those of Debian 12; the Swift that is copied to is 2.35.
 */
const OTHERS = {
  deb: ["bullseye", "bookworm", "trixie", "sid"],
  rpm: ["bookworm"],
  tree: ["bullseye"],
  twice: ["bullseye"],
  readme: ["trixie"],
  versions: ["bullseye", "bookworm", "trixie", "sid"],
  copies: ["trixie"],
} as const satisfies Partial<Record<Part, readonly string[]>>;

type Part = "packages" | "deb" | "rpm" | "tree" | "twice" | "night" | "readme" | "versions" | "copies";

/** These install what was released. */
const RELEASED: readonly Part[] = ["deb", "rpm", "tree", "night"];

/** These install npm's package. */
const PACKED: readonly Part[] = ["packages", "night"];

/** One line of the table. */
interface Cell {
  readonly part: Part;
  readonly suite: string;
  /** Null: the cell's Node is not of npm. */
  readonly major: number | null;
}

/** One root and one Node. */
interface Rooted extends Cell {
  readonly major: number;
}

/** The steps in a root, as shell: each must succeed. Every cell has a container of its own. */
const STEPS: readonly Step[] = [
  ["bare", "! command -v cc && ! command -v g++ && ! ldconfig -p | grep libbtrfsutil"],
  ["install", INSTALL],
  ["doctor", `${PROGRAM} doctor /mnt/disk/data --container-name "$CONTAINER"`],
  ["list", `${PROGRAM} list --container-name "$CONTAINER" /mnt/disk/data`],
  ["sync", `${PROGRAM} sync /mnt/disk/data --container-name "$CONTAINER"`],
  ["verify", `${PROGRAM} verify --read-data --container-name "$CONTAINER"`],
];

/** One root, one Node: the name of the step that failed, or null. */
async function tryPackage(bench: Bench, { suite, major }: Rooted): Promise<string | null> {
  const root = await makeRoot(bench, suite, major);
  const container = `${suite}-${major}`;
  await bench.swift.createContainer(container);
  const environment = { ...bench.swift.environment, CONTAINER: container };
  return await withLoopback({ sizeBytes: 512 * 2 ** 20 }, async ({ mountPoint }) => {
    await btrfs("subvolume", "create", join(mountPoint, "data"));
    await run("dd", "if=/dev/urandom", `of=${join(mountPoint, "data/file")}`, "bs=1M", "count=8");
    await btrfs("subvolume", "snapshot", "-r", join(mountPoint, "data"), join(mountPoint, "monday"));
    try {
      return await playSteps(bench, { root, mounts: [[mountPoint, "/mnt/disk"]], environment }, STEPS);
    } finally {
      // The mounts went with the namespace they were made in.
      await rm(root, { recursive: true });
    }
  });
}

async function tryNight(bench: Bench, { suite, major }: Cell): Promise<string | null> {
  const packages = ["systemd", "systemd-sysv", "dbus", "mount"];
  const label = `night-${suite}-${major ?? "deb"}`;
  const root =
    major === null
      ? await makeEmptyRoot(bench, label, suite, [...PACKAGES_OF_ROOT, ...packages])
      : await makeRoot(bench, suite, major, packages);
  try {
    if (major === null) await copyReleased(bench, ".deb", root);
    await runInRoot(bench, { root }, major === null ? "dpkg --install /released/*.deb" : INSTALL);
    return await playNight(root, bench.swift, label, major === null);
  } finally {
    await rm(root, { recursive: true });
  }
}

async function tryReadme(bench: Bench, { suite }: Cell): Promise<string | null> {
  const root = await makeBareRoot(bench, suite);
  try {
    return await walkReadme(bench, root);
  } finally {
    await rm(root, { recursive: true });
  }
}

async function tryCopies({ directory, swift }: Bench, { suite }: Cell): Promise<string | null> {
  const root = join(directory, `${suite}-swift`);
  await run("sh", "native/release/debian-root.sh", "make", suite, root, "python3-swift");
  try {
    await playCopies(swift, () => openSwift({ enter: enterRoot(root) }));
    return null;
  } catch (error) {
    console.error(`${suite}: ${String(error)}`);
    return "copies";
  } finally {
    await rm(root, { recursive: true });
  }
}

async function tryVersions({ directory }: Bench, { suite }: Cell): Promise<string | null> {
  const { versions, failed, skipped } = await playVersions(directory, suite);
  console.log(`${suite}: ${versions}${skipped.length === 0 ? "" : `; skipped: ${skipped.join("; ")}`}`);
  return failed.length === 0 ? null : failed.join("; ");
}

/** The cells to try, by the words of the command line. @throws for a word that is neither a part nor a suite */
function chooseCells(words: readonly string[]): readonly Cell[] {
  const of = (part: Part, suites: Readonly<Record<string, readonly (number | null)[]>>): readonly Cell[] =>
    Object.entries(suites).flatMap(([suite, majors]) => majors.map((major) => ({ part, suite, major })));
  const other = (part: keyof typeof OTHERS): readonly Cell[] =>
    OTHERS[part].map((suite) => ({ part, suite, major: null }));
  const cells = [
    ...of("packages", PACKAGES),
    ...other("deb"),
    ...other("rpm"),
    ...other("tree"),
    ...other("twice"),
    ...of("night", NIGHTS),
    ...other("readme"),
    ...other("versions"),
    ...other("copies"),
  ];
  const [parts, suites] = [cells.map(({ part }): string => part), cells.map(({ suite }) => suite)];
  const unknown = words.find((word) => !parts.includes(word) && !suites.includes(word));
  if (unknown !== undefined) throw new Error(`unknown part or suite: ${unknown}`);
  const isChosen = (name: string, all: readonly string[]): boolean =>
    words.includes(name) || !words.some((word) => all.includes(word));
  return cells.filter(({ part, suite }) => isChosen(part, parts) && isChosen(suite, suites));
}

/** Why a cell cannot be tried here, in a few words; false when it can. */
function cannotTry({ part }: Cell): string | false {
  if (part === "night") return noBoot();
  if (part === "copies") return noBtrfsOrSwift() || noCopyTools();
  return part === "readme" ? noKeystone() : false;
}

/** The name of the step that failed, or null. */
async function tryCell(bench: Bench, cell: Cell): Promise<string | null> {
  const { major, suite } = cell;
  switch (cell.part) {
    case "packages":
      if (major === null) throw new TypeError("npm's package needs a Node of npm's");
      return await tryPackage(bench, { ...cell, major });
    case "deb":
      return await tryDeb(bench, suite);
    case "rpm":
      return await tryRpm(bench, suite);
    case "tree":
      return await tryTree(bench, suite);
    case "twice":
      return await tryTwice(bench);
    case "night":
      return await tryNight(bench, cell);
    case "readme":
      return await tryReadme(bench, cell);
    case "versions":
      return await tryVersions(bench, cell);
    case "copies":
      return await tryCopies(bench, cell);
  }
}

/** The text for a cell, once it was tried. */
async function describeCell(bench: Bench, cell: Cell): Promise<string> {
  const cannot = cannotTry(cell);
  const failed = cannot === false ? await tryCell(bench, cell) : null;
  // As everywhere: where nobody reads what was left out, nothing is left out.
  if (failed !== null || (cannot !== false && process.env["CI"] === "true")) process.exitCode = 1;
  if (cannot !== false) return `not tried here: it ${cannot}`;
  return failed === null ? "ok" : `FAILED at ${failed}`;
}

/** npm's package: the one that PACKAGE names, or a new one. */
async function pack(directory: string): Promise<string> {
  const named = process.env["PACKAGE"];
  if (named !== undefined) return named;
  const packed = await run("npm", "pack", "--silent", "--pack-destination", directory);
  return join(directory, packed.trim().split("\n").at(-1) ?? "");
}

/** The directory of the release: the one that RELEASE names, or a new one, for this machine alone. */
async function makeRelease(): Promise<string> {
  const named = process.env["RELEASE"];
  if (named === undefined) await run("npm", "run", "--silent", "release", "--", "--quick", process.arch);
  return named ?? "release";
}

async function withBench(parts: readonly Part[], use: (bench: Bench) => Promise<void>): Promise<void> {
  const directory = await mkdtemp(join(tmpdir(), "matrix-"));
  const cleanup = openProcessCleanup(directory);
  try {
    const has = (some: readonly Part[]): boolean => parts.some((part) => some.includes(part));
    const tarball = has(PACKED) ? await pack(directory) : null;
    const released = has(RELEASED) ? await makeRelease() : null;
    const npm = dirname(dirname(await realpath((await run("sh", "-c", "command -v npm")).trim())));
    const swift = await openSwift();
    try {
      await use({ swift, tarball, released, npm, directory });
    } finally {
      await swift.close();
    }
  } finally {
    await cleanup.run();
  }
}

const cells = chooseCells(process.argv.slice(2));
if (!existsSync("native/release/debian-root.sh")) throw new Error(`wrong directory: ${process.cwd()}`);
const parts = cells.map(({ part }) => part);
await withBench(parts, async (bench) => {
  for (const cell of cells) {
    const described = await describeCell(bench, cell);
    const node = cell.major ?? (RELEASED.includes(cell.part) ? "of its own" : "of Debian");
    console.log(`${cell.part.padEnd(9)} ${cell.suite.padEnd(10)} Node ${node}  ${described}`);
  }
});
