// The Node of a release: the official binary, as the npm registry has it, of the version and with the contents that
// pins.json names. It is never stripped: its symbols and its snapshot are read at run time.

import { createHash } from "node:crypto";
import { mkdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { run } from "./run.mjs";

/** Unpacks Node for an architecture into a directory: `package/bin/node`, `package/LICENSE`. */
export async function fetchNode(directory, architecture, { version, integrity }) {
  await mkdir(directory, { recursive: true });
  const spec = `node-linux-${architecture}@${version}`;
  const packed = await run("npm", ["pack", "--silent", "--pack-destination", directory, spec]);
  const file = join(directory, packed.trim());
  assertIntegrity(spec, await readFile(file), integrity[architecture]);
  await run("tar", ["--extract", "--file", file, "--directory", directory, "package/bin/node", "package/LICENSE"]);
  return join(directory, "package");
}

/** @throws when the bytes are not those that were pinned */
export function assertIntegrity(what, bytes, pinned) {
  const is = `sha512-${createHash("sha512").update(bytes).digest("base64")}`;
  if (is !== pinned) throw new Error(`${what} is not what pins.json names: it has ${is}`);
}
