// `npm run test:matrix [-- SUITE...]`: installs the packed tarball in clean Debian roots that have neither compiler nor
// libbtrfsutil, without install scripts, under two majors of Node each, and lists and archives a real btrfs there. Prints
// a table; fails when one cell does. Needs what native/release/debian-root.sh needs. ROOT_CACHE names a directory to keep the roots in.

import { existsSync } from "node:fs";
import { mkdtemp, realpath, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { btrfs, openLoopback, run, type Loopback } from "../support/loopback.ts";
import { openSwift, type Swift } from "../support/swift.ts";

/** Every root with the oldest Node we take and one newer; all of Node's majors appear. */
const MATRIX: Readonly<Record<string, readonly number[]>> = {
  bullseye: [20, 22],
  bookworm: [20, 24],
  trixie: [20, 26],
  sid: [20, 26],
};
/** Node 26 wants libatomic; btrfs-progs is what the program itself runs. */
const PACKAGES = ["btrfs-progs", "libstdc++6", "libatomic1"];
const PROGRAM = "/opt/installed/bin/btrfs-snapshots-to-swift";

/** What is the same for every cell. */
interface Bench {
  readonly disk: Loopback;
  readonly swift: Swift;
  readonly tarball: string;
  readonly npm: string;
  readonly directory: string;
}

/** The steps in a root, as shell: each must succeed. Every cell has a container of its own. */
const STEPS: readonly (readonly [name: string, script: string])[] = [
  ["bare", "! command -v cc && ! command -v g++ && ! ldconfig -p | grep libbtrfsutil"],
  [
    "install",
    "node /opt/npm/bin/npm-cli.js install --global --prefix /opt/installed --ignore-scripts --no-audit --no-fund /package.tgz",
  ],
  ["doctor", `${PROGRAM} doctor /mnt/disk/data --container-name "$CONTAINER"`],
  ["list", `${PROGRAM} list --container-name "$CONTAINER" /mnt/disk/data`],
  ["sync", `${PROGRAM} sync /mnt/disk/data --container-name "$CONTAINER"`],
  ["verify", `${PROGRAM} verify --read-data --container-name "$CONTAINER"`],
];

async function settings(bench: Bench, container: string): Promise<readonly string[]> {
  const registry = (await run("npm", "config", "get", "registry")).trim();
  const certificates = process.env["NODE_EXTRA_CA_CERTS"];
  const passed = Object.entries({
    ...bench.swift.environment,
    CONTAINER: container,
    HOME: "/root",
    npm_config_registry: registry,
  });
  const own = [
    "PATH=/opt/node/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    ...(certificates ? ["NODE_EXTRA_CA_CERTS=/certificates.pem"] : []),
  ];
  return ["env", "-i", ...own, ...passed.map(([name, value]) => `${name}=${value}`)];
}

function mounts(bench: Bench): readonly string[] {
  const certificates = process.env["NODE_EXTRA_CA_CERTS"];
  const pairs = [
    [bench.npm, "/opt/npm"],
    [bench.tarball, "/package.tgz"],
    [bench.disk.mountPoint, "/mnt/disk"],
    ["/etc/resolv.conf", "/etc/resolv.conf"],
  ];
  return [...pairs, ...(certificates ? [[certificates, "/certificates.pem"]] : [])].map((pair) => pair.join(":"));
}

/** One root, one Node: the name of the step that failed, or null. */
async function tryCell(bench: Bench, suite: string, major: number): Promise<string | null> {
  const root = join(bench.directory, `${suite}-${major}`);
  await run("sh", "native/release/debian-root.sh", "make", suite, root, ...PACKAGES);
  await run("sh", "native/release/debian-root.sh", "node", String(major), process.arch, join(root, "opt/node"));
  await bench.swift.createContainer(`${suite}-${major}`);
  const environment = await settings(bench, `${suite}-${major}`);
  try {
    for (const [name, script] of STEPS) {
      try {
        await run(
          "sh",
          "native/release/debian-root.sh",
          "enter",
          root,
          ...mounts(bench),
          "--",
          ...environment,
          "sh",
          "-ec",
          script,
        );
      } catch (error) {
        const { stdout, stderr } = error as { stdout?: string; stderr?: string };
        console.error(`${suite}, Node ${major}, ${name}: ${stdout ?? ""}${stderr ?? String(error)}`);
        return name;
      }
    }
    return null;
  } finally {
    // The mounts went with the namespace they were made in.
    await rm(root, { recursive: true });
  }
}

async function withBench(use: (bench: Bench) => Promise<void>): Promise<void> {
  const directory = await mkdtemp(join(tmpdir(), "matrix-"));
  const disk = await openLoopback({ sizeBytes: 512 * 2 ** 20 });
  try {
    await btrfs("subvolume", "create", join(disk.mountPoint, "data"));
    await run("dd", "if=/dev/urandom", `of=${join(disk.mountPoint, "data/file")}`, "bs=1M", "count=8");
    await btrfs("subvolume", "snapshot", "-r", join(disk.mountPoint, "data"), join(disk.mountPoint, "monday"));
    const packed = process.env["PACKAGE"];
    const tarball =
      packed ??
      join(
        directory,
        (await run("npm", "pack", "--silent", "--pack-destination", directory)).trim().split("\n").at(-1) ?? "",
      );
    const npm = dirname(dirname(await realpath((await run("sh", "-c", "command -v npm")).trim())));
    const swift = await openSwift();
    try {
      await use({ disk, swift, tarball, npm, directory });
    } finally {
      await swift.close();
    }
  } finally {
    await disk.close();
    await rm(directory, { recursive: true });
  }
}

const suites = process.argv.slice(2);
const unknown = suites.find((suite) => !(suite in MATRIX));
if (unknown !== undefined || !existsSync("native/release/debian-root.sh"))
  throw new Error(`unknown suite or wrong directory: ${unknown ?? process.cwd()}`);
await withBench(async (bench) => {
  for (const suite of suites.length > 0 ? suites : Object.keys(MATRIX)) {
    for (const major of MATRIX[suite] ?? []) {
      const failed = await tryCell(bench, suite, major);
      console.log(`${suite.padEnd(10)} Node ${major}  ${failed === null ? "ok" : `FAILED at ${failed}`}`);
      if (failed !== null) process.exitCode = 1;
    }
  }
});
