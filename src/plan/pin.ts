// The object `<key>/pin` beside an archive: as long as it is there, no prune deletes the archive.

const SUFFIX = "/pin";

/** No archive's key has a slash. */
export function formatPinKey(key: string): string {
  return key + SUFFIX;
}

/** The text of a pin. */
export const PIN_TEXT = `${JSON.stringify({ format: 1, pinned: true })}\n`;

/** The keys of the archives that are pinned, of all keys of a listing. */
export function pinnedAmong(keys: readonly string[]): ReadonlySet<string> {
  return new Set(keys.flatMap((key) => (key.endsWith(SUFFIX) ? key.slice(0, -SUFFIX.length) : [])));
}
