// One check of the doctor: what was checked, the result, and what to do about it.

import { toBackupError, type BackupError } from "../errors.ts";

/** The versions that matter, by their names in JSON, in the order in which people read them. `swift` is the store's, which only the doctor asks. */
export const versionNames = [
  "program",
  "kernel",
  "btrfsProgs",
  "libbtrfsutil",
  "age",
  "zstd",
  "node",
  "sdk",
  "swift",
] as const;

/** Null for what is missing, or does not show its version. */
export type Versions = Readonly<Record<(typeof versionNames)[number], string | null>>;

export type CheckStatus = "ok" | "warning" | "failed" | "skipped";

export interface Check {
  readonly name: string;
  readonly status: CheckStatus;
  readonly message: string;
  /** The next step for the user; null when there is none. */
  readonly fix: string | null;
  /** The error of a failed check; null when it did not fail. */
  readonly error: BackupError | null;
  /** Versions that it found; absent: none. */
  readonly versions?: Partial<Versions> | undefined;
}

/** How what was found is to be judged. */
export interface Assessment {
  readonly status: "ok" | "warning";
  readonly message: string;
  readonly fix?: string;
  readonly versions?: Partial<Versions>;
}

/** A check, and what it found; null when it failed. */
interface CheckResult<Found> {
  readonly check: Check;
  readonly found: Found | null;
}

/** The assessment of what is as it should be. */
export function ok(message: string, versions: Partial<Versions> = {}): Assessment {
  return { status: "ok", message, versions };
}

/** Runs a check. An error of `find` makes it a failed one. @throws ABORTED */
export async function look<Found>(
  name: string,
  find: () => Promise<Found>,
  judge: (found: Found) => Assessment,
): Promise<CheckResult<Found>> {
  try {
    const found = await find();
    const { status, message, fix, versions } = judge(found);
    return { check: { name, status, message, fix: fix ?? null, error: null, versions }, found };
  } catch (thrown) {
    const error = toBackupError(thrown);
    if (error.code === "ABORTED") throw error;
    return { check: { name, status: "failed", message: error.message, fix: error.hint, error }, found: null };
  }
}

/** Checks that another one, which failed, leaves nothing to ask for. */
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
