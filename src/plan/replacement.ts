// The object `<key>/replacement` beside an archive: the decision to replace the archive by volumes that are stored beside
// it. Swift's S3 API cannot replace an object in parts without losing track of them, so the old archive is deleted before
// the list of the new volumes is stored under its key. Whoever finds the decision in between stores that list.

import { isRecord, parseJson, textsOf } from "../json.ts";
import { parseManifest, type Manifest } from "./manifest.ts";
import type { Key } from "./model.ts";

export interface Replacement {
  /** ETag of the archive that is replaced. */
  readonly replaces: string;
  /** The new archive's volumes. */
  readonly volumes: Manifest;
  /** The metadata of the object under the key of the new archive. */
  readonly metadata: Readonly<Record<string, string>>;
}

const SUFFIX = "/replacement";

/** Longer than a list of volumes may be, with its metadata. */
export const MAX_REPLACEMENT_BYTES = 20 * 1024 * 1024;

/** No archive's key has a slash. */
export function formatReplacementKey(key: string): string {
  return key + SUFFIX;
}

/** The keys of the archives that are to be replaced, of all keys of a listing. */
export function replacedAmong(keys: readonly string[]): readonly string[] {
  return keys.flatMap((key) => (key.endsWith(SUFFIX) ? key.slice(0, -SUFFIX.length) : []));
}

/** @param manifest - as {@link import("./manifest.ts").formatManifest} writes it */
export function formatReplacement({ replaces, metadata }: Omit<Replacement, "volumes">, manifest: string): string {
  return `${JSON.stringify({ format: 1, replaces, metadata, manifest }, null, 1)}\n`;
}

/** Null for anything that {@link formatReplacement} did not write for this key. */
export function parseReplacement(text: string, key: Key): Replacement | null {
  const parsed = parseJson(text);
  if (!isRecord(parsed) || parsed["format"] !== 1) return null;
  const { replaces, manifest, metadata } = parsed;
  if (typeof replaces !== "string" || typeof manifest !== "string" || !isRecord(metadata)) return null;
  try {
    return { replaces, volumes: parseManifest(manifest, key), metadata: textsOf(metadata) };
  } catch {
    return null;
  }
}
