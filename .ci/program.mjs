// Bundles the compiled program with all that it imports into a few files, because Node starts them with half of the CPU
// time: a command loads only those that it needs. With source maps, and the licences of what went in.
//
//   node .ci/program.mjs [DIRECTORY]      by default dist/program

import { build } from "esbuild";
import { chmod, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { dirname, join, relative, resolve } from "node:path";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("..", import.meta.url));
const out = resolve(process.argv[2] ?? join(root, "dist/program"));

/** Files that the program finds by their place beside its own. */
const besides = /new URL\("([^"]+)", import\.meta\.url\)/g;

const places = {
  name: "places",
  setup({ onLoad }) {
    onLoad({ filter: /dist\/src\/.*\.js$/ }, async ({ path }) => {
      const place = (_, target) => `new URL("${relative(out, resolve(dirname(path), target))}", import.meta.url)`;
      const text = (await readFile(path, "utf8"))
        // A CommonJS module in a file of its own exports no names, only a default.
        .replace(/\bimport\("((?!\.|node:)[^"]+)"\)/g, 'import("$1").then((all) => all.default ?? all)')
        .replace(/createRequire\(import\.meta\.url\)\("/g, 'require("')
        .replace(besides, place);
      return { contents: text };
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
  sourcemap: true,
  sourcesContent: false,
  metafile: true,
  plugins: [places],
  // The first line makes main.js a script of sh, as in src/main.ts. Modules that are not ESM load Node's own by require.
  banner: {
    js: '// 2>/dev/null; exec node -- "$0" "$@"\nimport { createRequire as makeRequire } from "node:module"; const require = makeRequire(import.meta.url);',
  },
});
await writeFile(join(out, "licences-of-others.txt"), await licences(metafile.inputs));
await chmod(join(out, "main.js"), 0o755);
