// Records which snapshots hold the same as their archives, by comparison, although btrfs reports them as changed.
// Without the file they are compared again.

import { join } from "node:path";
import { isRecord } from "../json.ts";
import { parseUuid, type Proof } from "../plan/model.ts";
import { scopeOf, type Place } from "./catalogue.ts";
import { readLines, writeLines } from "./lines.ts";

export interface Proofs {
  readonly all: readonly Proof[];
  /** @throws what the filesystem reports: without the record, `sync` would not know */
  add(proofs: readonly Proof[]): Promise<void>;
}

export async function openProofs(directory: string, place: Place): Promise<Proofs> {
  const file = join(directory, `unchanged-${scopeOf(place)}.jsonl`);
  const all = (await readLines(file)).flatMap((line) => parseProof(line) ?? []);
  return {
    all,
    add: async (proofs) => {
      const known = new Map(
        [...all, ...proofs].map((proof) => [`${proof.key}\n${proof.uuid}\n${proof.ctransid}`, proof]),
      );
      await writeLines(file, [...known.values()]);
    },
  };
}

function parseProof(line: unknown): Proof | null {
  if (!isRecord(line)) return null;
  const { key, etag, uuid: text, ctransid } = line;
  const uuid = typeof text === "string" ? parseUuid(text) : null;
  if (typeof key !== "string" || typeof etag !== "string" || uuid === null || typeof ctransid !== "number") return null;
  return { key, etag, uuid, ctransid };
}
