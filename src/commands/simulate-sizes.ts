// Where the sizes of a simulation come from: the snapshots of a subvolume, or a file.

import { readFile } from "node:fs/promises";
import { addAbortSignal, type Readable } from "node:stream";
import { text as readAll } from "node:stream/consumers";
import { abortedError, BackupError, describeReadError } from "../errors.ts";
import { measureSnapshots } from "../operations/measure.ts";
import { parseHistory, toHistory } from "../plan/history.ts";
import { assumeHistory, planMeasurement, toProfile } from "../plan/profile.ts";
import type { History } from "../plan/simulate.ts";
import { openOrigins } from "./origins.ts";
import type { Session } from "./session.ts";
import { printHistory, printMeasurement } from "./simulate-report.ts";

/** The history that the snapshots of a subvolume let expect. @throws NO_SNAPSHOTS, USAGE, and what estimates throw */
export async function measureHistory(path: string, days: number, session: Session): Promise<History> {
  const origins = await openOrigins(path, { received: false, sendProto: null }, session);
  const [origin] = await origins.list(() => Promise.reject(new BackupError("INTERNAL", "no container is open")));
  const snapshots = origin?.local.snapshots ?? [];
  const newest = snapshots.at(-1);
  if (newest === undefined) throw await origins.explainNone("other");
  const plan = planMeasurement(snapshots);
  if (plan === null)
    throw new BackupError(
      "USAGE",
      `${path} has ${snapshots.length === 1 ? "one snapshot" : "no two snapshots that are an hour apart"}: nothing shows how it changes`,
      { hint: "simulate again when there are more, or with --history FILE" },
    );
  const watcher = {
    onEstimate: (number: number, of: number) => session.progress.start(`estimating stream ${number} of ${of}`, null),
  };
  const measurement = await measureSnapshots(plan, origins.sender, watcher, session.signal);
  session.progress.stop();
  const profile = toProfile(measurement);
  printMeasurement(path, { count: snapshots.length, measurement, profile }, session);
  return assumeHistory(profile, { from: newest.otime, days });
}

/** @throws USAGE when it cannot be read */
export async function readHistory(
  file: string,
  { days, stdin }: { readonly days: number | null; readonly stdin: Readable },
  session: Session,
): Promise<History> {
  const given = parseHistory(await readText(file, stdin, session.signal));
  printHistory(file === "-" ? "stdin" : file, given, days, session);
  return toHistory(given.lines, days);
}

async function readText(file: string, stdin: Readable, signal: AbortSignal): Promise<string> {
  try {
    return file === "-"
      ? await readAll(addAbortSignal(signal, stdin))
      : await readFile(file, { encoding: "utf8", signal });
  } catch (cause) {
    if (signal.aborted) throw abortedError(signal);
    throw new BackupError("USAGE", `cannot read the history ${file}: ${describeReadError(cause)}`, { cause });
  }
}
