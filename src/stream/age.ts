// Encryption, done by the program age(1): keys never come into this process, only the names of the files they are in.

import type { Readable } from "node:stream";
import { BackupError } from "../errors.ts";
import { passThrough, type Ending } from "./process.ts";

/** Of a file that age wrote: its header, and the one whole chunk of 64 KiB after which age gives its first bytes out. */
export const AGE_PEEK_BYTES = 96 * 1024;

/** What is decrypted, and with what. */
export interface Decryption {
  /** Files, as `age --identity` takes them. */
  readonly identities: readonly string[];
  /** What an error says it is about. */
  readonly subject: string;
}

/**
 * What was encrypted. age authenticates each 64 KiB before it gives them out, and the end.
 * @throws (as the stream's error) IDENTITY_REFUSED, ARCHIVE_DAMAGED, CONFIG, and what `source` is destroyed with
 */
export function decrypted(source: Readable, { identities, subject }: Decryption, signal: AbortSignal): Readable {
  const args = ["--decrypt", ...identities.flatMap((file) => ["--identity", file])];
  return passThrough({ program: "age", args, failure: (ending) => toFailure(subject, ending) }, source, signal);
}

function toFailure(subject: string, { how, stderr }: Ending): BackupError {
  const context = { ending: how, stderr };
  const said = /^age: error: (.*)$/m.exec(stderr)?.[1] ?? how;
  if (/no identity matched/.test(said)) {
    return new BackupError("IDENTITY_REFUSED", `${subject} is encrypted for somebody else: no identity opens it`, {
      hint: "say --identity FILE with the key it was encrypted for",
      context,
    });
  }
  // It reads the identities first; their names stand in what it says then.
  if (/^reading "|identity file|failed to open file|malformed secret key/.test(said)) {
    return new BackupError("CONFIG", `age cannot use an identity: ${said}`, { context });
  }
  return new BackupError("ARCHIVE_DAMAGED", `${subject} is damaged: it cannot be decrypted: ${said}`, { context });
}
