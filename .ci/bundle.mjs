// `npm run bundle`: bundle/, a directory that runs with any Node from 20.17 on and needs no npm: the bundled program, the
// prebuilt addons, and the licences of what went in.

import { cp, mkdir, rm, symlink } from "node:fs/promises";
import { basename, join } from "node:path";
import { about, layOutProgram, root } from "./layout.mjs";

const out = join(root, "bundle");
const { name, version } = about;

await rm(out, { recursive: true, force: true });
await mkdir(join(out, "dist"), { recursive: true });
await layOutProgram(out, ["x64", "arm64"]);
const beside = ["LICENSE", "README.md", "native/NOTICE", "native/LGPL-3.0", `dist/${name}.1`];
for (const file of beside) await cp(join(root, file), join(out, basename(file)));
await symlink("dist/program/main.js", join(out, name));
console.log(`bundle/${name} ${version}`);
