import { resolve } from "node:path";
import { describeWriteError } from "../errors.ts";
import { listSource } from "../operations/list.ts";
import type { Container, LocalSnapshots } from "../operations/edges.ts";
import type { Receipt } from "../operations/step.ts";
import type { SourceReport } from "../reports/metrics.ts";
import type { House } from "./base.ts";

/** Where a run is told of, as it was typed. */
export interface ReportingFlags {
  readonly metricsFile: string | undefined;
  readonly pingUrl: string | undefined;
}

/** How the run of one subvolume went. */
export interface Told {
  readonly path: string;
  readonly container: string;
  readonly exitCode: number;
  readonly durationMs: number;
  readonly receipts: readonly Receipt[];
  /** Null when it was not found out. */
  readonly state: SourceState | null;
}

export type SourceState = Pick<SourceReport, "pendingSnapshots" | "chainLength">;

/** Tells other programs of a run. None of it can fail the run. */
export interface Reporting {
  /** True when somebody wants to know more than the exit code. */
  readonly wantsState: boolean;
  start(): void;
  note(told: Told): void;
  end(exitCode: number): Promise<void>;
}

type ReportingEdges = Pick<House, "log" | "lockFile">;

/** @throws USAGE for what is no URL */
export async function openReporting({ metricsFile, pingUrl }: ReportingFlags, { log, lockFile }: ReportingEdges): Promise<Reporting> {
  const reports: SourceReport[] = [];
  const warn = (sentence: string): void => log.warn(sentence);
  const ping = pingUrl === undefined ? null : (await import("../reports/ping.ts")).openPing(pingUrl, warn);
  const writeReports = async (): Promise<void> => {
    if (metricsFile === undefined || reports.length === 0) return;
    const { writeMetrics } = await import("../reports/metrics.ts");
    try {
      // What another run writes between our reading and our writing would be lost.
      const lock = await lockFile(metricsFile);
      await writeMetrics(metricsFile, reports).finally(() => lock.close());
    } catch (error) {
      warn(`${metricsFile} was not written: ${describeWriteError(error)}`);
    }
  };
  return {
    wantsState: metricsFile !== undefined,
    start: () => ping?.start(),
    note: ({ path, container, exitCode, durationMs, receipts, state }) => {
      reports.push({
        path: resolve(path),
        container,
        exitCode,
        durationMs,
        sentBytes: receipts.reduce((sum, { bytes }) => sum + bytes, 0),
        sentSnapshots: receipts.length,
        ...(state ?? { pendingSnapshots: null, chainLength: null }),
      });
    },
    end: async (exitCode) => {
      await Promise.all([writeReports(), ping?.end(exitCode)]);
    },
  };
}

/** What is not archived, and how long the chain of the newest archive is; null when the store does not tell. */
export async function readState(
  local: LocalSnapshots,
  container: Container,
  signal: AbortSignal,
): Promise<SourceState | null> {
  try {
    const listed = await listSource(local, { container, identities: [] }, signal);
    return {
      pendingSnapshots: listed.filter((each) => each.local !== null && each.archive === null).length,
      chainLength: listed.findLast(({ archive }) => archive !== null)?.chainLength ?? null,
    };
  } catch {
    return null;
  }
}
