// Parses typed words into values. Every word is parsed here or in store.ts, so that no code behind them meets unchecked
// text.

import { BackupError } from "../errors.ts";
import type { Subset } from "../plan/subset.ts";

const sizeUnits: Readonly<Record<string, number>> = { "": 1, k: 2 ** 10, m: 2 ** 20, g: 2 ** 30, t: 2 ** 40 };

/** Bytes of `512Mi`, `512MiB`, `512M`, `1.5g` or `4096`; units are powers of 1024. @throws USAGE */
export function parseSize(text: string, flag: string): number {
  const match = /^(\d+(?:\.\d+)?)\s*([kmgt]?)(?:i?b?)$/i.exec(text.trim());
  const unit = sizeUnits[(match?.[2] ?? "").toLowerCase()];
  const bytes = Math.floor(Number(match?.[1]) * (unit ?? NaN));
  if (Number.isSafeInteger(bytes) && bytes > 0) return bytes;
  throw new BackupError("USAGE", `${flag} takes a size, not "${text}"`, { hint: `for example ${flag} 512Mi` });
}

const durationUnits: Readonly<Record<string, number>> = { s: 1000, "": 1000, m: 60_000, h: 3_600_000 };

/** Milliseconds of `90`, `90s`, `15m` or `2h`. @throws USAGE */
export function parseDuration(text: string, flag: string): number {
  const match = /^(\d+(?:\.\d+)?)\s*([smh]?)$/i.exec(text.trim());
  const milliseconds = Number(match?.[1]) * (durationUnits[(match?.[2] ?? "").toLowerCase()] ?? NaN);
  if (Number.isFinite(milliseconds)) return milliseconds;
  throw new BackupError("USAGE", `${flag} takes a duration, not "${text}"`, { hint: `for example ${flag} 15m` });
}

/** @throws USAGE for anything but a whole number from 1 to `most` */
export function parseCount(text: string, flag: string, most: number): number {
  const value = /^\d+$/.test(text) ? Number(text) : NaN;
  if (value >= 1 && value <= most) return value;
  throw new BackupError("USAGE", `${flag} takes a whole number from 1 to ${most}, not "${text}"`);
}

/** `10%`, `3/7` or `latest`. @throws USAGE */
export function parseSubset(text: string, flag: string): Subset {
  if (text === "latest") return { of: "latest" };
  const share = Number(/^(\d+(?:\.\d+)?)%$/.exec(text)?.[1]);
  if (share > 0 && share <= 100) return { of: "share", share: share / 100 };
  const [group, groups] = (/^(\d+)\/(\d+)$/.exec(text) ?? []).slice(1).map(Number);
  if (group !== undefined && groups !== undefined && group >= 1 && group <= groups)
    return { of: "group", group, groups };
  throw new BackupError("USAGE", `${flag} takes a share (10%), a group of several (3/7) or latest, not "${text}"`);
}

/** The first moment of the period that a date names; otherwise as {@link parseDate}. @throws USAGE */
export function parseDateBegin(text: string, flag: string): bigint {
  const end = parseDate(text, flag);
  const day = 86_400_000_000_000n;
  const length = /\d:\d\d:\d/.test(text) ? 1_000_000_000n : /\d:\d/.test(text) ? 60_000_000_000n : day;
  return end + 1n - length;
}

/**
 * The end of the period that a date names, in nanoseconds since the epoch: a day (`2026-11-23`), a minute (`2026-11-23
 * 03:00`) or a second. Local time, unless the date has a zone (`2026-11-23T03:00:00Z`). @throws USAGE
 */
export function parseDate(text: string, flag: string): bigint {
  const match = /^(\d{4}-\d\d-\d\d)(?:[T ](\d\d:\d\d)(:\d\d)?\s*(Z|[+-]\d\d:\d\d)?)?$/i.exec(text.trim());
  const [, day = "", minute = "23:59", second = ":59", zone = ""] = match ?? [];
  const milliseconds = Date.parse(`${day}T${minute}${second}${zone.toUpperCase()}`);
  // JavaScript reads the 31st of a month of 30 days as the first of the next.
  const exists = !Number.isNaN(milliseconds) && new Date(`${day}T00:00:00Z`).toISOString().startsWith(day);
  if (exists) return BigInt(milliseconds) * 1_000_000n + 999_999_999n;
  throw new BackupError("USAGE", `${flag} takes a date, not "${text}"`, {
    hint: `for example ${flag} 2026-11-23, or ${flag} "2026-11-23 03:00"`,
  });
}

const yes = new Set(["true", "yes", "on", "1"]);
const no = new Set(["false", "no", "off", "0", ""]);

/** True when `text` is a word for yes or no. */
export function isBoolean(text: string): boolean {
  return yes.has(text.toLowerCase()) || no.has(text.toLowerCase());
}

/** @throws USAGE */
export function parseBoolean(value: string | boolean, flag: string): boolean {
  if (typeof value === "boolean") return value;
  if (isBoolean(value)) return yes.has(value.toLowerCase());
  throw new BackupError("USAGE", `${flag} takes true or false, not "${value}"`);
}

/** @throws USAGE for a word that is not among `choices` */
export function parseChoice<Choice extends string>(text: string, flag: string, choices: readonly Choice[]): Choice {
  const choice = choices.find((known) => known === text);
  if (choice !== undefined) return choice;
  throw new BackupError("USAGE", `${flag} takes ${choices.join(", ")}, not "${text}"`);
}
