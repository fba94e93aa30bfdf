// Encryption, done by the program age(1): keys never come into this process, only the names of the files they are in.

import { createHash } from "node:crypto";
import { open, readFile, type FileHandle } from "node:fs/promises";
import { pid } from "node:process";
import { Readable } from "node:stream";
import { BackupError } from "../errors.ts";
import { openNameless } from "./unnamed-file.ts";
import { fedBy, throughPrograms } from "./pipeline.ts";
import { describeExit, type Exit } from "./exit.ts";
import { runInto, type Command } from "./process.ts";

/** The beginning of every file that age writes. */
export const AGE_MAGIC = "age-encryption.org/v1";

/** The part after the header: a nonce, and a tag for each 64 KiB. */
const NONCE_BYTES = 16;
const TAG_BYTES = 16;

/** The recipients, each of whom can open it. */
export interface Recipients {
  /** As `age --recipient` accepts them. */
  readonly names: readonly string[];
  /** Files, as `age --recipients-file` accepts them. */
  readonly files: readonly string[];
}

/** Identities that open an archive: files, as `age --identity` accepts them. */
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

/** Known facts about recipients that age accepts. */
export interface TriedRecipients {
  /** How long the header is that age writes for them. */
  readonly headerBytes: number;
  /** Distinguishes them from others. */
  readonly fingerprint: string;
}

/** Tries recipients on an empty input. @throws CONFIG when age does not accept them, or is not installed */
export async function tryRecipients(recipients: Recipients, signal: AbortSignal): Promise<TriedRecipients> {
  const failure = (exit: Exit): BackupError =>
    new BackupError("CONFIG", `age does not accept the recipients: ${messageOf(exit)}`, {
      context: { ending: describeExit(exit) },
    });
  const command = { ...encryptCommand(recipients), failure };
  let bytes = 0;
  for await (const chunk of throughPrograms([command], fedBy(Readable.from([])), signal))
    bytes += (chunk as Buffer).length;
  return { headerBytes: bytes - NONCE_BYTES - TAG_BYTES, fingerprint: await fingerprintOf(recipients) };
}

async function fingerprintOf({ names, files }: Recipients): Promise<string> {
  const texts = await Promise.all(files.map((file) => readFile(file, "utf8")));
  return createHash("sha256")
    .update(JSON.stringify([names.toSorted(), texts]))
    .digest("hex");
}

/** The beginnings of an identity file that is itself encrypted, with a passphrase. */
const LOCKED = [AGE_MAGIC, "-----BEGIN AGE ENCRYPTED FILE-----"];

/** Files in it are in memory. */
const MEMORY = "/dev/shm";

/**
 * The same identities, with those behind a passphrase unlocked, so that age asks for it once and not for each archive.
 * Their content goes from age into a file in memory without a name, which age alone reads, and which is gone with this
 * process.
 * @throws CONFIG when the passphrase is wrong or nobody can be asked
 */
export async function unlockIdentities(identities: Identities, signal: AbortSignal): Promise<Identities> {
  const unlocked: string[] = [];
  for (const file of identities) unlocked.push((await isLocked(file)) ? await unlock(file, signal) : file);
  return unlocked;
}

async function isLocked(file: string): Promise<boolean> {
  const head = await readHead(file).catch(() => "");
  return LOCKED.some((beginning) => head.startsWith(beginning));
}

/** No more than that is ever read from it here. */
async function readHead(file: string): Promise<string> {
  const handle = await open(file);
  try {
    const { buffer, bytesRead } = await handle.read(Buffer.alloc(64), 0, 64, 0);
    return buffer.toString("latin1", 0, bytesRead);
  } finally {
    await handle.close();
  }
}

async function unlock(file: string, signal: AbortSignal): Promise<string> {
  const nameless = await openNameless(MEMORY).catch(() => null);
  // Then age asks whenever it needs the passphrase.
  if (nameless === null) return file;
  const failure = (exit: Exit): BackupError =>
    isInterrupted(exit)
      ? new BackupError("ABORTED", "stopped")
      : new BackupError("CONFIG", `age cannot unlock the identity ${file}: ${messageOf(exit)}`);
  await runInto(nameless.fd, { program: "age", args: ["--decrypt", file], failure, mayAsk: true }, signal);
  kept.push(nameless);
  return `/proc/${pid}/fd/${nameless.fd}`;
}

/** Open as long as the process lives: a handle that nobody holds is closed. */
const kept: FileHandle[] = [];

/**
 * Decrypts what it reads. age authenticates each 64 KiB before it writes them, and the end of the file. It may ask for
 * a passphrase.
 */
export function decryptCommand(identities: Identities, subject: string): Command {
  const args = ["--decrypt", ...identities.flatMap((file) => ["--identity", file])];
  return { program: "age", args, failure: (exit) => toDecryptFailure(subject, exit), mayAsk: true };
}

function toEncryptFailure(exit: Exit): BackupError {
  return new BackupError(
    "STEP_FAILED",
    `age ${describeExit(exit)}${exit.stderr === "" ? "" : `: ${messageOf(exit)}`}`,
    { context: { stderr: exit.stderr } },
  );
}

function toDecryptFailure(subject: string, exit: Exit): BackupError {
  const context = { ending: describeExit(exit), stderr: exit.stderr };
  const message = messageOf(exit);
  // It receives Ctrl-C as we do, and may exit before we have handled it.
  if (isInterrupted(exit)) return new BackupError("ABORTED", "stopped", { context });
  if (/no identity matched/.test(message)) {
    return new BackupError("IDENTITY_REFUSED", `${subject} is encrypted for somebody else: no identity opens it`, {
      hint: "use --identity FILE with the key it was encrypted for",
      context,
    });
  }
  // It reads the identities first, and names them in its messages about them.
  if (/^reading "|identity file|failed to open file|malformed secret key|passphrase/.test(message)) {
    return new BackupError("CONFIG", `age cannot use an identity: ${message}`, { context });
  }
  return new BackupError("ARCHIVE_DAMAGED", `${subject} is damaged: it cannot be decrypted: ${message}`, { context });
}

/** It hears Ctrl-C on the terminal as we do. */
function isInterrupted({ signal }: Exit): boolean {
  return signal === "SIGINT" || signal === "SIGHUP";
}

function messageOf(exit: Exit): string {
  return /^age: error: (.*)$/m.exec(exit.stderr)?.[1] ?? describeExit(exit);
}
