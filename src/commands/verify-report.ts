// The findings of verify, as they are printed.

import type { Damage } from "../plan/damage.ts";
import type { Session } from "./session.ts";

/** How many of the snapshots that one finding breaks are named. */
const NAMED_AT_MOST = 10;

/** Reports the damage, what it breaks, and what to do. */
export function reportAll(findings: readonly Damage[], { log }: Session): void {
  for (const { code, severity, message, breaks, remedy } of findings) {
    const lost = breaks.length === 0 ? "" : `; cannot be restored: ${enumerate(breaks)}`;
    log[severity === "error" ? "error" : "warn"]({ code }, `${message}${lost}: ${remedy}`);
  }
}

/** Names a few paths only: a damaged full archive may break a thousand. `--json` names them all. */
function enumerate(paths: readonly string[]): string {
  const more = paths.length - NAMED_AT_MOST;
  return `${paths.slice(0, NAMED_AT_MOST).join(", ")}${more > 0 ? ` and ${more} more` : ""}`;
}
