// Bare Debian roots, in which the packed tarball is installed, without install scripts, beside a Node of npm's; or what
// was released, which needs no Node.

import { mkdir, readdir } from "node:fs/promises";
import { join } from "node:path";
import { run } from "../support/loopback.ts";
import type { Swift } from "../support/swift.ts";

/** The common part of all roots. */
export interface Bench {
  readonly swift: Swift;
  /** npm's package, where one is installed. */
  readonly tarball: string | null;
  /** The directory that `npm run release` has filled, where something of it is installed. */
  readonly released: string | null;
  /** The directory of npm's own package. */
  readonly npm: string;
  /** Where roots are made. */
  readonly directory: string;
}

export interface Entered {
  readonly root: string;
  /** Directories and files of this machine, and where they are seen in the root. */
  readonly mounts?: readonly (readonly [from: string, to: string])[];
  readonly environment?: Readonly<Record<string, string>>;
}

export const PROGRAM = "/opt/installed/bin/btrfs-snapshots-to-swift";

export const INSTALL =
  "node /opt/npm/bin/npm-cli.js install --global --prefix /opt/installed --ignore-scripts --no-audit --no-fund /package.tgz";

/** Node 26 wants libatomic; btrfs-progs is what the program itself runs. */
export const PACKAGES = ["btrfs-progs", "libstdc++6", "libatomic1"];

/** A root with this Node, and with nothing but what the program needs and `packages`. */
export async function makeRoot(
  { directory }: Bench,
  suite: string,
  major: number,
  packages: readonly string[] = [],
): Promise<string> {
  const root = join(directory, `${suite}-${major}`);
  await run("sh", "native/release/debian-root.sh", "make", suite, root, ...PACKAGES, ...packages);
  await run("sh", "native/release/debian-root.sh", "node", String(major), process.arch, join(root, "opt/node"));
  return root;
}

/** A root as a Debian is that somebody has just installed: with sudo, and able to install more. */
export async function makeBareRoot({ directory }: Bench, suite: string): Promise<string> {
  const root = join(directory, `${suite}-bare`);
  await run("sh", "native/release/debian-root.sh", "make", suite, root, "sudo", "ca-certificates");
  return root;
}

/** A root without Node, with nothing but these packages. */
export async function makeEmptyRoot(
  { directory }: Bench,
  name: string,
  suite: string,
  packages: readonly string[],
): Promise<string> {
  const root = join(directory, name);
  await run("sh", "native/release/debian-root.sh", "make", suite, root, ...packages);
  return root;
}

/** Copies the file of the release that ends so, for this machine's architecture, into a root's /released; its path. */
export async function copyReleased({ released }: Bench, end: string, root: string): Promise<string> {
  const architecture = process.arch === "x64" ? /amd64|x86_64|x64/ : /arm64|aarch64/;
  const all = released === null ? [] : await readdir(released);
  const name = all.find((each) => each.endsWith(end) && architecture.test(each));
  if (name === undefined) throw new Error(`the release has no file that ends with ${end}`);
  await mkdir(join(root, "released"));
  await run("cp", join(released ?? "", name), join(root, "released"));
  return join(root, "released", name);
}

/** A script of sh in a root: it must succeed. */
export type Step = readonly [name: string, script: string];

/** Plays steps in a root, one after the other; the name of the one that failed, with all that it said on stderr. */
export async function playSteps(bench: Bench, entered: Entered, steps: readonly Step[]): Promise<string | null> {
  for (const [name, script] of steps) {
    try {
      await runInRoot(bench, entered, script);
    } catch (error) {
      const { stdout, stderr } = error as { stdout?: string; stderr?: string };
      console.error(`${entered.root}, ${name}: ${stdout ?? ""}${stderr ?? String(error)}`);
      return name;
    }
  }
  return null;
}

/** Runs a script of sh in a root. */
export async function runInRoot(
  bench: Bench,
  { root, mounts = [], environment = {} }: Entered,
  script: string,
): Promise<string> {
  const certificates = process.env["NODE_EXTRA_CA_CERTS"];
  const all = [
    [bench.npm, "/opt/npm"],
    ...(bench.tarball === null ? [] : [[bench.tarball, "/package.tgz"]]),
    ["/etc/resolv.conf", "/etc/resolv.conf"],
    ...mounts,
    ...(certificates ? [[certificates, "/certificates.pem"]] : []),
  ];
  const variables = Object.entries({
    PATH: "/opt/node/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    HOME: "/root",
    npm_config_registry: (await run("npm", "config", "get", "registry")).trim(),
    ...(certificates ? { NODE_EXTRA_CA_CERTS: "/certificates.pem" } : {}),
    ...environment,
  });
  const command = ["env", "-i", ...variables.map(([name, value]) => `${name}=${value}`), "sh", "-ec", script];
  return await run(
    "sh",
    "native/release/debian-root.sh",
    "enter",
    root,
    ...all.map((pair) => pair.join(":")),
    "--",
    ...command,
  );
}
