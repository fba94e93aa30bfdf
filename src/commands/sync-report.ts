// Prints what a sync does: its plan, its receipts, its failures, and the summary.

import type { BackupError } from "../errors.ts";
import { bytesSent, type EstimatedStep, type Receipt, type StoredArchive } from "../operations/sync-snapshot.ts";
import type { Failure, SyncOutcome, SyncWatcher } from "../operations/sync.ts";
import { formatTime } from "../plan/key.ts";
import { listPaths } from "../plan/standing.ts";
import { sumBytes, type Estimate, type Snapshot, type UploadStep } from "../plan/model.ts";
import type { SyncPlan } from "../plan/sync.ts";
import { count, formatBytes, formatDate, formatDuration, printable } from "../terminal/format.ts";
import type { Session } from "./session.ts";
import { describeEncodingOf, describeGain, describeProtocol, toFormRecord, type Form } from "./encoding.ts";
import type { Finding } from "../plan/finding.ts";
import type { Inventory } from "../plan/inventory.ts";

export function printPlan(
  path: string,
  planned: {
    readonly inventory: Inventory;
    readonly steps: readonly EstimatedStep[];
    readonly plan: Pick<SyncPlan, "kept" | "notKept">;
    readonly form: Form;
  },
  { output }: Session,
): void {
  const { inventory, steps, plan, form } = planned;
  output.line(`${path}: ${count(inventory.snapshots.length, "snapshot")}, ${plan.kept.length} archived`);
  printNotKept(plan.notKept, output);
  output.table(
    steps.map((each, index) => toRow(each, steps[index - 1])),
    { right: [3], flexible: [1, 2] },
  );
  const total = sumEstimates(steps);
  const size = total === null ? "" : `, ${total.exact ? "" : "at most "}${formatBytes(total.bytes)}`;
  output.line(`${steps.length} to send${size}, ${describeEncodingOf(form)}`);
  output.line(describeProtocol(form));
  for (const { step, estimate } of steps) output.record(toRecord("step", step, { estimate, ...toFormRecord(form) }));
}

function toRow({ step, estimate }: EstimatedStep, above: EstimatedStep | undefined): string[] {
  const { snapshot, sendParent } = step;
  const { reason = null } = step;
  const why = reason === null ? "" : `: ${reason}`;
  const parent =
    sendParent?.uuid === above?.step.snapshot.uuid ? "incremental" : `parent ${printable(sendParent?.path ?? "")}`;
  return [
    `  ${formatDate(snapshot.otime)}`,
    printable(snapshot.path),
    (sendParent === null ? "full" : parent) + why,
    estimate === null ? "" : `${estimate.exact ? "" : "≤ "}${formatBytes(estimate.bytes)}`,
  ];
}

/** Names the snapshots that no keep rule keeps; on a machine that keeps more than its archive these are many. */
function printNotKept(notKept: readonly Snapshot[], output: Pick<Session["output"], "line" | "record">): void {
  if (notKept.length === 0) return;
  output.line(
    `${notKept.length} not sent, because no keep rule keeps them: ${listPaths(notKept.map(({ path }) => path))}`,
  );
  for (const { path, uuid, otime } of notKept)
    output.record({ type: "not kept", path, uuid, otime: formatTime(otime) });
}

export function sumEstimates(steps: readonly EstimatedStep[]): Estimate | null {
  let bytes = 0;
  let exact = true;
  for (const { estimate } of steps) {
    if (estimate === null) return null;
    bytes += estimate.bytes;
    exact &&= estimate.exact;
  }
  return { bytes, exact };
}

function toRecord(type: string, step: UploadStep, facts: Readonly<Record<string, unknown>>): Record<string, unknown> {
  const { key, snapshot, sendParent, reason = null } = step;
  return {
    type,
    key,
    path: snapshot.path,
    uuid: snapshot.uuid,
    otime: formatTime(snapshot.otime),
    sendParent: sendParent === null ? null : { path: sendParent.path, uuid: sendParent.uuid },
    ...(reason === null ? {} : { reason }),
    ...facts,
  };
}

/** Without the MD5s of the parts, which are in the archive's proof: a large archive has very many. */
function toStoredRecord({ bytes, etag, parts, resumedBytes, encoding }: StoredArchive): Record<string, unknown> {
  return { bytes, etag, parts, resumedBytes, encoding };
}

export function watch({ log, output, progress }: Session, form: Form, dryRun: boolean): SyncWatcher {
  let kept = 0;
  return {
    onStart: ({ step, estimate }) => {
      kept = 0;
      progress.start(printable(step.snapshot.path), estimate?.bytes ?? null);
    },
    onProgress: (sent) => {
      const { read, stored, resumed } = sent;
      kept = stored;
      if (dryRun) progress.update(read);
      // For data that is already stored, only the compressed size is known.
      else progress.update(bytesSent(sent), form.zstdLevel === null ? resumed : 0, read);
    },
    onReceipt: (receipt) => {
      progress.stop();
      output.line(describeReceipt(receipt, form));
      const { bytes, elapsedMs } = receipt;
      const stored = receipt.stored === null ? null : toStoredRecord(receipt.stored);
      output.record(toRecord("receipt", receipt.step, { bytes, stored, elapsedMs: Math.round(elapsedMs) }));
    },
    onFailure: ({ step, error }: Failure) => {
      progress.stop();
      const hint = error.hint === null ? "" : `: ${error.hint}`;
      if (error.code === "ABORTED") log.info(describeStop(step, error, form.recipients === null ? kept : 0));
      else log.error({ code: error.code }, `${step.snapshot.path} is not archived: ${error.message}${hint}`);
      if (isResumable(error) && kept > 0 && form.recipients === null) {
        log.info(
          `the next run resumes ${printable(step.snapshot.path)}: ${formatBytes(kept)} of it are already stored`,
        );
      }
      output.record(toRecord("failure", step, { code: error.code, message: error.message }));
    },
  };
}

/** @param kept - stored bytes that the next run does not send again */
function describeStop({ snapshot }: UploadStep, { message }: BackupError, kept: number): string {
  const path = printable(snapshot.path);
  if (kept === 0) return `${message}; the next run archives ${path}`;
  return `${message}; the next run resumes ${path}: ${formatBytes(kept)} of it are already stored`;
}

/**
 * After other failures the stored part of an archive is of no use. The error about a full quota reports itself what
 * stays.
 */
function isResumable({ code }: BackupError): boolean {
  return ["STORE_UNAVAILABLE", "ACCESS_DENIED", "SEND_FAILED"].includes(code);
}

function describeReceipt({ step, bytes, stored, elapsedMs }: Receipt, form: Form): string {
  const size = `${formatBytes(bytes)} in ${formatDuration(elapsedMs)}`;
  const there =
    stored === null || stored.resumedBytes === 0 ? "" : `, ${formatBytes(stored.resumedBytes)} were already stored`;
  const gained = stored === null ? "" : describeGain(bytes, stored, form);
  return `${stored === null ? "checked, not stored:" : "archived"} ${printable(step.snapshot.path)}  ${size}${gained}${there}`;
}

/** The result of the run of one subvolume. */
export interface Summary {
  readonly outcome: SyncOutcome;
  readonly dryRun: boolean;
  /** The number of snapshots. */
  readonly of: number;
  /** How many of them were archived before. */
  readonly kept: number;
}

export function printSummary(path: string, { outcome, dryRun, of, kept }: Summary, { output }: Session): void {
  const { receipts, failures, untried } = outcome;
  const notArchived = of - kept - (dryRun ? 0 : receipts.length);
  const bytes = sumBytes(receipts);
  output.record({
    type: "summary",
    subvolume: path,
    dryRun,
    sent: dryRun ? 0 : receipts.length,
    failed: failures.length,
    untried: untried.length,
    notArchived,
    bytes,
  });
  const isShort = dryRun || notArchived === 0;
  if (isShort && receipts.length + failures.length + untried.length < 2) return;
  const failed =
    failures.length === 0
      ? ""
      : `, ${failures.length} failed: ${printable(listPaths(failures.map(({ step }) => step.snapshot.path)))}`;
  const left = untried.length === 0 ? "" : `, ${untried.length} not tried`;
  const missing = isShort ? "" : `; not archived: ${notArchived} of ${count(of, "snapshot")}`;
  output.line(
    `${count(receipts.length, "snapshot")} ${dryRun ? "checked" : "archived"}, ${formatBytes(bytes)}${failed}${left}${missing}`,
  );
}

/** Prints the reason when nothing is sent. */
export function printNothingToDo(
  path: string,
  {
    kept,
    of,
    complete,
    notKept,
  }: { readonly kept: number; readonly of: number; readonly complete: boolean; readonly notKept: readonly Snapshot[] },
  { output }: Session,
): void {
  printNotKept(notKept, output);
  const text = complete
    ? `up to date: ${count(kept, "snapshot")} of ${path} archived`
    : `nothing can be sent: ${kept} of ${count(of, "snapshot")} of ${path} archived`;
  output.line(text);
  output.record({ type: "summary", subvolume: path, kept, sent: 0, failed: 0 });
}

/** Reports findings: in the log, or as part of a JSON result. True when one of them leaves something undone. */
export function reportFindings(findings: readonly Finding[], { log, output }: Session): boolean {
  for (const finding of findings) {
    output.record({ type: "finding", ...finding });
    log[finding.severity === "error" ? "error" : "warn"](finding.message);
  }
  return findings.some((finding) => finding.severity === "error");
}
