// `npm run bundle`: bundle/, a directory that runs with any Node from 20.17 on and needs no npm: the bundled program, the
// prebuilt addons, and the licences of what went in.

import { cp, mkdir, readFile, rm, symlink, writeFile } from "node:fs/promises";
import { basename, join } from "node:path";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("..", import.meta.url));
const out = join(root, "bundle");
const { name, version, license, engines } = JSON.parse(await readFile(join(root, "package.json"), "utf8"));

await rm(out, { recursive: true, force: true });
await mkdir(join(out, "dist"), { recursive: true });
// The program finds files by their places, which are those of a checkout.
const withoutMaps = { recursive: true, filter: (file) => !file.endsWith(".map") };
await cp(join(root, "dist/program"), join(out, "dist/program"), withoutMaps);
await cp(join(root, "dist/addon-sources.txt"), join(out, "dist/addon-sources.txt"));
await cp(join(root, "prebuilds"), join(out, "prebuilds"), { recursive: true });
const beside = ["LICENSE", "README.md", "native/NOTICE", "native/LGPL-3.0", `dist/${name}.1`];
for (const file of beside) await cp(join(root, file), join(out, basename(file)));
const description = { name, version, license, engines, type: "module", private: true };
await writeFile(join(out, "package.json"), `${JSON.stringify(description, null, 2)}\n`);
await symlink("dist/program/main.js", join(out, name));
console.log(`bundle/${name} ${version}`);
