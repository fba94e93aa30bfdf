// Prints a fingerprint of the sources that the addon is made of. It is compiled into the addon and kept beside the
// compiled program, which thereby recognises an addon of other sources.

import { createHash } from "node:crypto";
import { readdirSync, readFileSync } from "node:fs";

const sources = readdirSync(new URL(".", import.meta.url))
  .filter((name) => /\.(cc|h)$/.test(name))
  .sort();
const hash = createHash("sha256");
for (const name of sources)
  hash
    .update(`${name}\0`)
    .update(readFileSync(new URL(name, import.meta.url)))
    .update("\0");
console.log(hash.digest("hex").slice(0, 16));
