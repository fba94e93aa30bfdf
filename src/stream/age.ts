// Encryption, done by the program age(1): keys never come into this process, only the names of the files they are in.

import { createHash } from "node:crypto";
import { readFile } from "node:fs/promises";
import { Readable } from "node:stream";
import { BackupError } from "../errors.ts";
import { fedBy, throughPrograms } from "./pipeline.ts";
import type { Command, Ending } from "./process.ts";

/** What every file begins with that age writes. */
export const AGE_MAGIC = "age-encryption.org/v1";

/** What comes after the header: a nonce, and a tag for each 64 KiB. */
const NONCE_BYTES = 16;
const TAG_BYTES = 16;

/** For whom it is encrypted: all of them can open it. */
export interface Recipients {
  /** As `age --recipient` takes them. */
  readonly names: readonly string[];
  /** Files, as `age --recipients-file` takes them. */
  readonly files: readonly string[];
}

/** What opens it: files, as `age --identity` takes them. */
export type Identities = readonly string[];

/** Encrypts what it reads. */
export function encryptCommand({ names, files }: Recipients): Command {
  const args = [
    "--encrypt",
    ...names.flatMap((name) => ["--recipient", name]),
    ...files.flatMap((file) => ["--recipients-file", file]),
  ];
  return { program: "age", args, failure: toEncryptFailure, begins: AGE_MAGIC };
}

/** What is known of recipients that age takes. */
export interface TriedRecipients {
  /** How long the header is that age writes for them. */
  readonly headerBytes: number;
  /** Tells them from others. */
  readonly fingerprint: string;
}

/** Tries recipients on an empty input. @throws CONFIG when age does not take them, or is not installed */
export async function tryRecipients(recipients: Recipients, signal: AbortSignal): Promise<TriedRecipients> {
  const failure = (ending: Ending): BackupError =>
    new BackupError("CONFIG", `age does not take the recipients: ${saidBy(ending)}`, { context: { ending: ending.how } });
  const command = { ...encryptCommand(recipients), failure };
  let bytes = 0;
  for await (const chunk of throughPrograms([command], fedBy(Readable.from([])), signal)) bytes += (chunk as Buffer).length;
  return { headerBytes: bytes - NONCE_BYTES - TAG_BYTES, fingerprint: await fingerprintOf(recipients) };
}

async function fingerprintOf({ names, files }: Recipients): Promise<string> {
  const texts = await Promise.all(files.map((file) => readFile(file, "utf8")));
  return createHash("sha256").update(JSON.stringify([names.toSorted(), texts])).digest("hex");
}

/** Decrypts what it reads. age authenticates each 64 KiB before it gives them out, and the end. It may ask for a passphrase. */
export function decryptCommand(identities: Identities, subject: string): Command {
  const args = ["--decrypt", ...identities.flatMap((file) => ["--identity", file])];
  return { program: "age", args, failure: (ending) => toDecryptFailure(subject, ending), mayAsk: true };
}

function toEncryptFailure(ending: Ending): BackupError {
  return new BackupError("STEP_FAILED", `age ${ending.how}${ending.stderr === "" ? "" : `: ${saidBy(ending)}`}`, {
    context: { stderr: ending.stderr },
  });
}

function toDecryptFailure(subject: string, ending: Ending): BackupError {
  const context = { ending: ending.how, stderr: ending.stderr };
  const said = saidBy(ending);
  // It hears Ctrl-C as we do, and may be gone before we have heard it.
  if (/killed by SIG(INT|HUP)/.test(ending.how)) return new BackupError("ABORTED", "stopped", { context });
  if (/no identity matched/.test(said)) {
    return new BackupError("IDENTITY_REFUSED", `${subject} is encrypted for somebody else: no identity opens it`, {
      hint: "say --identity FILE with the key it was encrypted for",
      context,
    });
  }
  // It reads the identities first; their names stand in what it says then.
  if (/^reading "|identity file|failed to open file|malformed secret key|passphrase/.test(said)) {
    return new BackupError("CONFIG", `age cannot use an identity: ${said}`, { context });
  }
  return new BackupError("ARCHIVE_DAMAGED", `${subject} is damaged: it cannot be decrypted: ${said}`, { context });
}

function saidBy({ how, stderr }: Ending): string {
  return /^age: error: (.*)$/m.exec(stderr)?.[1] ?? how;
}
