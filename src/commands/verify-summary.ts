// The summary that verify prints at its end.

import type { Survey } from "../operations/survey.ts";
import { sumBytes, type Archive } from "../plan/model.ts";
import { count, formatBytes } from "../terminal/format.ts";
import type { Session } from "./session.ts";
import { judge, type Damage } from "../plan/damage.ts";

/** The survey, and the part of it that the user asked about. */
export interface Narrowed extends Survey {
  readonly mine: readonly Archive[];
}

export interface Result {
  readonly surveyed: Narrowed;
  readonly chosen: readonly Archive[];
  readonly findings: readonly Damage[];
  /** False when only the beginnings were read. */
  readonly thorough: boolean;
}

export function printSummary({ surveyed, chosen, findings, thorough }: Result, { output }: Session): void {
  const { mine, withoutChecksum, copied } = surveyed;
  const unchecked = chosen.filter(({ key }) => withoutChecksum.has(key)).length;
  output.line(`checked ${count(mine.length, "archive")}, ${formatBytes(sumBytes(mine))}`);
  if (chosen.length > 0)
    output.line(`read ${count(chosen.length, "archive")} to the end, ${formatBytes(sumBytes(chosen))}`);
  if (unchecked > 0)
    output.line(`${unchecked} of them could not be checked against the store's checksum, only by the streams in them`);
  const copies = (chosen.length > 0 ? chosen : mine).filter(({ key }) => copied.has(key)).length;
  if (copies > 0) {
    const how = chosen.length > 0 ? "checked by their contents" : "--read-data checks them by their contents";
    output.line(`${count(copies, "archive")} ${copies === 1 ? "was" : "were"} copied: ${how}`);
  }
  output.line(describeOutcome(findings, thorough));
  output.record({
    archives: mine.length,
    bytes: sumBytes(mine),
    read: chosen.map(({ key }) => key),
    withoutChecksum: mine.map(({ key }) => key).filter((key) => withoutChecksum.has(key)),
    copied: mine.map(({ key }) => key).filter((key) => copied.has(key)),
    findings,
  });
}

function describeOutcome(findings: readonly Damage[], thorough: boolean): string {
  const outcome = judge(findings);
  const errors = new Set(findings.flatMap(({ severity, subject }) => (severity === "error" ? subject : []))).size;
  if (outcome === "damaged") return `${count(errors, "archive")} damaged, incomplete or missing`;
  if (outcome === "not compared") return "the archives named above could not be compared with the snapshots here";
  if (outcome === "not opened")
    return `${count(errors, "archive")} could not be checked: no identity opens what has to be read`;
  const unread = new Set(findings.flatMap(({ code, subject }) => (code === "NOT_READABLE" ? subject : []))).size;
  const beyond = unread === 0 ? "" : `, but ${count(unread, "archive")} could not be decrypted without --identity`;
  if (thorough) return `no damage found${beyond}`;
  return `no damage found at first sight${beyond}; --read-data checks every byte`;
}
