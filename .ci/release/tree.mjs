// The tree of a release, for one architecture and one prefix: bin/, lib/ and share/ with all that the program needs but
// btrfs-progs, age and zstd.

import {
  chmod,
  copyFile,
  cp,
  lstat,
  lutimes,
  mkdir,
  readdir,
  readFile,
  rename,
  symlink,
  writeFile,
} from "node:fs/promises";
import { dirname, join } from "node:path";
import { about, layOutProgram, root } from "../layout.mjs";
import { run } from "./run.mjs";

const { name } = about;

/** The Python tool's name. */
const OLD_NAME = "btrfs-snapshot-to-swift";

/** Pages whose links to each other stay right. */
const PAGES = [
  "README.md",
  "CHANGELOG.md",
  "src/README.md",
  "src/commands/README.md",
  "src/config/README.md",
  "src/plan/FORMAT.md",
  "native/README.md",
  "test/README.md",
];

/**
 * Lays out the tree in a directory that does not exist yet.
 * @param prefix - where it will lie: systemd's units name the program by its path
 * @param zsh - the directory below share/zsh in which the shell of that place looks for completions
 */
export async function makeTree(out, { architecture, prefix, zsh, node }) {
  const lib = join(out, "lib", name);
  await mkdir(join(lib, "dist"), { recursive: true });
  await layOutProgram(lib, [architecture]);
  await copyFile(join(node, "bin/node"), join(lib, "node"));
  await place(join(out, "bin", name), await readFile(new URL("launcher.sh", import.meta.url)), 0o755);
  await symlink(name, join(out, "bin", OLD_NAME));
  await placeLicences(join(lib, "LICENSES"), node);
  await placeUnits(join(out, "lib/systemd/system"), `${prefix}/lib/${name}`);
  await placeHelp(join(out, "share"), zsh);
}

/** Writes a file, with its directories. */
export async function place(file, contents, mode = 0o644) {
  await mkdir(dirname(file), { recursive: true });
  await writeFile(file, contents);
  await chmod(file, mode);
}

async function placeLicences(directory, node) {
  await mkdir(directory);
  await cp(join(root, "LICENSE"), join(directory, "GPL-3.0"));
  for (const file of ["NOTICE", "LGPL-3.0"]) await cp(join(root, "native", file), join(directory, file));
  await cp(join(node, "LICENSE"), join(directory, "node"));
  await rename(join(directory, "../dist/program/licences-of-others.txt"), join(directory, "bundled-packages"));
}

/** As `install-units` writes them for a program at that place. */
async function placeUnits(directory, lib) {
  const { formatUnits } = await import(join(root, "dist/src/integrations/systemd.js"));
  const words = [`${lib}/node`, "--", `${lib}/dist/program/main.js`, "sync"];
  for (const [file, text] of Object.entries(formatUnits(words))) await place(join(directory, file), text);
}

async function placeHelp(share, zsh) {
  const manual = await readFile(join(root, "dist", `${name}.1`));
  const man = join(share, "man/man1");
  await place(join(man, `${name}.1`), manual);
  await compress(join(man, `${name}.1`));
  await symlink(`${name}.1.gz`, join(man, `${OLD_NAME}.1.gz`));
  const completions = [
    [name, `bash-completion/completions/${name}`],
    [`_${name}`, `zsh/${zsh}/_${name}`],
    [`${name}.fish`, `fish/vendor_completions.d/${name}.fish`],
  ];
  for (const [from, to] of completions) {
    await place(join(share, to), await readFile(join(root, "dist/completions", from)));
  }
  for (const page of PAGES) await place(join(share, "doc", name, page), await readFile(join(root, page)));
}

/** In place, as FILE.gz, without name and time. Not by Node's zlib, whose output differs among processors. */
export async function compress(file) {
  await run("gzip", ["-9n", file]);
}

/**
 * Gives everything the modes that a package has, whatever the umask is, and one time.
 * @param isProgram - whether a file, by its path and mode, may be started
 */
export async function settle(tree, epoch, isProgram = isOurProgram) {
  for (const entry of await readdir(tree, { withFileTypes: true })) {
    const path = join(tree, entry.name);
    if (entry.isDirectory()) await settle(path, epoch, isProgram);
    else {
      if (entry.isFile()) await chmod(path, isProgram(path, (await lstat(path)).mode) ? 0o755 : 0o644);
      await lutimes(path, epoch, epoch);
    }
  }
  await chmod(tree, 0o755);
  await lutimes(tree, epoch, epoch);
}

/** Whether the path is one that people, dpkg or the launcher start. */
function isOurProgram(path) {
  return (
    [`/bin/${name}`, `/lib/${name}/node`, "/dist/program/main.js"].some((end) => path.endsWith(end)) ||
    /\/DEBIAN\/p\w+$/.test(path)
  );
}
