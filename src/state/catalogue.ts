// What HEADs and first bytes have told of archives, kept from run to run, so that a container of thousands is not asked
// thousands of questions each time. It is believed only while the listing shows the object as it was then: never an absence,
// never a failure, and whatever deletes or builds on an archive asks the store all the same.

import { createHash } from "node:crypto";
import { join } from "node:path";
import type { Catalogue, KnownObject, StoredObject } from "../operations/ports.ts";
import { parseKnown } from "./known.ts";
import { readLines, writeLines } from "./lines.ts";

/** Which container, of which store. */
export interface Place {
  readonly endpoint: string;
  readonly container: string;
}

/** A catalogue that is written when it is closed, if there is anything new. A file that cannot be written is done without. */
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
    note: (listed, known) => {
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

/** Tells a container from all others, in the name of a file. */
export function scopeOf({ endpoint, container }: Place): string {
  return createHash("sha256").update(`${endpoint}\n${container}`).digest("hex").slice(0, 16);
}

function toLine({ listed, known }: Entry, scope: string): unknown {
  return { scope, listed, known };
}
