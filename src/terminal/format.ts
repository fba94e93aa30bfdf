// Formats text for people: sizes, times and tables. terminal/ is the edge to the person; it knows the nouns of
// plan/model and no other edge. Results go to stdout, everything else to stderr.

import type { Encoding, Lineage } from "../plan/model.ts";

const units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"] as const;

/** `12.3 MiB`; whole numbers below 1 KiB. */
export function formatBytes(bytes: number): string {
  let value = bytes;
  let unit = 0;
  while (value >= 1024 && unit < units.length - 1) {
    value /= 1024;
    unit += 1;
  }
  const digits = unit === 0 || value >= 100 ? 0 : 1;
  return `${value.toFixed(digits)} ${units[unit] ?? ""}`;
}

/** `0.4 s`, `12 s`, `3:05 min`, `2:03 h`. */
export function formatDuration(milliseconds: number): string {
  const seconds = milliseconds / 1000;
  if (seconds < 10) return `${seconds.toFixed(1)} s`;
  if (seconds < 60) return `${Math.round(seconds)} s`;
  const minutes = Math.round(seconds / 60);
  if (minutes < 60) return `${Math.floor(seconds / 60)}:${twoDigits(Math.floor(seconds % 60))} min`;
  return `${Math.floor(seconds / 3600)}:${twoDigits(Math.floor((seconds % 3600) / 60))} h`;
}

function twoDigits(value: number): string {
  return String(value).padStart(2, "0");
}

/** Local date and time to the second: `2026-11-23 03:00:00`. */
export function formatDate(nanoseconds: bigint): string {
  const date = new Date(Number(nanoseconds / 1_000_000n));
  const day = [date.getFullYear(), twoDigits(date.getMonth() + 1), twoDigits(date.getDate())].join("-");
  return `${day} ${[date.getHours(), date.getMinutes(), date.getSeconds()].map(twoDigits).join(":")}`;
}

/** The same to the minute: `2026-11-23 03:00`. */
export function formatMinute(nanoseconds: bigint): string {
  return formatDate(nanoseconds).slice(0, -3);
}

/**
 * Characters that a terminal would obey or hide: control characters (C0, DEL, C1), and those that reverse text, join
 * lines or have no width.
 */
const UNPRINTABLE = /[\u0000-\u001f\u007f-\u009f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]/g;

/**
 * Makes those characters visible, so that no name can move the cursor, break a line or look like another. A second pass
 * changes nothing.
 */
export function printable(text: string): string {
  return text.replace(UNPRINTABLE, (char) => {
    const code = char.charCodeAt(0);
    return code < 0x100 ? `\\x${code.toString(16).padStart(2, "0")}` : `\\u${code.toString(16).padStart(4, "0")}`;
  });
}

/** Makes several lines printable, each on its own. */
export function printableLines(text: string): string {
  return text.split("\n").map(printable).join("\n");
}

/** Returns the same JSON without any character that a terminal would obey. */
export function printableJson(json: string): string {
  return json.replace(UNPRINTABLE, (char) => `\\u${char.charCodeAt(0).toString(16).padStart(4, "0")}`);
}

/** How the columns of a table are laid out. */
export interface TableLayout {
  /** Columns that are aligned to the right. */
  readonly right?: readonly number[];
  /** Columns that may be cut where the table would be too wide. */
  readonly flexible?: readonly number[];
  /** The last column, where it holds sentences: it is never cut, and may make lines too long. */
  readonly prose?: number;
}

/** Other columns are cut until so much of the prose fits. */
const PROSE_WIDTH = 30;

/** A column that is cut keeps at least this many characters. */
const LEAST_WIDTH = 12;

/** Columns padded to their widest cell, two spaces apart; no line is longer than `columns`, where cutting can help it. */
export function formatTable(
  rows: readonly (readonly string[])[],
  { right = [], flexible = [], prose }: TableLayout = {},
  columns = Infinity,
): string[] {
  const widths: number[] = [];
  for (const row of rows) row.forEach((cell, column) => (widths[column] = Math.max(widths[column] ?? 0, cell.length)));
  if (prose !== undefined) widths[prose] = Math.min(widths[prose] ?? 0, PROSE_WIDTH);
  const fitted = fitWidths(widths, flexible, columns - 2 * (widths.length - 1));
  return rows.map((row) =>
    row
      .map((cell, column) => {
        const width = fitted[column] ?? 0;
        const text = flexible.includes(column) ? cutMiddle(cell, width) : cell;
        return right.includes(column) ? text.padStart(width) : text.padEnd(width);
      })
      .join("  ")
      .trimEnd(),
  );
}

/** Narrows the widest of the flexible columns until all fit. */
function fitWidths(widths: readonly number[], flexible: readonly number[], room: number): number[] {
  const fitted = [...widths];
  for (let excess = fitted.reduce((sum, width) => sum + width, 0) - room; excess > 0; excess -= 1) {
    const [widest] = flexible.toSorted((a, b) => (fitted[b] ?? 0) - (fitted[a] ?? 0));
    const width = widest === undefined ? 0 : (fitted[widest] ?? 0);
    if (widest === undefined || width <= LEAST_WIDTH) break;
    fitted[widest] = width - 1;
  }
  return fitted;
}

/** Cuts a text to at most `width` characters, nearer to its beginning: the end of a path identifies it better. */
export function cutMiddle(text: string, width: number): string {
  if (text.length <= width) return text;
  const head = Math.floor((width - 1) / 3);
  return `${text.slice(0, head)}…${text.slice(text.length - (width - 1 - head))}`;
}

/** `1 snapshot`, `3 snapshots`. */
export function count(number: number, noun: string): string {
  return `${number} ${noun}${number === 1 ? "" : "s"}`;
}

const encodingWords: Readonly<Record<Encoding, string>> = {
  identity: "not encrypted",
  zstd: "zstd, not encrypted",
  age: "encrypted",
  "zstd+age": "zstd, encrypted",
};

/** Describes the chain of an archive: how many archives a restore reads, or what is known instead. */
export function describeChain(lineage: Lineage | null, chainLength: number | null): string {
  if (lineage === null) return "unknown";
  if (lineage.sendParent === null) return "full";
  return chainLength === null ? "broken" : String(chainLength);
}

/** Describes the encoding around an archive's stream. */
export function describeEncoding(encoding: Encoding | null): string {
  return encoding === null ? "unknown" : encodingWords[encoding];
}
