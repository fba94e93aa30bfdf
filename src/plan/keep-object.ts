// The object `<source>/keep` in a container: the keep rules of the last prune. A sync without rules of its own follows
// them, on any machine; otherwise it would send again what the prune deleted.

import { isCount, isRecord, parseJson } from "../json.ts";
import {
  assertKeeps,
  HOUR_NS,
  NO_RULES,
  parseKeepWithin,
  PERIODS,
  type KeepCount,
  type KeepRules,
  type Period,
} from "./keep.ts";
import { parseUuid, type Uuid } from "./model.ts";

/** Rules, and the time zone of the days that they count. */
export interface ZonedRules {
  readonly rules: KeepRules;
  /** An IANA name, as `Europe/Berlin`. */
  readonly timeZone: string;
}

/** Readers refuse a longer object. */
export const MAX_KEEP_BYTES = 4096;

const SUFFIX = "/keep";

/** The key of the object. It has a slash, and no archive's key has one. */
export function formatKeepKey(source: Uuid): string {
  return source + SUFFIX;
}

/** True for the key of such an object. */
export function isKeepKey(key: string): boolean {
  return key.endsWith(SUFFIX) && parseUuid(key.slice(0, -SUFFIX.length)) !== null;
}

/** The content of the object. */
export function formatKeep({ rules, timeZone }: ZonedRules): string {
  const { last, withinNs, counts } = rules;
  const keep = {
    ...(last > 0 ? { last } : {}),
    ...(withinNs === null ? {} : { within: `${withinNs / HOUR_NS}h` }),
    ...Object.fromEntries(PERIODS.flatMap((period) => (counts[period] === 0 ? [] : [[period, counts[period]]]))),
  };
  return `${JSON.stringify({ format: 1, timeZone, keep }, null, 1)}\n`;
}

/** Parses the content of the object; null for anything that {@link formatKeep} does not write. */
export function parseKeep(text: string): ZonedRules | null {
  const parsed = parseJson(text);
  if (!isRecord(parsed) || parsed["format"] !== 1 || !isRecord(parsed["keep"])) return null;
  const { timeZone, keep } = parsed;
  if (typeof timeZone !== "string" || !isTimeZone(timeZone)) return null;
  const { last = 0, within = null, ...periods } = keep;
  const counts: Record<Period, KeepCount> = { ...NO_RULES.counts };
  for (const [name, value] of Object.entries(periods)) {
    const period = PERIODS.find((each) => each === name);
    if (period === undefined || !(value === "all" || isCount(value, 0))) return null;
    counts[period] = value;
  }
  if (!isCount(last, 0) || !(within === null || typeof within === "string")) return null;
  try {
    const rules = { last, withinNs: within === null ? null : parseKeepWithin(within, "within"), counts };
    assertKeeps(rules);
    return { rules, timeZone };
  } catch {
    return null;
  }
}

function isTimeZone(name: string): boolean {
  try {
    return new Intl.DateTimeFormat("en-GB", { timeZone: name }) instanceof Intl.DateTimeFormat;
  } catch {
    return false;
  }
}
