// Finds for the doctor what a sync would find at PATH, in the words of the sync.

import { BackupError } from "../errors.ts";
import type { Archive, Snapshot } from "../plan/model.ts";
import { compareSnapshots, describeStanding, NOTHING_STORED } from "../plan/standing.ts";
import {
  explainNoneReceived,
  explainNoSnapshots,
  snapshotsOfOthers,
  writableSnapshotsOf,
} from "../plan/surroundings.ts";
import { toFailure } from "./doctor-archives.ts";
import { originsOfReceived, type Origin } from "./origins.ts";
import type { Machine, Survey } from "./ports.ts";

/** The snapshots at PATH, and what they are. */
export interface Surveyed extends Pick<Survey, "snapshots" | "unreachable"> {
  readonly message: string;
  /** The kind of snapshots that counts: `read-only` or `received`. */
  readonly kind: string;
  /** The subvolumes beside them that do not count, in words. */
  readonly notCounted: readonly string[];
  /** Explains why there is nothing to archive. */
  explainNone(): BackupError;
  /** The origins of the snapshots. @param archives - reads the archives of the whole container; called only where they matter */
  origins(archives: () => Promise<readonly Archive[]>): Promise<readonly Origin[]>;
}

/** @throws NOT_SUBVOLUME, NOT_BTRFS, NO_PRIVILEGE, USAGE */
export async function surveyPath(
  { path, received }: { readonly path: string; readonly received: boolean },
  machine: Machine,
  signal: AbortSignal,
): Promise<Surveyed> {
  if (!received) return describeSubvolume(path, await machine.survey(path, signal));
  const found = await machine.surveyReceived(path, signal);
  return {
    ...found,
    message: `${path} is searched for received snapshots`,
    kind: "received",
    notCounted: [],
    explainNone: () => explainNoneReceived(path, "sync"),
    origins: async (archives) => originsOfReceived(path, found.snapshots, await archives()),
  };
}

function describeSubvolume(path: string, { around, unreachable, ...local }: Survey): Surveyed {
  const { source, snapshots } = local;
  return {
    snapshots,
    unreachable,
    message: `${path} is the subvolume ${source.uuid}`,
    kind: "read-only",
    notCounted: describeOthers(local, around),
    explainNone: () => explainNoSnapshots(path, source, around),
    origins: () => Promise.resolve([{ name: path, local }]),
  };
}

function describeOthers({ source }: Pick<Survey, "source">, around: Survey["around"]): readonly string[] {
  const writable = writableSnapshotsOf(source, around).map(({ path }) => path);
  const ofOthers = snapshotsOfOthers(source, around).length;
  return [
    ...(writable.length === 0
      ? []
      : [`${writable.length} that can be written to (${writable.slice(0, 3).join(", ")})`]),
    ...(ofOthers === 0 ? [] : [`${ofOthers} of other subvolumes`]),
  ];
}

/** @throws STEP_FAILED for what cannot be reached or named, NO_SNAPSHOTS */
export async function judgeSnapshots(
  surveyed: Surveyed,
  allowsEmpty: boolean,
): Promise<{ readonly status: "ok" | "warning"; readonly message: string; readonly fix?: string }> {
  const { snapshots, unreachable, kind, notCounted } = surveyed;
  const [first] = unreachable;
  if (first !== undefined) {
    const { message, hint } = first.error;
    throw new BackupError(
      "STEP_FAILED",
      `${unreachable.length} cannot be reached, for example ${first.path}: ${message}`,
      { hint: hint ?? undefined },
    );
  }
  const unusable = (await surveyed.origins(() => Promise.resolve([]))).flatMap(({ local }) => findUnusable(local));
  if (unusable.length > 0) throw toFailure(unusable);
  if (snapshots.length === 0) {
    const failure = surveyed.explainNone();
    if (!allowsEmpty) throw failure;
    return { status: "warning", message: failure.message, ...(failure.hint === null ? {} : { fix: failure.hint }) };
  }
  const beside = notCounted.length === 0 ? "" : `; not counted: ${notCounted.join(", ")}`;
  return { status: "ok", message: `${snapshots.length} ${kind}${beside}` };
}

function findUnusable({ source, snapshots }: { source: Survey["source"]; snapshots: readonly Snapshot[] }) {
  return compareSnapshots({ ...NOTHING_STORED, source, snapshots }).flatMap(
    (standing) => describeStanding(standing, []) ?? [],
  );
}
