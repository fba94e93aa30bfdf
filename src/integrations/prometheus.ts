// Reports to programs that monitor runs: numbers for node_exporter's textfile collector, pings for healthcheck
// services. A run never fails because a report failed. Nothing about btrfs, stores or commands belongs here.

import { userInfo } from "node:os";
import { replaceFile } from "../state/own-directories.ts";

/** How the run of one subvolume went. */
export interface SourceReport {
  readonly container: string;
  readonly path: string;
  readonly exitCode: number;
  readonly durationMs: number;
  readonly sentBytes: number;
  readonly sentSnapshots: number;
  /** Snapshots that are here and not archived; null = the run did not find out. */
  readonly pendingSnapshots: number | null;
  /**
   * Archives that a restore of the newest has to read; NaN = one of them is missing; null = the run did not find out.
   */
  readonly chainLength: number | null;
  /** Archives that cannot be restored, because one that they build on is missing; null as above. */
  readonly brokenArchives: number | null;
  /** When the newest snapshot that can be restored was taken, in seconds since the epoch; null as above. */
  readonly newestArchiveSeconds: number | null;
}

const PREFIX = "btrfs_snapshots_to_swift_";

/** In the order in which they are written. */
const metrics = {
  last_run_timestamp_seconds: "When the last run ended.",
  last_success_timestamp_seconds: "When a run last ended with everything archived.",
  exit_code: "Exit code of the last run for this subvolume.",
  duration_seconds: "Duration of the last run.",
  sent_bytes: "Bytes of the streams that the last run archived.",
  sent_snapshots: "Snapshots that the last run archived.",
  pending_snapshots: "Snapshots that are not archived.",
  chain_length: "Archives that have to be read to restore the newest one; NaN: one of them is missing.",
  broken_archives: "Archives that cannot be restored, because one that they build on is missing.",
  newest_archive_timestamp_seconds: "When the newest snapshot that can be restored was taken.",
} as const;

type Metric = keyof typeof metrics;

/** Values by the text of their labels. */
type Samples = Map<string, number>;

/**
 * Writes the reports into a file in Prometheus' text format, in one step, so that nobody reads an incomplete file.
 * Values of other subvolumes stay. So do values that this run did not find out, such as the time of its last success.
 */
export async function writeMetrics(file: string, reports: readonly SourceReport[], nowMs = Date.now()): Promise<void> {
  await replaceFile(file, (previous) => formatMetrics(previous, reports, nowMs), { uid: userInfo().uid });
}

/** Returns the new text of a file that contained `previous`. */
export function formatMetrics(previous: string, reports: readonly SourceReport[], nowMs: number): string {
  const all = new Map<Metric, Samples>();
  for (const name of Object.keys(metrics) as Metric[]) all.set(name, parseSamples(previous, name));
  for (const report of reports) {
    const labels = `container="${escape(report.container)}",path="${escape(report.path)}"`;
    for (const [name, value] of Object.entries(toValues(report, nowMs)) as [Metric, number | null][]) {
      if (value !== null) all.get(name)?.set(labels, value);
    }
  }
  return [...all].map(([name, samples]) => formatMetric(name, samples)).join("");
}

function toValues(report: SourceReport, nowMs: number): Record<Metric, number | null> {
  const now = Math.round(nowMs / 1000);
  return {
    last_run_timestamp_seconds: now,
    last_success_timestamp_seconds: report.exitCode === 0 ? now : null,
    exit_code: report.exitCode,
    duration_seconds: Math.round(report.durationMs) / 1000,
    sent_bytes: report.sentBytes,
    sent_snapshots: report.sentSnapshots,
    pending_snapshots: report.pendingSnapshots,
    chain_length: report.chainLength,
    broken_archives: report.brokenArchives,
    newest_archive_timestamp_seconds: report.newestArchiveSeconds,
  };
}

function formatMetric(name: Metric, samples: Samples): string {
  if (samples.size === 0) return "";
  const lines = [...samples].map(([labels, value]) => `${PREFIX}${name}{${labels}} ${value}`);
  return [`# HELP ${PREFIX}${name} ${metrics[name]}`, `# TYPE ${PREFIX}${name} gauge`, ...lines, ""].join("\n");
}

function parseSamples(text: string, name: Metric): Samples {
  const start = `${PREFIX}${name}{`;
  return new Map(
    text
      .split("\n")
      .filter((line) => line.startsWith(start))
      .map((line): [string, number] => [
        line.slice(start.length, line.lastIndexOf("}")),
        Number(line.slice(line.lastIndexOf("}") + 1)),
      ]),
  );
}

function escape(value: string): string {
  return value.replaceAll("\\", "\\\\").replaceAll('"', '\\"').replaceAll("\n", "\\n");
}
