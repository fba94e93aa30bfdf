// The object `<key>/pin` beside an archive: while it exists, no prune deletes the archive.

const SUFFIX = "/pin";

/** The key of an archive's pin. It has a slash, and no archive's key has one. */
export function formatPinKey(key: string): string {
  return key + SUFFIX;
}

/** The content of a pin. */
export const PIN_TEXT = `${JSON.stringify({ format: 1, pinned: true })}\n`;

/** The keys of the pinned archives, from the keys of a listing. */
export function pinnedAmong(keys: readonly string[]): ReadonlySet<string> {
  return new Set(keys.flatMap((key) => (key.endsWith(SUFFIX) ? key.slice(0, -SUFFIX.length) : [])));
}
