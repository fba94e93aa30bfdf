// One run at a time for a container and a subvolume. The kernel frees a lock when its holder is gone, however it ended,
// so there is nothing to clean up and nothing to break. The files lie where only the same user can create or open any:
// in a directory that everybody can write, others could hold a lock forever.

import { createHash } from "node:crypto";
import { closeSync, ftruncateSync, writeSync } from "node:fs";
import { lstat, readFile, stat } from "node:fs/promises";
import { homedir, userInfo } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { lockFile } from "../addon/lock.ts";
import { abortedError, BackupError, describeDirectoryError } from "../errors.ts";
import { ensureDirectory } from "./own-directories.ts";

/** A lock that a run needs for itself alone. */
export interface LockSubject {
  /** Name of the file. */
  readonly file: string;
  /** The name to show to people. */
  readonly what: string;
}

export interface LockOptions {
  /** The directory with the locks of this user. */
  readonly directory: string;
  /** The process that messages of other runs name as the holder. */
  readonly holder: { readonly pid: number; readonly command: string };
  /** How long to wait for the other run to finish; 0 = not at all. */
  readonly waitMs: number;
  /** Milliseconds of a clock that never steps back. */
  readonly now: () => number;
  /** Called once when there is something to wait for. */
  readonly onWait: (other: string) => void;
}

export interface Lock {
  /** True when another run held it first. */
  readonly waited: boolean;
  /** Safe to call twice. */
  close(): void;
}

const RETRY_MS = 250;

const NAME = "btrfs-snapshots-to-swift";

/** Root's directory is the same from a terminal, cron and systemd, whatever the environment contains. */
export function lockDirectory(env: Readonly<Record<string, string | undefined>>): string {
  if (userInfo().uid === 0) return join("/run", NAME);
  const runtime = env["XDG_RUNTIME_DIR"] ?? "";
  return runtime === "" ? join(homedir(), ".local/state", NAME) : join(runtime, NAME);
}

/** The lock of one subvolume's archives in one container. */
export function lockOfSource(container: string, source: string): LockSubject {
  // A file name has at most 255 bytes. A container name has up to 256, with characters that no S3 API would accept.
  const name = /^[\w.-]{1,100}$/.test(container) ? container : `sha256-${digest(container)}`;
  return { file: `${source}.${name}`, what: `subvolume ${source} and container ${container}` };
}

/** The lock of the directory that a restore writes into. */
export async function lockOfTarget(directory: string): Promise<LockSubject> {
  const { dev, ino } = await stat(directory, { bigint: true });
  return { file: `target.${dev}.${ino}`, what: `the target ${directory}` };
}

/** The lock of a file that several runs read, change and replace. */
export function lockOfFile(file: string): LockSubject {
  return { file: `file.${digest(file)}`, what: file };
}

function digest(text: string): string {
  return createHash("sha256").update(text).digest("hex").slice(0, 32);
}

/**
 * Takes all of them, or none.
 * @throws LOCKED when another run holds one and keeps it; CONFIG when there is no safe place for locks; ABORTED
 */
export async function takeLocks(
  subjects: readonly LockSubject[],
  options: LockOptions,
  signal: AbortSignal,
): Promise<Lock> {
  await makeDirectory(options.directory);
  const held: number[] = [];
  const close = (): void => {
    for (const descriptor of held.splice(0)) closeSync(descriptor);
  };
  let waited = false;
  try {
    // Always in the same order, so that two runs cannot wait for each other.
    for (const subject of subjects.toSorted((a, b) => (a.file < b.file ? -1 : 1))) {
      const taken = await take(subject, options, signal);
      held.push(taken.descriptor);
      waited ||= taken.waited;
    }
    return { waited, close };
  } catch (error) {
    close();
    throw error;
  }
}

async function take(
  { file, what }: LockSubject,
  { directory, holder, waitMs, now, onWait }: LockOptions,
  signal: AbortSignal,
): Promise<{ readonly descriptor: number; readonly waited: boolean }> {
  const path = join(directory, file);
  const until = now() + waitMs;
  let waited = false;
  for (;;) {
    if (signal.aborted) throw abortedError(signal);
    const descriptor = tryToLock(path);
    if (descriptor !== null) {
      ftruncateSync(descriptor);
      writeSync(descriptor, JSON.stringify(holder), 0);
      return { descriptor, waited };
    }
    const other = `${what}: ${await describeHolder(path)}`;
    if (now() >= until) {
      throw new BackupError("LOCKED", `another run is at work on ${other}`, {
        hint: waitMs > 0 ? "it did not end in time" : "wait for it with --wait-lock 1h",
      });
    }
    if (!waited) onWait(other);
    waited = true;
    await sleep(RETRY_MS, undefined, { signal }).catch(() => undefined);
  }
}

function tryToLock(path: string): number | null {
  try {
    return lockFile(path);
  } catch (cause) {
    if (cause instanceof BackupError) throw cause;
    throw new BackupError(
      "CONFIG",
      `the lock cannot be taken: ${cause instanceof Error ? cause.message : String(cause)}`,
      { cause },
    );
  }
}

/** `process 4711, since 2026-11-23 03:00:00: sync /home`, as far as it is known: the holder may have begun just now. */
async function describeHolder(path: string): Promise<string> {
  try {
    const [text, { mtime }] = await Promise.all([readFile(path, "utf8"), stat(path)]);
    const { pid, command } = JSON.parse(text) as Record<string, unknown>;
    // The Swedish locale formats dates as ISO 8601 does.
    return `process ${String(pid)}, since ${mtime.toLocaleString("sv-SE")}: ${String(command)}`;
  } catch {
    return "it has only just begun";
  }
}

/** @throws CONFIG when others could create files there */
async function makeDirectory(directory: string): Promise<void> {
  const failure = (reason: string): BackupError =>
    new BackupError("CONFIG", `there is no safe place for locks: ${directory} ${reason}`, {
      hint: "it must be yours, with mode 0700",
    });
  await ensureDirectory(directory, 0o700).catch((error: unknown) => {
    throw failure(`cannot be made: ${describeDirectoryError(error)}`);
  });
  const found = await lstat(directory);
  if (!found.isDirectory()) throw failure("is not a directory");
  if (found.uid !== userInfo().uid) throw failure("belongs to somebody else");
  if ((found.mode & 0o022) !== 0) throw failure("can be written by others");
}
