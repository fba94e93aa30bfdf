// Prints the plan of a prune with its reasons, and the outcome.

import type { PruneOutcome, PruneWatcher } from "../operations/prune.ts";
import { formatTime } from "../plan/key.ts";
import { sumBytes, type Archive } from "../plan/model.ts";
import type { SuggestedRebase } from "../plan/rebase.ts";
import { timeOf } from "../plan/select.ts";
import type { PrunePlan, PruneRow } from "../plan/prune.ts";
import { count, describeChain, formatBytes, formatMinute, printable } from "../terminal/format.ts";
import type { Session } from "./session.ts";

/** Prints each archive with its size, whether it is kept, and why; and what the prune deletes. */
export function printPrunePlan(name: string, plan: PrunePlan, { output }: Session): void {
  const { rows, deletions, freedBytes, totalBytes, ancestors } = plan;
  output.line(`${name}: ${count(rows.length, "archive")}, ${formatBytes(totalBytes)}`);
  output.table([["  TAKEN", "SNAPSHOT", "SIZE", "CHAIN", "", "WHY"], ...rows.map(toRow)], {
    right: [2],
    flexible: [1],
    prose: 5,
  });
  if (ancestors.count > 0)
    output.line(
      `${count(ancestors.count, "archive")} (${formatBytes(ancestors.bytes)}) kept only because others build on them`,
    );
  if (deletions.length > 0)
    output.line(`${deletions.length} to delete, ${formatBytes(freedBytes)} of ${formatBytes(totalBytes)} freed`);
  else output.line(explainNothing(plan));
  for (const row of rows) output.record(toRecord(row));
  output.record({
    type: "plan",
    subvolume: name,
    delete: deletions.length,
    freedBytes,
    totalBytes,
    ancestors: ancestors.count,
    ancestorBytes: ancestors.bytes,
  });
}

const SUGGESTED_AT_MOST = 3;

/** @param seenAt - where a path of the filesystem appears on this machine */
export function printSuggested(
  suggested: readonly SuggestedRebase[],
  seenAt: (path: string) => string | null,
  { output }: Session,
): void {
  const freed = suggested.reduce((sum, { freedBytes }) => sum + freedBytes, 0);
  output.line(`${count(suggested.length, "rebase")} would let ${formatBytes(freed)} more be deleted, for example:`);
  for (const [at, { step, freedBytes }] of suggested.entries()) {
    const { snapshot, sendParent, key } = step;
    const where = seenAt(snapshot.path) ?? snapshot.path;
    const on = sendParent?.path ?? null;
    if (at < SUGGESTED_AT_MOST) output.line(`  rebase ${printable(where)}  frees ${formatBytes(freedBytes)}`);
    output.record({ type: "suggestion", rebase: key, path: snapshot.path, sendParent: on, freedBytes });
  }
}

function explainNothing({ ancestors }: PrunePlan): string {
  if (ancestors.count === 0) return "nothing to delete: the rules keep all of it";
  return (
    "nothing can be deleted: each archive builds on the one before. `sync --full` begins a new chain, and `sync` with keep " +
    "rules builds chains that can be thinned out"
  );
}

function toRow({ archive, chainLength, deleted, reasons, neededBy }: PruneRow): string[] {
  const time = timeOf(archive);
  const [child, ...others] = neededBy;
  const more = others.length === 0 ? "" : ` and ${others.length} more`;
  return [
    `  ${time === null ? "-" : formatMinute(time)}`,
    printable(archive.path),
    formatBytes(archive.bytes),
    describeChain(archive.lineage, chainLength),
    deleted ? "delete" : "keep",
    deleted ? "" : child === undefined ? reasons.join(", ") : `needed by ${printable(child.path)}${more}`,
  ];
}

function toRecord({ archive, chainLength, deleted, reasons, neededBy }: PruneRow): Record<string, unknown> {
  const { key, path, bytes, otime } = archive;
  return {
    type: "archive",
    key,
    path,
    bytes,
    otime: otime === null ? null : formatTime(otime),
    chainLength,
    delete: deleted,
    reasons,
    neededBy: neededBy.map((child) => child.key),
  };
}

/** Prints each deletion, and each failure, as it happens. */
export function watchPrune({ log, output }: Session): PruneWatcher {
  return {
    onDelete: ({ key, path, bytes }: Archive) => {
      output.line(`deleted ${printable(path)}  ${formatBytes(bytes)}`);
      output.record({ type: "deleted", key, path, bytes });
    },
    onFailure: ({ archive: { key, path }, reason }) => {
      log.error({ key }, `${path} was not deleted: ${reason}`);
      output.record({ type: "failure", key, path, message: reason });
    },
  };
}

/** Prints how many archives were deleted, and how much space that freed. */
export function printOutcome(name: string, { deleted, failures, stoppedBy }: PruneOutcome, { output }: Session): void {
  const bytes = sumBytes(deleted);
  output.record({ type: "summary", subvolume: name, deleted: deleted.length, bytes, failed: failures.length });
  const failed = failures.length === 0 ? "" : `, ${failures.length} could not be deleted`;
  const stopped = stoppedBy === null ? "" : "; the next prune deletes the rest";
  output.line(`${count(deleted.length, "archive")} deleted, ${formatBytes(bytes)} freed${failed}${stopped}`);
}
