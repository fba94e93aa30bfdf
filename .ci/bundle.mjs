// `npm run bundle`: bundle/, a directory that runs with any Node from 20.17 on and needs no npm: the compiled program
// with all that it imports in a few files, the prebuilt addons beside them, and the licences of what went in.

import { build } from "esbuild";
import { chmod, cp, mkdir, readdir, readFile, rm, symlink, writeFile } from "node:fs/promises";
import { basename, join } from "node:path";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("..", import.meta.url));
const out = join(root, "bundle");
const { name, version, license, engines } = JSON.parse(await readFile(join(root, "package.json"), "utf8"));

/** Files that the program finds by their place beside its own. All lie in one directory here. */
const besides = /new URL\("((?:\.{0,2}\/)*[\w./-]+)", import\.meta\.url\)/g;

const flatten = {
  name: "flatten",
  setup({ onLoad }) {
    onLoad({ filter: /dist\/src\/.*\.js$/ }, async ({ path }) => {
      const text = (await readFile(path, "utf8"))
        // A CommonJS module in a file of its own exports no names, only a default.
        .replace(/\bimport\("((?!\.|node:)[^"]+)"\)/g, 'import("$1").then((all) => all.default ?? all)')
        .replace(/createRequire\(import\.meta\.url\)\("/g, 'require("');
      return { contents: text.replace(besides, (_, target) => `new URL("./${basename(target)}", import.meta.url)`) };
    });
  },
};

/** The packages that went in, with their licences' texts. */
async function licences(inputs) {
  const packages = new Set(
    Object.keys(inputs).flatMap((file) => /^(.*node_modules\/(?:@[^/]+\/)?[^/]+)\//.exec(file)?.[1] ?? []),
  );
  const texts = [...packages].sort().map(async (directory) => {
    const about = JSON.parse(await readFile(join(root, directory, "package.json"), "utf8"));
    const names = (await readdir(join(root, directory))).filter((file) => /^(licen[cs]e|notice)/i.test(file));
    const said = await Promise.all(names.map((file) => readFile(join(root, directory, file), "utf8")));
    return `${about.name} ${about.version} (${about.license})\n\n${said.join("\n")}`;
  });
  return (await Promise.all(texts)).join(`\n${"-".repeat(80)}\n\n`);
}

await rm(out, { recursive: true, force: true });
await mkdir(out);
const { metafile } = await build({
  absWorkingDir: root,
  entryPoints: [join(root, "dist/src/main.js")],
  entryNames: "[name]",
  outdir: out,
  bundle: true,
  splitting: true,
  format: "esm",
  platform: "node",
  target: "node20.17",
  mainFields: ["module", "main"],
  minifySyntax: true,
  minifyWhitespace: true,
  legalComments: "none",
  metafile: true,
  plugins: [flatten],
  // The first line makes main.js a script of sh, as in src/main.ts. Modules that are not ESM load Node's own modules by require.
  banner: {
    js: '// 2>/dev/null; exec node -- "$0" "$@"\nimport { createRequire as makeRequire } from "node:module"; const require = makeRequire(import.meta.url);',
  },
});
await writeFile(join(out, "licences-of-others.txt"), await licences(metafile.inputs));
await writeFile(
  join(out, "package.json"),
  `${JSON.stringify({ name, version, license, engines, type: "module", private: true }, null, 2)}\n`,
);
const beside = ["LICENSE", "README.md", "native/NOTICE", "native/LGPL-3.0", "dist/addon-sources.txt", `dist/${name}.1`];
for (const file of beside) await cp(join(root, file), join(out, basename(file)));
await cp(join(root, "prebuilds"), join(out, "prebuilds"), { recursive: true });
await chmod(join(out, "main.js"), 0o755);
await symlink("main.js", join(out, name));
console.log(`bundle/${name} ${version}: ${Object.keys(metafile.outputs).length} files of JavaScript`);
