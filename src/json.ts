// Parses JSON that this program has not checked yet, and looks for the expected form. Any room may use it, for JSON of
// the network or of files.

/** Null for text that is not JSON. */
export function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

/** True for a value with named fields; false for a list. */
export function isRecord(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** True for a whole number that is not smaller than `least`. */
export function isCount(value: unknown, least: 0 | 1 = 0): value is number {
  return typeof value === "number" && Number.isSafeInteger(value) && value >= least;
}

/** The fields of a record that are texts. */
export function textsOf(record: Readonly<Record<string, unknown>>): Readonly<Record<string, string>> {
  return Object.fromEntries(
    Object.entries(record).flatMap(([name, value]) => (typeof value === "string" ? [[name, value]] : [])),
  );
}

/** A field of a record; undefined when there is none. */
export function field(value: unknown, name: string): unknown {
  return isRecord(value) ? value[name] : undefined;
}

/** A field that is a list; empty when there is none. */
export function list(value: unknown, name: string): readonly unknown[] {
  const found = field(value, name);
  return Array.isArray(found) ? (found as readonly unknown[]) : [];
}

/** A field that is a text; null when there is none. */
export function text(value: unknown, name: string): string | null {
  const found = field(value, name);
  return typeof found === "string" ? found : null;
}
