// The tests that touch btrfs-progs, age, zstd and Swift, with those of another Debian in the place of this machine's, on
// this machine's kernel. In a mount namespace of its own, a script lies over each program; it starts the other one with
// the libraries that belong to it. Swift runs in its root.

import { execFile } from "node:child_process";
import { mkdir, readdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";
import { run } from "../support/loopback.ts";

const execute = promisify(execFile);

/** By the package that they are of. */
const PROGRAMS = { "btrfs-progs": ["btrfs", "mkfs.btrfs"], age: ["age", "age-keygen"], zstd: ["zstd"] };

/** As parts of paths, for test/run.ts. */
const TESTS = [
  "btrfs/failing-disk",
  "btrfs/received-trees",
  "btrfs/scratch",
  "btrfs/send-receive",
  "integration/conditional-put",
  "integration/container",
  "integration/encoding",
  "integration/sync-restore",
];

export interface Played {
  /** The versions that the tests ran with, in words. */
  readonly versions: string;
  /** The names of the tests that failed. */
  readonly failed: readonly string[];
  /** Those that need newer versions. */
  readonly skipped: readonly string[];
}

/** @param directory - for the root of that suite, and the scripts */
export async function playVersions(directory: string, suite: string): Promise<Played> {
  const root = join(directory, `${suite}-programs`);
  await run("sh", "native/release/debian-root.sh", "make", suite, root, ...Object.keys(PROGRAMS), "python3-swift");
  const scripts = join(directory, `${suite}-scripts`);
  await writeScripts(scripts, root);
  const inside = async (...words: readonly string[]): Promise<{ readonly status: number; readonly output: string }> => {
    const cover = `
      for script in "$1"/*; do mount --bind "$script" "$(readlink -f "$(command -v "\${script##*/}")")"; done
      shift
      exec "$@"`;
    const args = ["--mount", "sh", "-ec", cover, "sh", scripts, ...words];
    const env = { ...process.env, TEST_SWIFT_ROOT: root, CI: "" };
    try {
      return { status: 0, output: (await execute("unshare", args, { env, maxBuffer: 2 ** 28 })).stdout };
    } catch (error) {
      const { code = 1, stdout = "", stderr = "" } = error as { code?: number; stdout?: string; stderr?: string };
      return { status: code, output: `${stdout}${stderr}` };
    }
  };
  const { output: told } = await inside("node", "dist/src/main.js", "version", "--json");
  const { btrfsProgs, age, zstd } = JSON.parse(told) as Record<string, string>;
  const versions = `btrfs-progs ${btrfsProgs ?? ""}, age ${age ?? ""}, zstd ${zstd ?? ""}, Swift ${await swiftOf(root)}`;
  const { status, output } = await inside("node", "dist/test/run.js", ...TESTS);
  if (status !== 0) console.error(output);
  const named = (sign: string, end: string): readonly string[] => {
    const lines = output.matchAll(new RegExp(`^ *${sign} (.+?) \\([\\d.]+ms\\)${end}$`, "gm"));
    return [...new Set([...lines].map(([, name = ""]) => name))];
  };
  const failed = status === 0 ? [] : [...named("✖", ""), `exit status ${status}`];
  return { versions, failed, skipped: named("﹣", " # .+") };
}

/** Started by its own loader, a program needs nothing of this machine. */
async function writeScripts(scripts: string, root: string): Promise<void> {
  const libraries = [join(root, "lib/x86_64-linux-gnu"), join(root, "usr/lib/x86_64-linux-gnu")];
  const [folder = ""] = libraries;
  // A link in /lib64 can be absolute, and lead out of the root.
  const loader = (await readdir(folder)).filter((name) => /^ld-.*\.so/.test(name)).toSorted();
  await mkdir(scripts);
  for (const name of Object.values(PROGRAMS).flat()) {
    const found = await run(
      "sh",
      "-c",
      'ls "$1"/usr/bin/"$2" "$1"/usr/sbin/"$2" "$1"/bin/"$2" "$1"/sbin/"$2" 2>/dev/null | head -n 1',
      "sh",
      root,
      name,
    );
    const script = `#!/bin/sh\nexec ${join(folder, loader[0] ?? "")} --library-path ${libraries.join(":")} ${found.trim()} "$@"\n`;
    await writeFile(join(scripts, name), script, { mode: 0o755 });
  }
}

async function swiftOf(root: string): Promise<string> {
  const packages = await readdir(join(root, "usr/lib/python3/dist-packages"));
  return packages.map((name) => /^swift-([\d.]+\d)/.exec(name)?.[1]).find((version) => version !== undefined) ?? "?";
}
