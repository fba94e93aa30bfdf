// Keeps the answers of HEADs and first bytes from run to run, so that a container of thousands does not cost thousands
// of requests each time. An entry counts only while the listing shows the object as it was then. The catalogue never
// records an absence or a failure. Code that deletes an archive or builds on one still asks the store.

import { createHash } from "node:crypto";
import { join } from "node:path";
import { parseKnown } from "./known.ts";
import { readLines, writeLines } from "./lines.ts";
import type { Catalogue, KnownObject, StoredObject } from "../operations/store-ports.ts";

/** A container of a store. */
export interface Place {
  readonly endpoint: string;
  readonly container: string;
}

/**
 * Opens the catalogue. Closing writes it if there is anything new. The run continues without a file that cannot be
 * written.
 */
export async function openCatalogue(directory: string, place: Place): Promise<Catalogue & { close(): Promise<void> }> {
  const scope = scopeOf(place);
  const file = join(directory, `catalogue-${scope}.jsonl`);
  const entries = new Map(
    (await readLines(file)).flatMap((line) => parseKnown(line, scope) ?? []).map((entry) => [entry.listed.key, entry]),
  );
  let changed = false;
  const forget = (key: string): void => {
    changed = entries.delete(key) || changed;
  };
  return {
    find: (listed) => {
      const entry = entries.get(listed.key);
      return entry !== undefined && isSame(entry.listed, listed) ? entry.known : null;
    },
    record: (listed, known) => {
      entries.set(listed.key, { listed, known });
      changed = true;
    },
    forget,
    retain: (prefix, listed) => {
      const keys = new Set(listed.map(({ key }) => key));
      for (const key of entries.keys()) if (key.startsWith(prefix) && !keys.has(key)) forget(key);
    },
    close: async () => {
      if (!changed) return;
      await writeLines(
        file,
        [...entries.values()].map((entry) => toLine(entry, scope)),
      ).catch(() => undefined);
    },
  };
}

interface Entry {
  readonly listed: StoredObject;
  readonly known: KnownObject;
}

function isSame(a: StoredObject, b: StoredObject): boolean {
  return a.etag === b.etag && a.bytes === b.bytes && a.modified.getTime() === b.modified.getTime();
}

/** Names the file of a container, distinct from all other containers. */
export function scopeOf({ endpoint, container }: Place): string {
  return createHash("sha256").update(`${endpoint}\n${container}`).digest("hex").slice(0, 16);
}

function toLine({ listed, known }: Entry, scope: string): unknown {
  return { scope, listed, known };
}
