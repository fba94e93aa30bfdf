// Keep rules: which snapshots of a subvolume they keep, why, and for how long. In each period the first snapshot counts,
// not the last: so the lifetime of a snapshot is known when it is taken. Times are nanoseconds since the epoch; periods
// are those of one time zone.

import { BackupError } from "../errors.ts";

/** Periods, the shortest first. */
export const PERIODS = ["hourly", "daily", "weekly", "monthly", "yearly"] as const;
export type Period = (typeof PERIODS)[number];

/** How many periods keep their first snapshot: the newest ones that have a snapshot. */
export type KeepCount = number | "all";

export interface KeepRules {
  /** How many of the newest snapshots are kept. */
  readonly last: number;
  /** Snapshots at most this much older than the newest are kept; null: no such rule. */
  readonly withinNs: bigint | null;
  /** 0: no such rule. */
  readonly counts: Readonly<Record<Period, KeepCount>>;
}

/** A dated thing that rules judge: a snapshot on this machine or in the container. */
export interface Dated {
  /** Unique among those that are judged together. */
  readonly id: string;
  readonly otime: bigint;
}

/** Why a snapshot is kept, for people: `first of the month`, `one of the last 3`. */
export type KeepReason = string;

const SECOND_NS = 1_000_000_000n;
export const HOUR_NS = 3600n * SECOND_NS;
export const DAY_NS = 24n * HOUR_NS;

/** The longest length of each period. Lifetimes are only compared with each other, so they need not be exact. */
const LENGTH_NS: Readonly<Record<Period, bigint>> = {
  hourly: HOUR_NS,
  daily: DAY_NS,
  weekly: 7n * DAY_NS,
  monthly: 31n * DAY_NS,
  yearly: 366n * DAY_NS,
};

const NOUNS: Readonly<Record<Period, string>> = {
  hourly: "hour",
  daily: "day",
  weekly: "week",
  monthly: "month",
  yearly: "year",
};

const NO_COUNTS: KeepRules["counts"] = { hourly: 0, daily: 0, weekly: 0, monthly: 0, yearly: 0 };

/** Rules that keep nothing, to build on. */
export const NO_RULES: KeepRules = { last: 0, withinNs: null, counts: NO_COUNTS };

// --- reading rules

/** Parses the value of a count, as in `--keep-daily 30` or `all`. @param name - for the error: `--keep-daily`. @throws USAGE */
export function parseKeepCount(text: string, name: string): KeepCount {
  if (text === "all" || text === "*") return "all";
  if (/^\d{1,6}$/.test(text)) return Number(text);
  throw usage(`${name} takes a number of 0 or more, or all: not ${text}`);
}

/** Parses `--keep-last`. @throws USAGE */
export function parseKeepLast(text: string, name: string): number {
  if (/^\d{1,6}$/.test(text)) return Number(text);
  throw usage(`${name} takes a number of 0 or more: not ${text}`);
}

const UNITS_NS: Readonly<Record<string, bigint>> = {
  h: HOUR_NS,
  d: DAY_NS,
  w: 7n * DAY_NS,
  m: 31n * DAY_NS,
  y: 366n * DAY_NS,
};

/** Parses a duration such as `36h`, `14d`, `2y6m`, in nanoseconds; months have 31 days, years 366. @throws USAGE */
export function parseKeepWithin(text: string, name: string): bigint {
  const words = /^(?:\d{1,6}[hdwmy])+$/.test(text) ? [...text.matchAll(/(\d+)([hdwmy])/g)] : [];
  const total = words.reduce((sum, [, amount = "", unit = ""]) => sum + BigInt(amount) * (UNITS_NS[unit] ?? 0n), 0n);
  if (total > 0n) return total;
  throw usage(`${name} takes a duration such as 36h, 14d, 8w, 6m or 2y: not ${text}`);
}

const LETTERS: Readonly<Record<string, Period>> = { h: "hourly", d: "daily", w: "weekly", m: "monthly", y: "yearly" };

/** Parses btrbk's compact form: `24h 30d 8w 24m *y`. @throws USAGE */
export function parseKeepText(text: string, name: string): KeepRules {
  const words = text.split(/\s+/).filter((word) => word !== "");
  const counts: Record<Period, KeepCount> = { ...NO_COUNTS };
  for (const word of words) {
    const [, amount = "", letter = ""] = /^(\d{1,6}|\*|all)([hdwmy])$/.exec(word) ?? [];
    const period = LETTERS[letter];
    if (period === undefined)
      throw usage(`${name} takes counts of hours, days, weeks, months and years, such as "30d 8w 24m *y": not ${word}`);
    counts[period] = parseKeepCount(amount, name);
  }
  return { ...NO_RULES, counts };
}

/** Refuses rules that keep nothing: they would delete everything. @throws USAGE */
export function assertKeeps(rules: KeepRules): void {
  if (keepsSomething(rules)) return;
  throw usage("the keep rules keep nothing: give one of --keep-last, --keep-within, --keep-daily and so on, above 0");
}

/** True when there is at least one rule. */
export function keepsSomething({ last, withinNs, counts }: KeepRules): boolean {
  return last > 0 || withinNs !== null || PERIODS.some((period) => counts[period] !== 0);
}

/** Describes rules for people: `the last 3, 30 days, every year`. */
export function describeRules({ last, withinNs, counts }: KeepRules): string {
  const periods = PERIODS.flatMap((period) => {
    const kept = counts[period];
    return kept === 0
      ? []
      : [`${kept === "all" ? "every" : kept} ${NOUNS[period]}${typeof kept === "number" && kept > 1 ? "s" : ""}`];
  });
  return [
    ...(last > 0 ? [`the last ${last}`] : []),
    ...(withinNs === null
      ? []
      : [`all within ${withinNs / DAY_NS > 0n ? `${withinNs / DAY_NS} days` : `${withinNs / HOUR_NS} hours`}`]),
    ...periods,
  ].join(", ");
}

// --- periods

/** Names the periods of a moment in one time zone. */
export type Calendar = (otime: bigint) => Readonly<Record<Period, string>>;

/**
 * The calendar of a time zone (IANA name). An hour that the clock shows twice is one period; one that it skips is none.
 */
export function openCalendar(zone: string): Calendar {
  const format = new Intl.DateTimeFormat("en-GB", {
    timeZone: zone,
    calendar: "gregory",
    hourCycle: "h23",
    year: "numeric",
    month: "2-digit",
    day: "2-digit",
    hour: "2-digit",
  });
  return (otime) => {
    const parts = new Map(format.formatToParts(Number(otime / 1_000_000n)).map(({ type, value }) => [type, value]));
    const field = (type: Intl.DateTimeFormatPartTypes): string => parts.get(type) ?? "";
    const [year, month, day] = [field("year"), field("month"), field("day")];
    const date = `${year}-${month}-${day}`;
    return {
      hourly: `${date}T${field("hour")}`,
      daily: date,
      weekly: isoWeek(Number(year), Number(month), Number(day)),
      monthly: `${year}-${month}`,
      yearly: year,
    };
  };
}

/** ISO 8601: weeks begin on Monday, and belong to the year that their Thursday is in. */
function isoWeek(year: number, month: number, day: number): string {
  const date = new Date(Date.UTC(year, month - 1, day));
  date.setUTCDate(date.getUTCDate() + 4 - (date.getUTCDay() || 7));
  const thursdaysYear = date.getUTCFullYear();
  const week = Math.ceil(((date.getTime() - Date.UTC(thursdaysYear, 0, 1)) / 86_400_000 + 1) / 7);
  return `${thursdaysYear}-W${String(week).padStart(2, "0")}`;
}

// --- judging snapshots

export interface Judgement {
  /** The reasons to keep each snapshot that is kept, by its id: those of periods first, the coarsest before the others. */
  readonly kept: ReadonlyMap<string, readonly KeepReason[]>;
  /** How long each snapshot is kept, counted from its own time, in nanoseconds; null: forever. Without a rule it is 0. */
  readonly lifetimes: ReadonlyMap<string, bigint | null>;
}

/**
 * Applies keep rules to the snapshots of one subvolume. Durations and periods count back from the newest snapshot that is
 * not in the future. Snapshots from the future are kept, and no rule counts them: a clock was wrong, and nobody knows which.
 */
export function judge(snapshots: readonly Dated[], rules: KeepRules, calendar: Calendar, now: bigint): Judgement {
  const sorted = snapshots.toSorted((a, b) => (a.otime < b.otime ? -1 : a.otime > b.otime ? 1 : 0));
  const present = sorted.filter(({ otime }) => otime <= now);
  const reasons = new Map<string, KeepReason[]>();
  const lifetimes = new Map<string, bigint | null>(snapshots.map(({ id }) => [id, 0n]));
  const keep = (id: string, reason: KeepReason): void => void reasons.set(id, [...(reasons.get(id) ?? []), reason]);
  for (const { id } of sorted.slice(present.length)) {
    keep(id, "its time is in the future");
    lifetimes.set(id, null);
  }
  const newest = present.at(-1);
  if (newest === undefined) return { kept: reasons, lifetimes };
  const places = present.map((snapshot) => ({ ...snapshot, in: calendar(snapshot.otime) }));
  for (const period of PERIODS.toReversed()) {
    const count = rules.counts[period];
    if (count === 0) continue;
    const firsts = places.filter((each, at) => at === 0 || places[at - 1]?.in[period] !== each.in[period]);
    for (const { id } of firsts) lengthen(lifetimes, id, lifetimeOf(period, rules));
    for (const { id } of count === "all" ? firsts : firsts.slice(-count)) keep(id, `first of the ${NOUNS[period]}`);
  }
  for (const { id } of rules.last === 0 ? [] : present.slice(-rules.last)) keep(id, lastReason(rules.last));
  for (const { id, otime } of present) {
    if (rules.withinNs === null) break;
    lengthen(lifetimes, id, rules.withinNs);
    if (newest.otime - otime <= rules.withinNs) keep(id, "new enough for --keep-within");
  }
  return { kept: reasons, lifetimes };
}

/** For how long the first of a period is kept, in nanoseconds; null: forever. 0 where no rule names the period. */
export function lifetimeOf(period: Period, { counts }: KeepRules): bigint | null {
  const count = counts[period];
  return count === "all" ? null : BigInt(count) * LENGTH_NS[period];
}

/** `week`, for people. */
export function nameOfPeriod(period: Period): string {
  return NOUNS[period];
}

function lastReason(last: number): KeepReason {
  return last === 1 ? "the newest" : `one of the last ${last}`;
}

function lengthen(lifetimes: Map<string, bigint | null>, id: string, lifetime: bigint | null): void {
  const known = lifetimes.get(id) ?? 0n;
  if (lifetimes.get(id) === null) return;
  lifetimes.set(id, lifetime === null || lifetime > known ? lifetime : known);
}

/** Orders lifetimes; null is the longest. */
export function compareLifetimes(a: bigint | null, b: bigint | null): number {
  if (a === b) return 0;
  if (a === null) return 1;
  if (b === null) return -1;
  return a < b ? -1 : 1;
}

function usage(message: string): BackupError {
  return new BackupError("USAGE", message);
}
