// The install script of the npm package. It never fails: it does nothing if an addon loads, else it builds one if there
// are a compiler and the headers, else the program reports at its start what is missing.

import { spawnSync } from "node:child_process";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("..", import.meta.url));

/** False also in a fresh checkout, where nothing is compiled yet. */
async function loads() {
  try {
    const { loadAddon } = await import("../dist/src/addon/load.js");
    loadAddon(root);
    return true;
  } catch {
    return false;
  }
}

if (process.env.npm_config_build_from_source === "true" || !(await loads())) {
  const built = spawnSync("npm", ["run", "--silent", "build:native"], { cwd: root, encoding: "utf8" });
  if (built.status !== 0) console.log("No native addon was built; the program will report what it needs.");
}
