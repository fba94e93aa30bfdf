// The inputs of a run of verify: the requested archives, and the snapshots on this machine.

import { BackupError } from "../errors.ts";
import type { LocalSnapshots } from "../operations/ports.ts";
import type { Reading } from "../operations/read-archive.ts";
import type { Survey } from "../operations/survey.ts";
import { readArchivesThrough, type VerifyContext } from "../operations/verify.ts";
import { indexArchives, withAncestors } from "../plan/chain.ts";
import type { Damage } from "../plan/damage.ts";
import { keyPrefix } from "../plan/key.ts";
import { sumBytes, type Archive, type Key, type Snapshot, type Uuid } from "../plan/model.ts";
import { count } from "../terminal/format.ts";
import type { Session } from "./session.ts";
import { reportAll } from "./verify-report.ts";
import type { Narrowed } from "./verify-summary.ts";

/** The snapshots on this machine that PATH means. */
export interface Local {
  readonly origins: readonly LocalSnapshots[];
  /** The snapshots of all of them. */
  readonly snapshots: readonly Snapshot[];
  /** The keys that they have once they are archived. */
  readonly keys: readonly Key[];
}

/** Keeps the archives of the sources and all that they build on: chains may cross from one source to another. */
export function narrow(surveyed: Survey, sources: ReadonlySet<Uuid> | null): Narrowed {
  const { archives, findings } = surveyed;
  if (sources === null) return { ...surveyed, mine: archives };
  const own = withAncestors(
    archives.filter((archive) => sources.has(archive.source)),
    indexArchives(archives),
  );
  const keys = new Set<string>([...own].map(({ key }) => key));
  return {
    ...surveyed,
    mine: archives.filter((archive) => own.has(archive)),
    findings: findings.filter(
      ({ code, subject }) =>
        [...sources].some((source) => subject.startsWith(keyPrefix(source))) ||
        keys.has(subject) ||
        code === "NOT_CHECKED",
    ),
  };
}

export function noArchiveOf(path: string | undefined, { archives }: Survey): BackupError {
  const hint = archives.length === 0 ? "the container has no archives" : "`list` shows the archives there are";
  return new BackupError("USAGE", `there is no archive of ${path ?? ""}`, { hint });
}

export interface VerifyRun extends Narrowed {
  readonly reading: Reading;
  readonly session: Session;
}

/** Opens one progress display over all archives that are read. */
export function openContext(
  label: string,
  chosen: readonly Archive[],
  { archives, reading, session }: VerifyRun,
): VerifyContext {
  let read = 0;
  session.progress.start(`${count(chosen.length, "archive")} ${label}`, sumBytes(chosen));
  const onBytes = (bytes: number): void => {
    read += bytes;
    session.progress.update(read);
  };
  return { archives, reading, onBytes };
}

export async function readChosen(chosen: readonly Archive[], run: VerifyRun): Promise<Damage[]> {
  if (chosen.length === 0) return [];
  const { session } = run;
  const context = openContext("read", chosen, run);
  const found = await readArchivesThrough(chosen, context, session.signal);
  session.progress.stop();
  const reported = new Set(run.findings.map(({ code, subject }) => `${code} ${subject}`));
  const findings = found.filter(({ code, subject }) => !reported.has(`${code} ${subject}`));
  reportAll(findings, session);
  return findings;
}
