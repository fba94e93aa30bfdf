// Damage of archives, its consequences, and the outcome of a verify with it.

import { dependentsOf } from "./dependents.ts";
import type { Finding, FindingCode } from "./finding.ts";
import type { Archive } from "./model.ts";

/** Damage or doubt of an archive, and its consequences. */
export interface Damage extends Finding {
  /** Paths of the snapshots that cannot be restored because of it. */
  readonly breaks: readonly string[];
  /** The remedy, as a sentence. */
  readonly remedy: string;
}

/** The result of a run of verify. */
export type VerifyOutcome = "well" | "not compared" | "not opened" | "damaged";

export const OPEN_IT = "use --identity FILE with the key it was encrypted for";

const SEND_AGAIN =
  "if the snapshot still exists, delete the archive and run `sync`: then what builds on it is intact again; otherwise keep " +
  "what can be restored and let `sync` begin a new chain";

/** Findings that only an identity can resolve: they are no evidence against the stored data. */
const unopened: ReadonlySet<FindingCode> = new Set(["NOT_OPENED", "CHAIN_UNKNOWN"]);

/** The outcome of a run with these findings. */
export function judge(findings: readonly Finding[]): VerifyOutcome {
  const errors = findings.filter(({ severity }) => severity === "error");
  if (errors.length === 0) return "well";
  const others = errors.filter(({ code }) => code !== "NOT_COMPARABLE");
  if (others.length === 0) return "not compared";
  return others.every(({ code }) => unopened.has(code)) ? "not opened" : "damaged";
}

/** An archive that cannot be restored in its present state. */
export function damaged(code: FindingCode, archive: Archive, message: string, archives: readonly Archive[]): Damage {
  const breaks = dependentsOf(archive, archives).map(({ path }) => path);
  return { code, severity: "error", subject: archive.key, message, breaks, remedy: SEND_AGAIN };
}

/** A finding that is good to know and not urgent. */
export function warn(
  code: FindingCode,
  subject: string,
  message: string,
  { remedy }: { readonly remedy: string },
): Damage {
  return { code, severity: "warning", subject, message, breaks: [], remedy };
}

/** A comparison that was not possible: there is neither proof nor evidence against it. */
export function notCompared(subject: string, message: string, { remedy }: { readonly remedy: string }): Damage {
  return { code: "NOT_COMPARABLE", severity: "error", subject, message, breaks: [], remedy };
}

/** A doubt whether the archive taken for the newest is the newest. */
export function doubtNewest({ code, subject, message }: Finding): Damage {
  const remedy = "no harm if you set the disk back; otherwise give each machine a container of its own";
  return warn(code, subject, message, { remedy });
}

/** An archive of which nothing could be checked except its key. */
export function notReadable({ key, path }: Archive): Damage {
  const message = `the archive of ${path} is encrypted: what it holds was not checked`;
  return warn("NOT_READABLE", key, message, { remedy: OPEN_IT });
}

/** An archive that none of the given identities opens: this proves neither damage nor health. */
export function notOpened({ key, path }: Archive): Damage {
  const message = `the archive of ${path} is encrypted for somebody else: no identity opens it, so what it holds was not checked`;
  return { code: "NOT_OPENED", severity: "error", subject: key, message, breaks: [], remedy: OPEN_IT };
}
