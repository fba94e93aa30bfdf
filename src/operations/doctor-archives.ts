// For the doctor: predicts what a sync would find about a machine's snapshots in the container, in the words of the
// sync.

import { BackupError } from "../errors.ts";
import type { SyncPlan } from "../plan/sync.ts";
import type { Origin } from "./origins.ts";
import { prepareSync } from "./sync.ts";
import type { Container } from "./store-ports.ts";
import type { Finding } from "../plan/finding.ts";

/** The snapshots of all origins, taken together. */
export type Planned = Pick<SyncPlan, "steps" | "kept" | "findings">;

export async function planFor(origins: readonly Origin[], container: Container, signal: AbortSignal): Promise<Planned> {
  const plans: SyncPlan[] = [];
  for (const { local } of origins)
    plans.push((await prepareSync(local, { container, identities: [] }, {}, signal)).plan);
  return {
    steps: plans.flatMap(({ steps }) => steps),
    kept: plans.flatMap(({ kept }) => kept),
    findings: plans.flatMap(({ findings }) => findings),
  };
}

/** Names were checked before, without the container. @throws STEP_FAILED for what a sync would leave undone */
export function judgeArchives({ steps, kept, findings }: Planned): {
  readonly status: "ok" | "warning";
  readonly message: string;
} {
  const errors = findings.filter(({ severity, code }) => severity === "error" && code !== "NAME_UNUSABLE");
  if (errors.length > 0) throw toFailure(errors);
  const message = `${kept.length} snapshots archived, ${steps.length} to send`;
  const [warning] = findings.filter(({ severity }) => severity === "warning");
  return warning === undefined
    ? { status: "ok", message }
    : { status: "warning", message: `${message}; ${warning.message}` };
}

/** One failure for all of them. */
export function toFailure(findings: readonly Finding[]): BackupError {
  const more = findings.length > 1 ? ` (and ${findings.length - 1} more)` : "";
  return new BackupError("STEP_FAILED", `${findings[0]?.message ?? ""}${more}`, {
    hint: "`list PATH` shows each of them",
  });
}
