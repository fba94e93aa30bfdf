// The output of a restore: its plan, its progress and its receipts.

import type { RestoreWatcher } from "../operations/restore.ts";
import { formatTime } from "../plan/key.ts";
import { sumBytes, type Archive, type Chain } from "../plan/model.ts";
import type { RestorePlan } from "../plan/restore.ts";
import { count, formatBytes, formatDate, formatDuration, printable } from "../terminal/format.ts";
import type { Session } from "./session.ts";

export function bytesOf(steps: RestorePlan["steps"]): number {
  return sumBytes(steps.map(({ archive }) => archive));
}

/** Prints what will be received; with `inFull`, every archive of the chain. */
export function printPlan(plan: RestorePlan, inFull: boolean, session: Session): void {
  const { output } = session;
  const { chain, steps, held } = plan;
  const received = new Set(steps.map(({ archive }) => archive));
  if (inFull) printChain(chain, (archive) => (received.has(archive) ? "to receive" : "not needed"), session);
  if (steps.length === 0) output.line(`it is already on that filesystem, as ${printable(held?.path ?? "")}`);
  else output.line(`${steps.length} of ${count(chain.length, "archive")} to receive, ${formatBytes(bytesOf(steps))}`);
  if (held !== null && steps.length > 0)
    output.line(`the first of them builds on ${printable(held.path)}, which is there`);
}

/** Prints the archives that a snapshot needs, the oldest first. */
export function printChain(
  chain: Chain,
  state: (archive: Archive) => string,
  { output }: Pick<Session, "output">,
): void {
  const rows = chain.map((archive, position) => [
    `  ${archive.otime === null ? "-" : formatDate(archive.otime)}`,
    printable(archive.path),
    position === 0 ? "full" : "incremental",
    formatBytes(archive.bytes),
    state(archive),
  ]);
  output.table(rows, { right: [3], flexible: [1] });
  output.record({
    type: "plan",
    chain: chain.map((archive) => ({
      key: archive.key,
      path: archive.path,
      uuid: archive.lineage?.snapshot.uuid ?? null,
      otime: archive.otime === null ? null : formatTime(archive.otime),
      bytes: archive.bytes,
      toReceive: state(archive) !== "not needed",
    })),
  });
}

/** @param quiet - stdout has another use: messages go to the log */
export function watch(steps: readonly Archive[], { log, output, progress }: Session, quiet = false): RestoreWatcher {
  progress.expect(steps.length, sumBytes(steps));
  return {
    onStart: ({ path, bytes }) => {
      progress.start(printable(path), bytes);
    },
    onProgress: (bytes) => {
      progress.update(bytes);
    },
    onReceipt: ({ archive, snapshot, elapsedMs }) => {
      const { key, path, bytes } = archive;
      progress.stop();
      const size = `${formatBytes(bytes)} in ${formatDuration(elapsedMs)}`;
      if (quiet) log.info(`written ${printable(path)}  ${size}`);
      else output.line(`restored ${printable(path)}  ${size}`);
      output.record({
        type: "receipt",
        key,
        path,
        uuid: snapshot?.uuid ?? null,
        bytes,
        elapsedMs: Math.round(elapsedMs),
      });
    },
  };
}
