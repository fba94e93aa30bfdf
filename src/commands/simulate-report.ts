// Prints what a simulation assumes, and its outcome.

import type { GivenHistory } from "../plan/history.ts";
import { DAY_NS, describeRules, type KeepRules } from "../plan/keep.ts";
import type { ZonedRules } from "../plan/keep-object.ts";
import { formatTime } from "../plan/key.ts";
import type { Estimate } from "../plan/model.ts";
import type { Measurement, Profile } from "../plan/profile.ts";
import type { Milestone, SimulatedState } from "../plan/simulate.ts";
import { count, formatBytes, formatMinute } from "../terminal/format.ts";
import { describeZoned } from "./keep-options.ts";
import type { Session } from "./session.ts";

type Reporter = Pick<Session, "output">;

export function printMeasurement(
  path: string,
  measured: { readonly count: number; readonly measurement: Measurement; readonly profile: Profile },
  { output }: Reporter,
): void {
  const { measurement, profile } = measured;
  const { newest, intervalNs } = measurement;
  const incrementals = measurement.incrementals.toSorted((a, b) => a.days - b.days);
  const intervalDays = Number(intervalNs) / Number(DAY_NS);
  output.line(`${path}: ${count(measured.count, "snapshot")}, one every ${describeDays(intervalDays)}`);
  output.table(
    [
      ["  full", formatEstimate(newest)],
      ...incrementals.map((each) => [`  incremental, over ${describeDays(each.days)}`, formatEstimate(each)]),
    ],
    { right: [1] },
  );
  const [shortest, longest] = [incrementals.at(0)?.days ?? 0, incrementals.at(-1)?.days ?? 0];
  output.line(`growing by ${formatBytes(Math.round(profile.growthPerDay))} a day`);
  output.line(`measured over ${describeDays(shortest)} to ${describeDays(longest)}; beyond that, assumed`);
  for (const { days, bytes, exact } of [{ ...newest, days: null }, ...incrementals])
    output.record({ type: "estimate", subvolume: path, days, bytes, exact });
  output.record({ type: "profile", subvolume: path, intervalDays, growthBytesPerDay: profile.growthPerDay });
}

function formatEstimate({ bytes, exact }: Estimate): string {
  return `${exact ? "" : "≤ "}${formatBytes(bytes)}`;
}

/** @param days - how long the history is to be; null: as it is */
export function printHistory(
  name: string,
  { lines, fulls }: GivenHistory,
  days: number | null,
  { output }: Reporter,
): void {
  const [first, last] = [lines[0]?.otime ?? 0n, lines.at(-1)?.otime ?? 0n];
  const own = Number(last - first) / Number(DAY_NS);
  const change = days === null ? "" : days < own ? `; only the first ${count(days, "day")}` : "; then they repeat";
  output.line(`${name}: ${count(lines.length, "snapshot")}, ${formatMinute(first)} to ${formatMinute(last)}${change}`);
  output.line("a difference over several snapshots counts as the sum of those between, at most as the full size");
  if (lines.slice(1).some(({ fullBytes }) => fullBytes === null))
    output.line("an unknown full size counts as that of the snapshot before and the difference to it");
  if (fulls === 0) output.line("so the rules cost at most what is shown");
  if (fulls > 0)
    output.line(`${count(fulls, "full archive")} after the first: taken as a usual difference to the one before`);
  output.record({ type: "history", snapshots: lines.length, from: formatTime(first), to: formatTime(last), fulls });
}

/** @param local - null: the same rules */
export function printRules(zoned: ZonedRules, local: KeepRules | null, { output }: Reporter): void {
  output.line(`keep rules: ${describeZoned(zoned)}`);
  output.line(
    local === null
      ? "this machine keeps its own snapshots by the same rules (assumed; --keep-local gives others)"
      : `this machine keeps its own snapshots by other rules: ${describeRules(local)}`,
  );
  const { rules, timeZone } = zoned;
  output.record({ type: "rules", keep: describeRules(rules), keepLocal: describeRules(local ?? rules), timeZone });
}

export function printStates(milestones: readonly Milestone[], line: SimulatedState, { output }: Reporter): void {
  const rows = milestones.map(({ days, state }) => toRow(count(days, "day"), state));
  output.line();
  output.table(
    [
      ["AFTER", "ARCHIVES", "ANCESTORS", "UPLOADED", "STORED", "CHAIN", "RESTORE"],
      ...rows,
      toRow("without rules", line),
    ],
    { right: [1, 2, 3, 4, 5, 6] },
  );
  output.line("ANCESTORS: kept only because others build on them; CHAIN, RESTORE: the most archives and bytes that a");
  output.line("restore ever read until then; one sync and one prune a day");
  for (const { days, state } of milestones) output.record(toRecord(days, state, true));
  output.record(toRecord(milestones.at(-1)?.days ?? 0, line, false));
}

function toRow(name: string, state: SimulatedState): string[] {
  const { archives, ancestors, uploadedBytes, storedBytes, chainLength, chainBytes } = state;
  const [uploaded, stored, restore] = [uploadedBytes, storedBytes, chainBytes].map(formatBytes);
  return [name, String(archives), String(ancestors), uploaded ?? "", stored ?? "", String(chainLength), restore ?? ""];
}

/** @param rules - false: without keep rules */
function toRecord(days: number, { otime, ...state }: SimulatedState, rules: boolean): Record<string, unknown> {
  return { type: "state", rules, days, otime: formatTime(otime), ...state };
}

/** `1 day`, `2.5 days`, `3 hours`. */
function describeDays(days: number): string {
  if (days < 0.99) return count(Math.round(days * 24), "hour");
  return count(Number(days.toFixed(days < 10 ? 1 : 0)), "day");
}
