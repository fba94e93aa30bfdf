// Reads a history of snapshots: JSON Lines, or the document that `list --json` prints.

import { BackupError } from "../errors.ts";
import { field, isCount, isRecord, list, parseJson, text } from "../json.ts";
import { DAY_NS } from "./keep.ts";
import { median } from "./profile.ts";
import type { History } from "./simulate.ts";

export interface HistoryLine {
  readonly otime: bigint;
  /** Bytes of the stream against the line before; of the first one, in full. */
  readonly bytes: number;
  /** Bytes of the full stream; null: unknown. */
  readonly fullBytes: number | null;
}

export interface GivenHistory {
  readonly lines: readonly HistoryLine[];
  /** The number of full archives after the first: their difference to the one before is taken as the usual one. */
  readonly fulls: number;
}

/** @throws USAGE with the number of the line that cannot be read */
export function parseHistory(given: string): GivenHistory {
  const whole = parseJson(given);
  const history = Array.isArray(field(whole, "archives"))
    ? parseList(list(whole, "archives"))
    : { lines: parseLines(given), fulls: 0 };
  if (history.lines.length >= 2) return history;
  throw usage("a history needs two snapshots", `it has ${history.lines.length === 0 ? "none" : "one"}`);
}

function parseLines(given: string): readonly HistoryLine[] {
  const lines: HistoryLine[] = [];
  for (const [at, line] of given.split("\n").entries()) {
    if (line.trim() === "") continue;
    const parsed = parseLine(parseJson(line), lines.at(-1) ?? null);
    if (typeof parsed === "string") throw usage(`line ${at + 1} of the history cannot be used`, parsed);
    lines.push(parsed);
  }
  return lines;
}

/** The line, or why it cannot be used. */
function parseLine(value: unknown, before: HistoryLine | null): HistoryLine | string {
  if (!isRecord(value)) return 'it is no JSON object such as {"otime":"2026-11-23T03:00:00Z","bytes":1048576}';
  const { bytes, fullBytes = null } = value;
  const otime = parseOtime(text(value, "otime"));
  if (otime === null) return "otime is no date with a time and a zone, such as 2026-11-23T03:00:00Z";
  if (before !== null && otime <= before.otime) return "otime is not later than that of the line before";
  if (!isCount(bytes, before === null ? 1 : 0)) return `bytes is no whole number of ${before === null ? 1 : 0} or more`;
  if (fullBytes !== null && !isCount(fullBytes, 1)) return "fullBytes is no whole number of 1 or more";
  return { otime, bytes, fullBytes };
}

/** Nanoseconds since the epoch of ISO 8601, such as `2026-11-23T03:00:00.123456789Z`; null for anything else. */
function parseOtime(written: string | null): bigint | null {
  const match = /^(\d{4}-\d\d-\d\d)T(\d\d:\d\d(?::\d\d)?)(?:\.(\d{1,9}))?(Z|[+-]\d\d:\d\d)$/.exec(written ?? "");
  const [, day = "", time = "", fraction = "", zone = ""] = match ?? [];
  const milliseconds = Date.parse(`${day}T${time}${zone}`);
  // JavaScript reads the 31st of a month of 30 days as the first of the next.
  if (Number.isNaN(milliseconds) || !new Date(`${day}T00:00:00Z`).toISOString().startsWith(day)) return null;
  return BigInt(milliseconds) * 1_000_000n + BigInt(fraction.padEnd(9, "0"));
}

interface ListedArchive extends HistoryLine {
  readonly isFull: boolean;
}

function parseList(records: readonly unknown[]): GivenHistory {
  const archived = records.filter((record) => field(record, "archived") !== false);
  const sources = new Set(archived.map((record) => text(record, "source")));
  if (sources.size > 1)
    throw usage(`the list has archives of ${sources.size} subvolumes`, "use the output of `list PATH --json`");
  const [first, ...later] = archived.map(parseArchive).toSorted((a, b) => (a.otime < b.otime ? -1 : 1));
  if (first === undefined) return { lines: [], fulls: 0 };
  if (!first.isFull) throw usage("the oldest archive of the list is incremental", "the size of a full one is unknown");
  const usual = median(later.filter(({ isFull }) => !isFull).map(({ bytes }) => bytes));
  const lines = later.map((each): HistoryLine =>
    each.isFull ? { ...each, bytes: Math.min(usual, each.bytes), fullBytes: each.bytes } : each,
  );
  return {
    lines: [{ ...first, fullBytes: first.bytes }, ...lines],
    fulls: later.filter(({ isFull }) => isFull).length,
  };
}

/** @throws USAGE */
function parseArchive(record: unknown): ListedArchive {
  const path = text(record, "path") ?? "?";
  const otime = parseOtime(text(record, "otime"));
  if (otime === null)
    throw usage(`it is unknown when the archive of ${path} was taken`, "leave it out, or write a history of lines");
  const bytes = field(record, "bytes");
  if (!isCount(bytes, 1)) throw usage(`the size of the archive of ${path} is unknown`, "leave it out of the list");
  const isFull = field(record, "sendParent") === null && (field(record, "chainLength") ?? 1) === 1;
  return { otime, bytes, fullBytes: null, isFull };
}

/**
 * The history that lines tell: a difference over several snapshots is the sum of those between, at most the full size.
 * A full size that no line has is the one before and the difference to it.
 *
 * @param days - how long it is: the lines are cut, or their differences repeat; null: as long as the lines
 */
export function toHistory(lines: readonly HistoryLine[], days: number | null): History {
  const [first] = lines;
  if (first === undefined) return { snapshots: [], bytes: () => 0 };
  const end = days === null ? null : first.otime + BigInt(days) * DAY_NS;
  const snapshots: { readonly otime: bigint }[] = [];
  const [fulls, sums]: [number[], number[]] = [[], []];
  for (const { otime, bytes, growth } of repeated(lines, end === null ? lines.length : Infinity)) {
    if (end !== null && otime > end) break;
    snapshots.push({ otime });
    sums.push((sums.at(-1) ?? 0) + bytes);
    fulls.push(Math.max(1, (fulls.at(-1) ?? 0) + growth));
  }
  return {
    snapshots,
    bytes: (snapshot, sendParent) => {
      const full = fulls[snapshot] ?? 0;
      return sendParent === null ? full : Math.min(full, (sums[snapshot] ?? 0) - (sums[sendParent] ?? 0));
    },
  };
}

interface Step {
  readonly otime: bigint;
  readonly bytes: number;
  /** By how much the full size grows. */
  readonly growth: number;
}

/** The lines, and then their differences again and again. */
function* repeated(lines: readonly HistoryLine[], most: number): Generator<Step, void> {
  const steps: Step[] = [];
  let [full, last] = [0, lines[0]?.otime ?? 0n];
  for (const { otime, bytes, fullBytes } of lines) {
    const growth = fullBytes === null ? bytes : fullBytes - full;
    full += growth;
    steps.push({ otime: otime - last, bytes, growth });
    last = otime;
  }
  let otime = lines[0]?.otime ?? 0n;
  for (let place = 0; place < most; place += 1) {
    const step = steps[place < steps.length ? place : 1 + ((place - 1) % (steps.length - 1))];
    if (step === undefined) return;
    otime += step.otime;
    yield { ...step, otime };
  }
}

function usage(message: string, hint: string): BackupError {
  return new BackupError("USAGE", message, { hint });
}
