// Makes the nouns of the plan for tests: a snapshot or an archive whose every fact follows from a small number.

import { formatKey, formatMetadata, parseArchive } from "../../src/plan/key.ts";
import { parseUuid, type Archive, type Key, type Snapshot, type Uuid } from "../../src/plan/model.ts";
import type { Inventory } from "../../src/plan/inventory.ts";

/** A UUID that ends with a number. */
export function uuid(number: number): Uuid {
  const parsed = parseUuid(`00000000-0000-4000-8000-${number.toString(16).padStart(12, "0")}`);
  if (parsed === null) throw new TypeError(`${number} makes no UUID`);
  return parsed;
}

export const source = { uuid: uuid(0xabc), id: 256, path: "home", generation: 1_000_000 } as const;

/** The nth snapshot of {@link source}, taken in transaction 10 n at n seconds after the epoch. */
export function snapshot(number: number, changes: Partial<Snapshot> = {}): Snapshot {
  return {
    uuid: uuid(number),
    id: 256 + number,
    source: source.uuid,
    received: null,
    path: `snapshots/${number}`,
    pathIsExact: true,
    ctransid: 10 * number - 1,
    otransid: 10 * number,
    otime: BigInt(number) * 1_000_000_000n,
    ...changes,
  };
}

export function keyOf(path: string, of: Uuid = source.uuid): Key {
  const name = formatKey(of, path);
  if ("refused" in name) throw new TypeError(name.refused);
  return name.key;
}

/** The archive of a snapshot, made by the writer and read by the reader. */
export function archiveOf(snapshot: Snapshot, sendParent: Snapshot | null, bytes = 1000): Archive {
  const key = keyOf(snapshot.path, snapshot.source ?? source.uuid);
  const metadata = formatMetadata(
    { snapshot, sendParent },
    { encoding: "identity", sendProto: 2, partBytes: 5242880, volumes: null, tool: "test/1" },
  );
  const archive = parseArchive({ key, bytes, metadata });
  if (archive === null) throw new TypeError(`${key} is no archive`);
  return archive;
}

/** An inventory of {@link source}, with everything examined. */
export function inventory(
  snapshots: readonly Snapshot[],
  archived: readonly (readonly [Snapshot, Archive])[] = [],
  changes: Partial<Inventory> = {},
): Inventory {
  const archives = archived.map(([{ path }, archive]) => ({ ...archive, key: keyOf(path), path }));
  return {
    source,
    snapshots,
    archived: new Set(archives.map(({ key }) => key)),
    archives,
    others: [],
    examined: "container",
    volumes: [],
    origin: null,
    proofs: [],
    ...changes,
  };
}
