// How a sync handles quotas before it sends anything.

import { BackupError } from "../errors.ts";
import type { SyncOutcome } from "../operations/sync.ts";
import type { EstimatedStep } from "../operations/sync-snapshot.ts";
import { describeSubject, findScarceBytes, findScarceObjects, isFull, MAKE_ROOM, type Quota } from "../plan/quota.ts";
import { count, formatBytes } from "../terminal/format.ts";
import type { Session } from "./session.ts";
import type { SubvolumeOutcome } from "./sync-ended.ts";
import { printSummary, sumEstimates, type Summary } from "./sync-report.ts";

/** Checks the quotas that can be seen. Returns null, or the error that nothing more can be stored. */
export async function checkQuotas(
  { steps, container }: { readonly steps: readonly EstimatedStep[]; readonly container: string },
  makeRoom: () => Promise<void>,
  session: Session,
): Promise<BackupError | null> {
  let quotas = await session.quotas();
  if (quotas.some(isFull)) {
    await makeRoom();
    quotas = await session.quotas();
  }
  const full = quotas.find(isFull);
  if (full !== undefined) {
    const message = `the quota of ${describeSubject(full)} is used up: nothing was sent`;
    return new BackupError("QUOTA_EXCEEDED", message, { hint: MAKE_ROOM, context: { ...full } });
  }
  for (const warning of describeScarcity(quotas, steps, container)) session.log.warn(warning);
  return null;
}

/** Ends a run that has nothing to send where there is no room. */
export function endFull(
  path: string,
  full: BackupError,
  { untried, ...summary }: Omit<Summary, "outcome"> & Pick<SyncOutcome, "untried">,
  session: Session,
): SubvolumeOutcome {
  session.log.error({ code: full.code }, `${path}: ${full.message}: ${full.hint ?? ""}`);
  printSummary(path, { ...summary, outcome: { receipts: [], failures: [], untried, stoppedBy: full } }, session);
  return { code: full.exitCode, stoppedBy: full };
}

function* describeScarcity(
  quotas: readonly Quota[],
  steps: readonly EstimatedStep[],
  container: string,
): Generator<string> {
  const toSend = sumEstimates(steps);
  const bytes = findScarceBytes(quotas, toSend, container);
  if (bytes !== null && toSend !== null) {
    const upTo = `up to ${formatBytes(toSend.bytes)} are to be sent`;
    yield `the quota of ${describeSubject(bytes.quota)} leaves ${formatBytes(bytes.left)}, and ${upTo}`;
  }
  const objects = findScarceObjects(quotas, steps.length, container);
  if (objects !== null) {
    const toStore = `${count(steps.length, "archive")} are to be stored`;
    yield `the quota of ${describeSubject(objects.quota)} leaves ${count(objects.left, "object")}, and ${toStore}`;
  }
}
