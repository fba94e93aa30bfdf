// The .rpm: the tree, by Debian's rpmbuild. What Node and the addon are linked with, rpmbuild finds out.

import { mkdir, readFile, readdir, rename, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { settle } from "./tree.mjs";
import { run } from "./run.mjs";

const ARCHITECTURES = { x64: "x86_64", arm64: "aarch64" };

/** The text of the spec file. @param tree - the directory that holds usr/ */
export function formatSpec(template, release, tree) {
  // As in "Sat Nov 28 2026".
  const date = new Date(release.epoch * 1000).toUTCString().replace(/^(\w+), (\d+) (\w+) (\d+) .*$/, "$1 $3 $2 $4");
  const values = {
    NAME: release.name,
    VERSION: release.version,
    SUMMARY: release.summary,
    DESCRIPTION: release.description.map((line) => (line === "." ? "" : line)).join("\n"),
    LICENSES: release.licences.join(" AND "),
    MAINTAINER: release.maintainer,
    DATE: date,
    TREE: tree,
  };
  return template.replace(/@([A-Z]+)@/g, (_, word) => values[word]);
}

/** Makes the .rpm of a tree that lies at ROOT/usr. @returns the file's name in `out` */
export async function makeRpm(out, { root, architecture, release, work }) {
  await settle(root, release.epoch);
  const template = await readFile(new URL("rpm/package.spec", import.meta.url), "utf8");
  const spec = join(work, "package.spec");
  await mkdir(work, { recursive: true });
  await writeFile(spec, formatSpec(template, release, root));
  const macros = {
    _topdir: join(work, "rpm"),
    _buildhost: "localhost",
    _binary_payload: `w${release.quick ? 1 : 6}.xzdio`,
    use_source_date_epoch_as_buildtime: 1,
    clamp_mtime_to_source_date_epoch: 1,
    source_date_epoch_from_changelog: 0,
  };
  const defines = Object.entries(macros).flatMap(([macro, value]) => ["--define", `${macro} ${value}`]);
  const words = ["-bb", "--quiet", "--target", `${ARCHITECTURES[architecture]}-linux`, ...defines, spec];
  await run("rpmbuild", words, { env: { ...process.env, SOURCE_DATE_EPOCH: String(release.epoch) } });
  const made = join(work, "rpm/RPMS", ARCHITECTURES[architecture]);
  const [file] = await readdir(made);
  await rename(join(made, file), join(out, file));
  return file;
}
