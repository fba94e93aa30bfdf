// The program in a directory of its own. It finds its other files by their places, which are those of a checkout.

import { cp, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

export const root = fileURLToPath(new URL("..", import.meta.url));

export const about = JSON.parse(await readFile(join(root, "package.json"), "utf8"));

/** Copies the bundled program and the prebuilt addons of these architectures into a directory. */
export async function layOutProgram(out, architectures) {
  const withoutMaps = { recursive: true, filter: (file) => !file.endsWith(".map") };
  await cp(join(root, "dist/program"), join(out, "dist/program"), withoutMaps);
  await cp(join(root, "dist/addon-sources.txt"), join(out, "dist/addon-sources.txt"));
  for (const each of architectures) {
    await cp(join(root, `prebuilds/linux-${each}`), join(out, `prebuilds/linux-${each}`), { recursive: true });
  }
  const { name, version, license, engines } = about;
  const description = { name, version, license, engines, type: "module", private: true };
  await writeFile(join(out, "package.json"), `${JSON.stringify(description, null, 2)}\n`);
}
