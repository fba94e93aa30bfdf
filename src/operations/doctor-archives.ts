// For the doctor: predicts what a sync would find about a machine's snapshots in the container, in the words of the
// sync, and what its chains cost.

import { BackupError } from "../errors.ts";
import { costOfNewest, findUnserved, type RestoreCost, type UnservedPeriods } from "../plan/chain-cost.ts";
import type { Finding } from "../plan/finding.ts";
import { describeRules, nameOfPeriod, type KeepRules } from "../plan/keep.ts";
import { openLadder, type Keeping } from "../plan/keeping.ts";
import type { Uuid } from "../plan/model.ts";
import { compareSnapshots } from "../plan/standing.ts";
import type { SyncPlan } from "../plan/sync.ts";
import { formatSize, ok, type Assessment } from "./check.ts";
import { examine, type ArchiveView } from "./inventory.ts";
import type { Origin } from "./origins.ts";
import { prepareSync } from "./sync.ts";
import type { Container } from "./store-ports.ts";

/** The keep rules and limits of a sync of a source; null where it has none. */
export type KeepingOf = (source: Uuid, container: Container) => Promise<Keeping | null>;

/** The outcome of a sync of one origin, as far as it can be predicted, and the costs of its chains. */
export interface Planned {
  readonly plan: Pick<SyncPlan, "steps" | "kept" | "notKept" | "findings">;
  /** Null: none. */
  readonly rules: KeepRules | null;
  readonly cost: RestoreCost | null;
  readonly unserved: UnservedPeriods | null;
}

/** Plans each of the origins. */
export async function planFor(
  origins: readonly Origin[],
  { view, keepingOf }: { readonly view: ArchiveView; readonly keepingOf: KeepingOf },
  signal: AbortSignal,
): Promise<readonly Planned[]> {
  const all: Planned[] = [];
  for (const { local } of origins) {
    const keeping = await keepingOf(local.source.uuid, view.container);
    const { inventory, plan } = await prepareSync(local, view, { keeping }, signal);
    const examined = inventory.examined === "snapshots" ? await examine(inventory, "source", view, signal) : inventory;
    const rules = keeping?.rules ?? null;
    const ladder = openLadder(examined, compareSnapshots(examined), keeping);
    const unserved = rules === null ? null : findUnserved(plan.kept, ladder, rules);
    all.push({ plan, rules, cost: costOfNewest(examined), unserved });
  }
  return all;
}

/** Names were checked before, without the container. @throws STEP_FAILED for what a sync would leave undone */
export function judgeArchives(all: readonly Planned[]): Assessment {
  const findings = all.flatMap(({ plan }) => plan.findings);
  const errors = findings.filter(({ severity, code }) => severity === "error" && code !== "NAME_UNUSABLE");
  if (errors.length > 0) throw toFailure(errors);
  const count = (of: "kept" | "steps" | "notKept"): number => all.reduce((sum, { plan }) => sum + plan[of].length, 0);
  const [notKept, rules] = [count("notKept"), all.find((each) => each.rules !== null)?.rules ?? null];
  const skipped = notKept === 0 ? "" : `, ${notKept} that no keep rule keeps`;
  const by = rules === null ? "" : ` (keep rules: ${describeRules(rules)})`;
  const message = `${count("kept")} snapshots archived, ${count("steps")} to send${skipped}${by}`;
  const [warning] = findings.filter(({ severity }) => severity === "warning");
  return warning === undefined ? ok(message) : { status: "warning", message: `${message}; ${warning.message}` };
}

/** A restore that reads more than so many times what a full archive holds takes too long. */
const MOST_TIMES_FULL = 2;

export function judgeChains(all: readonly Planned[]): Assessment {
  const costs = all.flatMap(({ cost }) => cost ?? []).toSorted((a, b) => timesFull(b) - timesFull(a));
  const [worst] = costs;
  const message = worst === undefined ? "no archives yet" : describeCost(worst);
  const unserved = all.flatMap((each) => each.unserved ?? [])[0];
  if (unserved !== undefined) {
    const { periods, served, anchor } = unserved;
    const names = periods.map(nameOfPeriod).join(" or ");
    const longest = served === null ? "" : ` (the first of a ${nameOfPeriod(served)} is the longest here)`;
    return {
      status: "warning",
      message:
        `${message}; no snapshot here is kept as long as the first of a ${names}${longest}: the next one builds on ` +
        `${anchor.path}, and chains grow`,
      fix: `keep the first snapshot of each ${names} on this machine too, or use --full-every`,
    };
  }
  if (worst === undefined || timesFull(worst) <= MOST_TIMES_FULL) return ok(message);
  return {
    status: "warning",
    message,
    fix: "`sync --full` begins a new chain; with keep rules or --full-every, chains stay short",
  };
}

function timesFull({ bytes, fullBytes }: RestoreCost): number {
  return fullBytes === 0 ? 0 : bytes / fullBytes;
}

function describeCost(cost: RestoreCost): string {
  const { archive, archives, bytes, fullBytes } = cost;
  const reads = `a restore of ${archive.path} reads ${archives === 1 ? "1 archive" : `${archives} archives`}, ${formatSize(bytes)}`;
  return archives === 1
    ? reads
    : `${reads}: ${timesFull(cost).toFixed(1)} times the full one (${formatSize(fullBytes)})`;
}

/** One failure for all of them. */
export function toFailure(findings: readonly Finding[]): BackupError {
  const more = findings.length > 1 ? ` (and ${findings.length - 1} more)` : "";
  return new BackupError("STEP_FAILED", `${findings[0]?.message ?? ""}${more}`, {
    hint: "`list PATH` shows each of them",
  });
}
