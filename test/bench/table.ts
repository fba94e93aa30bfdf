// The results of the bench as tables.

import { PARTS_HASHED_TOGETHER } from "../../src/plan/layout.ts";
import { contenders, PARTS_IN_FLIGHT, type ContenderName } from "./contenders.ts";
import type { Course, Lap, Results } from "./race.ts";

const GIBIBYTE = 2 ** 30;
const MEBIBYTE = 2 ** 20;

/** The middle one; of an even number, the higher of the two. NaN of none. */
export function median(values: readonly number[]): number {
  return values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)] ?? NaN;
}

/** The median of one figure over all laps; NaN when nobody ran. */
function medianOf(results: Results, name: ContenderName, figure: (lap: Lap) => number): number {
  return median((results.get(name) ?? []).map(figure));
}

const seconds = (lap: Lap): number => lap.seconds;
const clientCpu = (lap: Lap): number => lap.clientCpu;

/** Medians, and how each compares with sync. */
export function formatTable(results: Results, { streamBytes }: Pick<Course, "streamBytes">): string {
  const gibibytes = streamBytes / GIBIBYTE;
  const head = ["", "wall s", "(least-most)", "GiB/s", "÷ sync", "CPU s/GiB", "÷ sync", "btrfs send", "peak MiB"];
  const rows = [...results].map(([name, laps]) => {
    const wall = medianOf(results, name, seconds);
    const cpu = medianOf(results, name, clientCpu);
    const walls = laps.map(seconds);
    return [
      contenders[name].name,
      wall.toFixed(2),
      `(${Math.min(...walls).toFixed(1)}-${Math.max(...walls).toFixed(1)})`,
      (gibibytes / wall).toFixed(2),
      (wall / medianOf(results, "sync", seconds)).toFixed(2),
      cpu === 0 ? "-" : (cpu / gibibytes).toFixed(2),
      cpu === 0 ? "-" : (cpu / medianOf(results, "sync", clientCpu)).toFixed(2),
      (medianOf(results, name, (lap) => lap.sendCpu) / gibibytes).toFixed(2),
      cpu === 0 ? "-" : (medianOf(results, name, (lap) => lap.peakBytes) / MEBIBYTE).toFixed(0),
    ];
  });
  return formatRows([head, ...rows]);
}

/** A target: a figure, and its limit. */
export interface Aim {
  readonly what: string;
  readonly value: number;
  readonly limit: number;
}

/** How sync stands against what is aimed at, as far as those ran that it is compared with. */
export function formatAims(results: Results, { partBytes }: { readonly partBytes: number }): string {
  const between = (name: ContenderName, other: ContenderName): number =>
    medianOf(results, name, seconds) / medianOf(results, other, seconds);
  const of = (name: ContenderName, figure: (lap: Lap) => number): number =>
    medianOf(results, "sync", figure) / medianOf(results, name, figure);
  const buffers = (PARTS_IN_FLIGHT + PARTS_HASHED_TOGETHER) * partBytes;
  const aims: readonly Aim[] = [
    { what: "CPU of the client, sync ÷ rclone rcat", value: of("rclone", clientCpu), limit: 0.6 },
    { what: "CPU of the client, sync ÷ bare lib-storage", value: of("libStorage", clientCpu), limit: 1 },
    { what: "wall, sync ÷ rclone rcat", value: of("rclone", seconds), limit: 0.8 },
    { what: "wall, sync ÷ aws s3 cp (later)", value: of("aws", seconds), limit: 1 },
    { what: "wall, sync ÷ swift upload of a spooled file", value: of("swift", seconds), limit: 1 },
    { what: "wall, sync --age-recipient ÷ btrfs send | age | cat", value: between("syncAge", "ageCat"), limit: 1.25 },
    {
      what: "peak memory without part buffers, MiB",
      value: (medianOf(results, "sync", (lap) => lap.peakBytes) - buffers) / MEBIBYTE,
      limit: 256,
    },
  ];
  return formatTargets(aims);
}

/** Targets, and whether they are met; without those that were not measured. */
export function formatTargets(aims: readonly Aim[]): string {
  const rows = aims
    .filter(({ value }) => !Number.isNaN(value))
    .map(({ what, value, limit }) => [what, value.toFixed(2), `≤ ${limit}`, value <= limit ? "met" : "MISSED"]);
  return formatRows(rows);
}

/** Columns as wide as they need; all but the first to the right. */
export function formatRows(rows: readonly (readonly string[])[]): string {
  const widths = (rows[0] ?? []).map((_, column) => Math.max(...rows.map((row) => row[column]?.length ?? 0)));
  const pad = (cell: string, column: number): string =>
    column === 0 ? cell.padEnd(widths[column] ?? 0) : cell.padStart(widths[column] ?? 0);
  return rows.map((row) => row.map(pad).join("  ").trimEnd()).join("\n");
}
