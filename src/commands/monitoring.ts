// Reports the runs of sync to Prometheus and to a healthcheck service, where the command line names them.

import { resolve } from "node:path";
import { describeWriteError } from "../errors.ts";
import type { LocalSnapshots } from "../operations/ports.ts";
import type { ArchiveView } from "../operations/inventory.ts";
import { listSource, type ListedSource } from "../operations/list.ts";
import type { Receipt } from "../operations/sync-snapshot.ts";
import { newestOf, timeOf } from "../plan/select.ts";
import type { SourceReport } from "../integrations/prometheus.ts";
import type { Session } from "./session.ts";
import { sumBytes } from "../plan/model.ts";

/** Where a run reports to, as typed. */
export interface ReportingFlags {
  readonly metricsFile: string | undefined;
  readonly pingUrl: string | undefined;
}

/** How the run of one subvolume went. */
export interface SourceResult {
  readonly path: string;
  readonly container: string;
  readonly exitCode: number;
  readonly durationMs: number;
  readonly receipts: readonly Receipt[];
  /** Null when the run did not find it out. */
  readonly state: SourceState | null;
}

export type SourceState = Pick<
  SourceReport,
  "pendingSnapshots" | "chainLength" | "brokenArchives" | "newestArchiveSeconds"
>;

/** The state of a run that found out nothing. */
export const NOTHING_KNOWN: SourceState = {
  pendingSnapshots: null,
  chainLength: null,
  brokenArchives: null,
  newestArchiveSeconds: null,
};

/** Joins the states of several origins into one; null when one of them is unknown. */
export function joinStates(states: readonly (SourceState | null)[]): SourceState | null {
  const known = states.flatMap((state) => state ?? []);
  if (known.length === 0 || known.length < states.length) return null;
  const values = (name: keyof SourceState): number[] => known.flatMap((state) => state[name] ?? []);
  const sum = (numbers: readonly number[]): number => numbers.reduce((total, each) => total + each, 0);
  const most = (numbers: readonly number[]): number | null => (numbers.length === 0 ? null : Math.max(...numbers));
  return {
    pendingSnapshots: sum(values("pendingSnapshots")),
    chainLength: most(values("chainLength")),
    brokenArchives: sum(values("brokenArchives")),
    newestArchiveSeconds: most(values("newestArchiveSeconds")),
  };
}

/** Reports a run to other programs. No failure to report fails the run. */
export interface Reporting {
  /** True when a receiver wants more than the exit code. */
  readonly wantsState: boolean;
  start(): void;
  record(result: SourceResult): void;
  end(exitCode: number): Promise<void>;
}

type ReportingEdges = Pick<Session, "log" | "lockFile">;

/** @throws USAGE for a value that is not a URL */
export async function openReporting(
  { metricsFile, pingUrl }: ReportingFlags,
  { log, lockFile }: ReportingEdges,
): Promise<Reporting> {
  const reports: SourceReport[] = [];
  const warn = (sentence: string): void => log.warn(sentence);
  const ping = pingUrl === undefined ? null : (await import("../integrations/healthcheck.ts")).openPing(pingUrl, warn);
  const writeReports = async (): Promise<void> => {
    if (metricsFile === undefined || reports.length === 0) return;
    const { writeMetrics } = await import("../integrations/prometheus.ts");
    try {
      // Without the lock, what another run writes between our read and our write would be lost.
      const lock = await lockFile(metricsFile);
      await writeMetrics(metricsFile, reports).finally(() => lock.close());
    } catch (error) {
      warn(`${metricsFile} was not written: ${describeWriteError(error)}`);
    }
  };
  return {
    wantsState: metricsFile !== undefined,
    start: () => ping?.start(),
    record: ({ path, container, exitCode, durationMs, receipts, state }) => {
      reports.push({
        path: resolve(path),
        container,
        exitCode,
        durationMs,
        sentBytes: sumBytes(receipts),
        sentSnapshots: receipts.length,
        ...(state ?? NOTHING_KNOWN),
      });
    },
    end: async (exitCode) => {
      await Promise.all([writeReports(), ping?.end(exitCode)]);
    },
  };
}

/** Reads the state of the archives; null when the store does not answer. */
export async function readState(
  local: LocalSnapshots,
  view: ArchiveView,
  signal: AbortSignal,
): Promise<SourceState | null> {
  try {
    return describeState(await listSource(local, view, signal));
  } catch {
    return null;
  }
}

/** Describes a source: the newest snapshot that can be restored counts. A broken chain has no length. */
export function describeState({ listed, pending }: ListedSource): SourceState {
  const archived = listed.flatMap(({ archive, chainLength }) => (archive === null ? [] : [{ archive, chainLength }]));
  const intact = archived.filter(({ archive, chainLength }) => chainLength !== null || archive.lineage === null);
  const newest = newestOf(intact.map(({ archive }) => archive))?.archive;
  const last = newestOf(archived.map(({ archive }) => archive))?.archive;
  const time = newest === undefined ? null : timeOf(newest);
  return {
    pendingSnapshots: pending,
    chainLength:
      last === undefined ? null : (listed.find(({ archive }) => archive === last)?.chainLength ?? Number.NaN),
    brokenArchives: archived.length - intact.length,
    newestArchiveSeconds: time === null ? null : Number(time / 1_000_000_000n),
  };
}
