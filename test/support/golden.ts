// Texts that people read, kept as files. `UPDATE_GOLDEN=1` writes them again; one that no test used is stale.

import assert from "node:assert/strict";
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const ROOT = fileURLToPath(new URL("../../../test/unit/golden/", import.meta.url));

export interface Golden {
  /** Compares a text with the file of that name. */
  check(name: string, text: string): void;
  /** Fails for files that were never compared with anything. */
  assertNoneStale(): void;
}

/** @param folder - below test/unit/golden, of one test file */
export function openGolden(folder: string): Golden {
  const directory = join(ROOT, folder);
  const updates = process.env["UPDATE_GOLDEN"] === "1";
  const asked = new Set<string>();
  mkdirSync(directory, { recursive: true });
  return {
    check(name, text) {
      asked.add(name);
      if (updates) writeFileSync(join(directory, name), text);
      else
        assert.equal(
          text,
          readFileSync(join(directory, name), "utf8"),
          `${folder}/${name}: UPDATE_GOLDEN=1 writes it anew`,
        );
    },
    assertNoneStale() {
      assert.deepEqual(
        readdirSync(directory).filter((name) => !asked.has(name)),
        [],
        "stale golden files",
      );
    },
  };
}
