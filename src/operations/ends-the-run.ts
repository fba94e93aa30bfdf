import type { BackupError } from "../errors.ts";

/** Failures of one snapshot or archive after which no other can fare better. */
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
