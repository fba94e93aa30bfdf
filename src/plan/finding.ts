// Damage or doubt as a value: pure code returns findings, it does not throw for what the world may contain.

export type FindingCode =
  | "NAME_UNUSABLE"
  | "NAME_REUSED"
  | "ARCHIVED_ELSEWHERE"
  | "SOURCE_SHARED"
  | "TRUSTED_BY_NAME"
  | "IDENTITY_SHARED"
  | "TOO_LARGE"
  | "CHAIN_BROKEN"
  | "CHAIN_UNKNOWN"
  | "ARCHIVE_MISSING"
  | "NOT_AN_ARCHIVE"
  | "ARCHIVE_DAMAGED"
  | "ARCHIVE_DUPLICATE"
  | "IDENTITY_MISMATCH"
  | "NOT_READABLE"
  | "NOT_OPENED"
  | "NOT_LISTED"
  | "NOT_CHECKED"
  | "NOT_COMPARABLE"
  | "LEFTOVER"
  | "RECEIVED_OTHERWISE"
  | "SNAPSHOT_CHANGED";

/** Damage or doubt, as a value. */
export interface Finding {
  readonly code: FindingCode;
  /** "error": something that was asked for will not be done. "warning": the run continues. */
  readonly severity: "error" | "warning";
  /** The path or key it is about. */
  readonly subject: string;
  readonly message: string;
}
