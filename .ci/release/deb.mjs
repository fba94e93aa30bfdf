// The .deb: the tree, with what dpkg wants to know of it.

import { createHash } from "node:crypto";
import { lstat, readdir, readFile, rename } from "node:fs/promises";
import { join, relative } from "node:path";
import { compress, place, settle } from "./tree.mjs";
import { run } from "./run.mjs";

export const ARCHITECTURES = { x64: "amd64", arm64: "arm64" };

/** Where its own files lie: the programs that dpkg runs, and others. */
const own = (file) => readFile(new URL(`deb/${file}`, import.meta.url), "utf8");

/**
 * The text of the control file. What Node and the addon are linked with is named by its oldest versions that do.
 * @param installedKiB - what the files take
 */
export function formatControl({ name, version, maintainer, summary, description }, architecture, installedKiB) {
  return `Package: ${name}
Version: ${version}-1
Architecture: ${ARCHITECTURES[architecture]}
Maintainer: ${maintainer}
Installed-Size: ${installedKiB}
Depends: btrfs-progs, libc6 (>= 2.28), libgcc-s1, libstdc++6 (>= 5)
Recommends: age, zstd
Section: admin
Priority: optional
Description: ${summary}
${description.map((line) => ` ${line}`).join("\n")}
`;
}

/** Debian's form of a changelog, with one entry. */
export function formatChangelog({ name, version, maintainer, epoch }) {
  const date = new Date(epoch * 1000).toUTCString().replace("GMT", "+0000");
  return `${name} (${version}-1) unstable; urgency=medium\n\n  * See CHANGELOG.md.\n\n -- ${maintainer}  ${date}\n`;
}

/**
 * Makes the .deb of a tree that lies at ROOT/usr. By xz, which the dpkg of Debian 11 can read.
 * @returns the file's name in `out`
 */
export async function makeDeb(out, { root, architecture, release }) {
  const { name, version, epoch } = release;
  const doc = join(root, "usr/share/doc", name);
  await place(join(doc, "copyright"), (await own("copyright")).replace("VERSION", version));
  await place(join(doc, "changelog.Debian"), formatChangelog(release));
  await compress(join(doc, "changelog.Debian"));
  await rename(join(doc, "CHANGELOG.md"), join(doc, "changelog"));
  await compress(join(doc, "changelog"));
  await place(join(root, "usr/share/lintian/overrides", name), await own("lintian-overrides"));
  const { sums, kibibytes } = await measure(root);
  await place(join(root, "DEBIAN/md5sums"), sums);
  await place(join(root, "DEBIAN/control"), formatControl(release, architecture, kibibytes));
  for (const script of ["prerm", "postinst", "postrm"]) await place(join(root, "DEBIAN", script), await own(script));
  await settle(root, epoch);
  const file = `${name}_${version}-1_${ARCHITECTURES[architecture]}.deb`;
  // The time in the headers of the .deb itself.
  const env = { ...process.env, SOURCE_DATE_EPOCH: String(epoch) };
  const level = `-z${release.quick ? 1 : 6}`;
  await run("dpkg-deb", ["--root-owner-group", "-Zxz", level, "--build", root, join(out, file)], { env });
  return file;
}

/** MD5s of all files, as dpkg keeps them, and how much they take, as Debian's policy counts. */
async function measure(root) {
  const entries = (await readdir(root, { recursive: true, withFileTypes: true })).map((entry) => ({
    entry,
    path: join(entry.parentPath, entry.name),
  }));
  entries.sort((a, b) => (a.path < b.path ? -1 : 1));
  let [sums, kibibytes] = ["", 0];
  for (const { entry, path } of entries) {
    kibibytes += entry.isFile() ? Math.ceil((await lstat(path)).size / 1024) : 1;
    if (!entry.isFile()) continue;
    const md5 = createHash("md5")
      .update(await readFile(path))
      .digest("hex");
    sums += `${md5}  ${relative(root, path)}\n`;
  }
  return { sums, kibibytes };
}
