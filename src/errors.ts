// The one error class of the program, and the one table that gives every code its exit status. Each edge translates
// what it meets (an AWS name, an errno, an exit status) into a BackupError once. Inside the program errors are passed
// on as they are and never wrapped for decoration. Nothing here knows any edge.

/**
 * The meaning of each code for the caller's shell (`exit`), and whether the same command may succeed later
 * (`retryable`).
 */
const failures = {
  INTERNAL: { exit: 1, retryable: false },
  USAGE: { exit: 2, retryable: false },
  CONFIG: { exit: 2, retryable: false },
  NO_SNAPSHOTS: { exit: 2, retryable: false },
  STEP_FAILED: { exit: 3, retryable: true },
  ALREADY_ARCHIVED: { exit: 3, retryable: true },
  RESUME_REFUSED: { exit: 3, retryable: true },
  STREAM_TOO_LONG: { exit: 3, retryable: true },
  QUOTA_EXCEEDED: { exit: 3, retryable: false },
  CONTAINER_MISSING: { exit: 10, retryable: false },
  LOCKED: { exit: 11, retryable: true },
  IDENTITY_REFUSED: { exit: 12, retryable: false },
  ACCESS_DENIED: { exit: 13, retryable: false },
  CHAIN_BROKEN: { exit: 14, retryable: false },
  ARCHIVE_DAMAGED: { exit: 14, retryable: false },
  ARCHIVE_MISSING: { exit: 14, retryable: false },
  NOT_BTRFS: { exit: 15, retryable: false },
  NOT_SUBVOLUME: { exit: 15, retryable: false },
  NO_PRIVILEGE: { exit: 15, retryable: false },
  SEND_FAILED: { exit: 15, retryable: true },
  RECEIVE_FAILED: { exit: 15, retryable: true },
  STORE_UNAVAILABLE: { exit: 75, retryable: true },
  ABORTED: { exit: 130, retryable: true },
} as const satisfies Record<string, { readonly exit: number; readonly retryable: boolean }>;

/** The meaning of each exit code for people; 129 and 143 come from signals. */
export const exitMeanings: Readonly<Record<number, string>> = {
  0: "done, nothing to do, or the question was answered with no",
  1: "a bug",
  2: "wrong usage or configuration",
  3: "something was not archived, compared, deleted or written (or quota full)",
  10: "the container does not exist",
  11: "another run is at work on the same subvolume and container",
  12: "an archive is encrypted, and no identity opens it",
  13: "credentials refused",
  14: "an archive or its chain is missing or damaged",
  15: "btrfs refuses: not btrfs, not a subvolume, no privilege, or the disk is full",
  75: "the store cannot be reached; try again",
  130: "stopped by Ctrl-C (143: by SIGTERM, 129: by SIGHUP)",
};

/** Every way in which a run can fail. */
export type FailureCode = keyof typeof failures;

interface FailureDetails {
  /** The next thing to type or to check, as one sentence fragment. */
  readonly hint?: string | undefined;
  /** Facts for the log: paths, keys, errno. Never a secret. */
  readonly context?: Readonly<Record<string, unknown>> | undefined;
  readonly cause?: unknown;
}

/**
 * A failure with a code. The message is lower-case and states what failed, on what; the hint states what to do next.
 */
export class BackupError extends Error {
  override readonly name = "BackupError";
  readonly code: FailureCode;
  readonly hint: string | null;
  readonly context: Readonly<Record<string, unknown>>;

  constructor(code: FailureCode, message: string, details: FailureDetails = {}) {
    super(message, details.cause === undefined ? undefined : { cause: details.cause });
    this.code = code;
    this.hint = details.hint ?? null;
    this.context = details.context ?? {};
  }

  get exitCode(): number {
    return failures[this.code].exit;
  }

  /** True when the same command may succeed later without anybody changing anything. */
  get retryable(): boolean {
    return failures[this.code].retryable;
  }
}

/** The error itself when it is one of ours, else INTERNAL around it: a bug, to be reported with its stack. */
export function toBackupError(error: unknown): BackupError {
  if (error instanceof BackupError) return error;
  const message = error instanceof Error ? error.message : String(error);
  return new BackupError("INTERNAL", message, {
    cause: error,
    hint: "this is a bug; please report it with the output of -v",
  });
}

/** The failure that belongs to the reason of an AbortSignal. */
export function abortedError(signal: AbortSignal): BackupError {
  const reason: unknown = signal.reason;
  return reason instanceof BackupError ? reason : new BackupError("ABORTED", "stopped", { cause: reason });
}

/** Returns the thrown value as an Error. */
export function toError(error: unknown): Error {
  return error instanceof Error ? error : new Error(String(error));
}

/** The errno name of a system error; null for any other error. */
export function errnoOf(error: unknown): string | null {
  return error instanceof Error && "code" in error ? String(error.code) : null;
}

/** True when the reader of what was written is gone. */
export function isBrokenPipe(error: unknown): boolean {
  return ["EPIPE", "ECONNRESET", "ERR_STREAM_PREMATURE_CLOSE"].includes(errnoOf(error) ?? "");
}

/** The failure to store an object under a key that has one. */
export function alreadyArchived(key: string): BackupError {
  return new BackupError("ALREADY_ARCHIVED", `'${key}' is already in the container`, { context: { key } });
}

/** The failure to store nothing: no archive is empty. */
export function nothingToStore(key: string): BackupError {
  return new BackupError("INTERNAL", `there is nothing to store under '${key}'`, { context: { key } });
}

/** Describes for people why a file cannot be read: by its errno, else in the words of the system. */
export function describeReadError(error: unknown): string {
  const reasons: Readonly<Record<string, string>> = {
    ENOENT: "it does not exist",
    ENOTDIR: "it does not exist",
    EACCES: "you have no right to read it",
    EPERM: "you have no right to read it",
    EISDIR: "it is a directory",
    ELOOP: "its symbolic links lead in a circle",
  };
  const code = errnoOf(error);
  return reasons[code ?? ""] ?? code ?? toError(error).message;
}

/** Describes for people why files cannot be created in a directory. */
export function describeDirectoryError(error: unknown): string {
  const reasons: Readonly<Record<string, string>> = {
    ENOENT: "there is no such directory",
    ENOTDIR: "it is not a directory",
    EROFS: "it is on a read-only filesystem, or the service may not write there (ReadWritePaths=)",
  };
  return reasons[errnoOf(error) ?? ""] ?? describeWriteError(error);
}

/** Describes for people why a file cannot be written: by its errno, else in the words of the system. */
export function describeWriteError(error: unknown): string {
  const reasons: Readonly<Record<string, string>> = {
    EISDIR: "it is a directory",
    ENOENT: "its directory does not exist",
    ENOTDIR: "its directory does not exist",
    EACCES: "you have no right to write there; run it as root",
    EPERM: "you have no right to write there; run it as root",
    EROFS: "it is on a read-only filesystem, or the service may not write there (ReadWritePaths=)",
    ENOSPC: "the disk is full",
  };
  return reasons[errnoOf(error) ?? ""] ?? toError(error).message;
}
