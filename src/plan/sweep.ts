// What failed runs have left in the container that no run will go on with.

import { keyPrefix, parseKey } from "./key.ts";
import { archiveKeyOf } from "./manifest.ts";
import type { Inventory, UploadStep, Uuid } from "./model.ts";

/** What stands in a container beside whole archives. */
export interface Remains<Upload extends { readonly key: string }> {
  /** Uploads that were begun and not ended. */
  readonly uploads: readonly Upload[];
  /** Keys of objects that are named like volumes of archives. */
  readonly volumes: readonly string[];
}

/**
 * Sorts what an inventory's source has in the container beside whole archives. What belongs to an archive that is about to
 * be sent is kept, for it can be gone on with; volumes of archives that are whole are theirs. All else is left over: the
 * key of an archive begins with the UUID of its source and nobody else's does, so it is surely ours.
 */
export function planSweep<Upload extends { readonly key: string }>(
  { source, archived, volumes }: Inventory,
  uploads: readonly Upload[],
  toSend: readonly UploadStep[],
): { readonly keep: Remains<Upload>; readonly remove: Remains<Upload> } {
  const awaited = new Set<string>(toSend.map(({ key }) => key));
  const whole = new Set<string>(archived.keys());
  const isOurs = (key: string): boolean => key.startsWith(keyPrefix(source.uuid)) && parseKey(ownerOf(key)) !== null;
  const isAwaited = (key: string): boolean => awaited.has(ownerOf(key));
  const ours = uploads.filter(({ key }) => isOurs(key));
  return {
    keep: { uploads: ours.filter(({ key }) => isAwaited(key)), volumes: volumes.filter(isAwaited) },
    remove: {
      uploads: ours.filter(({ key }) => !isAwaited(key)),
      volumes: volumes.filter((key) => isOurs(key) && !isAwaited(key) && !whole.has(ownerOf(key))),
    },
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
