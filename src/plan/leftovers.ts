// What failed runs have left in the container that no run will go on with.

import { keyPrefix, parseKey } from "./key.ts";
import { archiveKeyOf } from "./manifest.ts";
import type { Inventory, Uuid } from "./model.ts";

/** What stands in a container beside whole archives. */
export interface Remains<Upload extends { readonly key: string }> {
  /** Uploads that were begun and not ended. */
  readonly uploads: readonly Upload[];
  /** Keys of objects that are named like volumes of archives. */
  readonly volumes: readonly string[];
}

/**
 * What an inventory's source has in the container that may be left over. What belongs to an archive that a later run will
 * send is kept, for that can resume it; volumes of archives that are whole are theirs. The key of an archive begins with
 * the UUID of its source, and nobody else's does.
 * @param awaited - keys of the archives that a later run will send
 */
export function planSweep<Upload extends { readonly key: string }>(
  { source, archived, volumes }: Inventory,
  uploads: readonly Upload[],
  awaited: ReadonlySet<string>,
): Remains<Upload> {
  const whole = new Set<string>(archived.keys());
  const isLeft = (key: string): boolean =>
    key.startsWith(keyPrefix(source.uuid)) && parseKey(ownerOf(key)) !== null && !awaited.has(ownerOf(key));
  return {
    uploads: uploads.filter(({ key }) => isLeft(key)),
    volumes: volumes.filter((key) => isLeft(key) && !whole.has(ownerOf(key))),
  };
}

/** All that stands beside whole archives, whoever might go on with it. Other people's objects and uploads are not named like ours. */
export function planClearance<Upload extends { readonly key: string }>(
  keys: readonly string[],
  uploads: readonly Upload[],
): Remains<Upload> {
  const stored = new Set(keys);
  const isOurs = (key: string): boolean => parseKey(ownerOf(key)) !== null;
  return {
    uploads: uploads.filter(({ key }) => isOurs(key)),
    volumes: keys.filter((key) => archiveKeyOf(key) !== null && isOurs(key) && !stored.has(ownerOf(key))),
  };
}

/** Whose archives they would have become part of. */
export function sourcesOf({ uploads, volumes }: Remains<{ readonly key: string }>): readonly Uuid[] {
  const sources = [...uploads.map(({ key }) => key), ...volumes].flatMap((key) => parseKey(ownerOf(key))?.source ?? []);
  return [...new Set(sources)];
}

/** The key of the archive that an object or an upload is of. */
function ownerOf(key: string): string {
  return archiveKeyOf(key) ?? key;
}
