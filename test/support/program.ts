// The compiled program in one file, beside the other compiled files: tests start it thousands of times, and this way it
// starts with half of the CPU time. Nothing else differs: it finds the addon and package.json where the original does.

import { build } from "esbuild";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const DIST = fileURLToPath(new URL("../..", import.meta.url));

/** Files that the program finds by their place beside its own. */
const BESIDES = /new URL\("([^"]+)", import\.meta\.url\)/g;

export interface Program {
  /** The file that node is started with. */
  readonly main: string;
  close(): Promise<void>;
}

export async function bundleProgram(): Promise<Program> {
  const directory = await mkdtemp(join(DIST, "program-"));
  await build({
    entryPoints: [join(DIST, "src/main.js")],
    outfile: join(directory, "main.js"),
    bundle: true,
    format: "esm",
    platform: "node",
    target: "node20.17",
    mainFields: ["module", "main"],
    logLevel: "warning",
    banner: {
      js: 'import { createRequire as makeRequire } from "node:module"; const require = makeRequire(import.meta.url);',
    },
    plugins: [
      {
        name: "places",
        setup({ onLoad }) {
          onLoad({ filter: /dist\/src\/.*\.js$/ }, async ({ path }) => ({
            contents: withPlaces(await readFile(path, "utf8"), path),
          }));
        },
      },
    ],
  });
  return { main: join(directory, "main.js"), close: () => rm(directory, { recursive: true }) };
}

function withPlaces(text: string, path: string): string {
  return text
    .replace(/\bimport\("((?!\.|node:)[^"]+)"\)/g, 'import("$1").then((all) => all.default ?? all)')
    .replace(/createRequire\(import\.meta\.url\)\("/g, 'require("')
    .replace(
      BESIDES,
      (_, target: string) => `new URL(${JSON.stringify(new URL(target, `file://${dirname(path)}/`).href)})`,
    );
}
