// Finds leftovers: what failed runs left in the container and no run will resume.

import { keyPrefix, parseKey } from "./key.ts";
import { archiveKeyOf } from "./manifest.ts";
import type { Uuid } from "./model.ts";
import type { Inventory } from "./inventory.ts";

/** Objects and uploads in a container that belong to no complete archive. */
export interface Leftovers<Upload extends { readonly key: string }> {
  /** Multipart uploads that are still open. */
  readonly uploads: readonly Upload[];
  /** Keys of objects that are named like volumes of archives. */
  readonly volumes: readonly string[];
}

/**
 * Finds what may be a leftover of an inventory's source. It keeps what belongs to an archive that a later run will
 * send, because that run can resume it, and the volumes of complete archives. The key of an archive begins with the
 * UUID of its source, and nobody else's does.
 * @param awaited - keys of the archives that a later run will send
 */
export function leftoversOfSource<Upload extends { readonly key: string }>(
  { source, archived, volumes }: Inventory,
  uploads: readonly Upload[],
  awaited: ReadonlySet<string>,
): Leftovers<Upload> {
  const complete = new Set<string>(archived.keys());
  const isLeft = (key: string): boolean =>
    key.startsWith(keyPrefix(source.uuid)) && parseKey(ownerOf(key)) !== null && !awaited.has(ownerOf(key));
  return {
    uploads: uploads.filter(({ key }) => isLeft(key)),
    volumes: volumes.filter((key) => isLeft(key) && !complete.has(ownerOf(key))),
  };
}

/**
 * Finds everything that belongs to no complete archive, even if a run might resume it. Other people's objects and
 * uploads have other names than ours.
 */
export function allLeftovers<Upload extends { readonly key: string }>(
  keys: readonly string[],
  uploads: readonly Upload[],
): Leftovers<Upload> {
  const stored = new Set(keys);
  const isOurs = (key: string): boolean => parseKey(ownerOf(key)) !== null;
  return {
    uploads: uploads.filter(({ key }) => isOurs(key)),
    volumes: keys.filter((key) => archiveKeyOf(key) !== null && isOurs(key) && !stored.has(ownerOf(key))),
  };
}

/** The sources of the archives that they would have become part of. */
export function sourcesOf({ uploads, volumes }: Leftovers<{ readonly key: string }>): readonly Uuid[] {
  const sources = [...uploads.map(({ key }) => key), ...volumes].flatMap((key) => parseKey(ownerOf(key))?.source ?? []);
  return [...new Set(sources)];
}

/** The key of the archive that an object or an upload belongs to. */
function ownerOf(key: string): string {
  return archiveKeyOf(key) ?? key;
}
