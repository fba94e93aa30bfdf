// Decides which failures end a run at once.

import type { BackupError } from "../errors.ts";

/** True for a failure of one snapshot or archive after which no other can succeed either. */
export function endsTheRun({ code }: BackupError): boolean {
  switch (code) {
    case "ABORTED":
    case "ACCESS_DENIED":
    case "CONTAINER_MISSING":
    case "STORE_UNAVAILABLE":
    case "QUOTA_EXCEEDED":
    case "NO_PRIVILEGE":
    case "CONFIG":
    case "INTERNAL":
      return true;
    default:
      return false;
  }
}
