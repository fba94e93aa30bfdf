// The snapshots on this machine beside the archives in the container: what a sync is decided from.

import type { Archive, Key, Snapshot, Subvolume } from "./model.ts";
import type { Proof } from "./model.ts";

/** Every archive of an inventory that is known to exist. */
export function allArchives({ archives, others }: Pick<Inventory, "archives" | "others">): readonly Archive[] {
  return [...others, ...archives];
}

/** The snapshots on this machine and the archives in the container, of one source. */
export interface Inventory {
  readonly source: Subvolume;
  /** In creation order. */
  readonly snapshots: readonly Snapshot[];
  /** Keys of the source's archives in the listing, which may lag behind. */
  readonly archived: ReadonlySet<Key>;
  /** Every archive of the source that is known to exist; see `examined`. */
  readonly archives: readonly Archive[];
  /** Archives of other sources: chains that began before a restore lead to them. */
  readonly others: readonly Archive[];
  /** How much was examined: the keys of the snapshots, all keys of the source, or the container. */
  readonly examined: "snapshots" | "source" | "container";
  /** Keys of objects whose names are those of its archives' volumes. */
  readonly volumes: readonly string[];
  /**
   * The read-only snapshot that the source is a writable copy of; null when it began empty, or the snapshot is gone.
   */
  readonly origin: Snapshot | null;
  /** See {@link Proof}. */
  readonly proofs: readonly Proof[];
  /** True for received snapshots: their originals may be archived under any source. */
  readonly areCopies?: boolean;
}
