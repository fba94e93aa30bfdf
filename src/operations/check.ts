// One check of the doctor: what was checked, the verdict, and what to do about it.

import { toBackupError, type BackupError } from "../errors.ts";

export type CheckStatus = "ok" | "warning" | "failed" | "skipped";

export interface Check {
  readonly name: string;
  readonly status: CheckStatus;
  readonly message: string;
  /** The next step for the user; null when there is none. */
  readonly fix: string | null;
  /** The error of a failed check; null when it did not fail. */
  readonly error: BackupError | null;
}

export interface Verdict {
  readonly status: "ok" | "warning";
  readonly message: string;
  readonly fix?: string;
}

/** Runs a check, and returns its result; null when it failed. */
interface CheckResult<Found> {
  readonly check: Check;
  readonly found: Found | null;
}

export function ok(message: string): Verdict {
  return { status: "ok", message };
}

export async function look<Found>(
  name: string,
  find: () => Promise<Found>,
  judge: (found: Found) => Verdict,
): Promise<CheckResult<Found>> {
  try {
    const found = await find();
    const { status, message, fix } = judge(found);
    return { check: { name, status, message, fix: fix ?? null, error: null }, found };
  } catch (thrown) {
    const error = toBackupError(thrown);
    if (error.code === "ABORTED") throw error;
    return { check: { name, status: "failed", message: error.message, fix: error.hint, error }, found: null };
  }
}

export function* skip(names: readonly string[], cause: string): Generator<Check, void> {
  for (const name of names) {
    yield { name, status: "skipped", message: `not checked, because of ${cause}`, fix: null, error: null };
  }
}

/** A size for people, rounded. */
export function formatSize(bytes: number): string {
  const [unit, divisor] = bytes < 2 ** 20 ? ["KiB", 2 ** 10] : bytes < 2 ** 30 ? ["MiB", 2 ** 20] : ["GiB", 2 ** 30];
  return `${Math.round(bytes / divisor)} ${unit}`;
}
