// Finds the native addon: the one that was built here, else one of the prebuilt addons. No other file names it. An
// addon that does not load, or was built from other sources than this program's, is skipped, so that a broken, foreign
// or old file never hides one that works.

import { existsSync, readdirSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { arch, platform } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { BackupError } from "../errors.ts";

/**
 * The packages that build the addon, by the program that installs them. The first installer that exists is the one to
 * name.
 */
const packages: readonly (readonly [installer: string, words: string])[] = [
  ["/usr/bin/apt-get", "apt-get install g++ make python3 libbtrfsutil-dev"],
  ["/usr/bin/dnf", "dnf install gcc-c++ make python3 btrfs-progs-devel"],
  ["/usr/bin/pacman", "pacman -S gcc make python btrfs-progs"],
  ["/sbin/apk", "apk add g++ make python3 btrfs-progs-dev linux-headers"],
  ["/usr/bin/zypper", "zypper install gcc-c++ make python3 libbtrfsutil-devel"],
];

let loaded: unknown = null;

/**
 * The addon's exports, loaded on first use and not with a module, so that a machine without it still prints help and
 * errors. Each file of this room types the part it is about. @throws CONFIG
 */
export function loadOnce(): unknown {
  return (loaded ??= loadAddon());
}

/** The versions that the addon was compiled with. @throws CONFIG */
export function addonVersions(): { readonly libbtrfsutil: string; readonly napi: number } {
  return (loadOnce() as { versions: { libbtrfsutil: string; napi: number } }).versions;
}

/**
 * The addon's exports.
 * @param root the package's, or a bundle's, directory
 * @param sources fingerprint of the sources that it must have been built from; null = any
 * @throws CONFIG with the packages to install
 */
export function loadAddon(root = findRoot(), sources = readSources()): unknown {
  const require = createRequire(import.meta.url);
  let reason = "none was built, and none is prebuilt for this machine";
  for (const file of candidates(root)) {
    try {
      const addon = require(file) as { readonly versions?: { readonly sources?: string } };
      if (sources === null || addon.versions?.sources === sources) return addon;
      reason = `${file} was built from other sources than this program`;
    } catch (error) {
      // The loader puts details on further lines.
      reason = (error instanceof Error ? error.message : String(error)).split("\n", 1)[0] ?? "";
    }
  }
  throw new BackupError("CONFIG", `the native addon cannot be loaded: ${reason}`, {
    hint: howToBuild(root, existsSync),
  });
}

/**
 * The addon that was built here comes first, then the prebuilt ones, in the layout of node-gyp-build; among these,
 * those for this machine's libc come first.
 */
function candidates(root: string): string[] {
  const prebuilds = join(root, "prebuilds", `${platform()}-${arch()}`);
  const own = existsSync("/etc/alpine-release") ? ".musl." : ".glibc.";
  const names = existsSync(prebuilds) ? readdirSync(prebuilds).filter((name) => name.endsWith(".node")) : [];
  const sorted = [...names.filter((name) => name.includes(own)), ...names.filter((name) => !name.includes(own))];
  return [join(root, "build/Release/btrfs.node"), ...sorted.map((name) => join(prebuilds, name))].filter((file) =>
    existsSync(file),
  );
}

/** The commands to type to get an addon, for the distribution that `exists` recognises by its installer. */
export function howToBuild(root: string, exists: (path: string) => boolean): string {
  const known = packages.find(([installer]) => exists(installer));
  const install = known?.[1] ?? "install a C++ compiler, make, python3 and libbtrfsutil with its headers";
  // A bundle has nothing to build from. `npm run` works where install scripts are disabled.
  const build = existsSync(join(root, "binding.gyp"))
    ? `npm run build:native --prefix ${root}`
    : "install the npm package";
  return `${install}; then: ${build}`;
}

/**
 * The fingerprint that native/fingerprint.mjs printed when this program was built; null in a directory that was
 * compiled by tsc alone.
 */
function readSources(): string | null {
  const file = new URL("../../addon-sources.txt", import.meta.url);
  return existsSync(file) ? readFileSync(file, "utf8").trim() : null;
}

/** The nearest directory above this file that may contain an addon, wherever this was compiled or bundled to. */
function findRoot(): string {
  const start = dirname(fileURLToPath(import.meta.url));
  for (let directory = start; directory !== dirname(directory); directory = dirname(directory)) {
    if (["binding.gyp", "prebuilds"].some((name) => existsSync(join(directory, name)))) return directory;
  }
  return start;
}
