// The command lines of `btrfs send` and `btrfs receive`, and the send options that this machine supports.

import { BackupError, type FailureCode } from "../errors.ts";
import type { SendProto } from "../plan/model.ts";
import { describeExit, type Exit } from "../stream/exit.ts";
import { runToEnd, type Command } from "../stream/process.ts";
import type { Reach } from "./mounts.ts";

/** How streams are made. */
export interface SendMode {
  readonly sendProto: SendProto;
  /** Extents that are stored compressed travel compressed; protocol 2 only. */
  readonly compressedData: boolean;
}

/**
 * `btrfs send` of the first place reached, incremental against the second if there is one.
 * @param noData - leave the file data out: the same commands, with lengths in place of data
 */
export function sendCommand({ paths, enter }: Reach, mode: SendMode, noData: boolean): Command {
  const [snapshot = "", sendParent] = paths;
  // Protocol 1 is the default of every version, and btrfs-progs before 5.19 does not know the option.
  const proto = mode.sendProto === 1 ? [] : ["--proto", String(mode.sendProto)];
  const compressed = mode.compressedData ? ["--compressed-data"] : [];
  const lengthsOnly = noData ? ["--no-data"] : [];
  const difference = sendParent === undefined ? [] : ["-p", sendParent];
  const send = ["btrfs", "send", "-q", ...proto, ...compressed, ...lengthsOnly, ...difference, snapshot];
  const [program = "btrfs", ...args] = [...enter, ...send];
  return { program, args, failure: (exit) => toFailure("SEND_FAILED", `btrfs send of ${snapshot}`, exit) };
}

/** Where something is received. */
export interface Reception {
  readonly directory: string;
  /** Its final name, for people. */
  readonly name: string;
  /** The words to put in front of a program that has to see the directory. */
  readonly enter: readonly string[];
  /** Extents that travel compressed are decompressed, and written like any others. */
  readonly forceDecompress: boolean;
}

/**
 * `btrfs receive` into a directory: in a chroot of it (-C), because a stream can name paths outside; and never with
 * `-E 0`, with which btrfs-progs 6.2 loops forever if a stream ends too early.
 */
export function receiveCommand({ directory, name, enter, forceDecompress }: Reception): Command {
  const failure = (exit: Exit): BackupError => toFailure("RECEIVE_FAILED", `btrfs receive of ${name}`, exit);
  const options = forceDecompress ? ["--force-decompress"] : [];
  const [program = "", ...args] = enter.concat("btrfs", "receive", "-q", options, "-C", directory);
  return { program, args, failure };
}

/** A writable snapshot of the place reached. */
export function snapshotCommand({ paths, enter }: Reach, place: string): Command {
  const [program = "", ...args] = enter.concat("btrfs", "subvolume", "snapshot", paths, place);
  const failure = (exit: Exit): BackupError => toFailure("RECEIVE_FAILED", `btrfs subvolume snapshot ${place}`, exit);
  return { program, args, failure };
}

/** The options that `btrfs send` prints in its help. @throws CONFIG when there is no such program, ABORTED */
export function readSendOptions(signal: AbortSignal): Promise<string> {
  const failure = (exit: Exit): BackupError => toFailure("SEND_FAILED", "btrfs send --help", exit);
  return runToEnd({ program: "btrfs", args: ["send", "--help"], failure }, signal);
}

interface Refusal {
  /** As btrfs-progs 6.2 to 6.19 print them on standard error, in English. */
  readonly pattern: RegExp;
  readonly code?: FailureCode;
  readonly meaning: string;
  readonly hint?: string;
}

/** Refusals that we explain more plainly than the programs do. */
const refusals: readonly Refusal[] = [
  {
    pattern: /Operation not permitted|Permission denied/,
    code: "NO_PRIVILEGE",
    meaning: "it is not permitted",
    hint: "it needs root or CAP_SYS_ADMIN, and CAP_FOWNER for files of others; in a container or a service, root may lack them",
  },
  {
    pattern: /send ioctl failed with -5\b/,
    meaning: "the disk did not give back what was written to it",
    hint: "dmesg names the file; `btrfs scrub` reports how much is damaged",
  },
  {
    pattern: /No space left on device|Disk quota exceeded/,
    meaning: "the filesystem is full",
    hint: "make room and run it again: it resumes where it stopped",
  },
  {
    pattern: /parent subvol is not reachable/,
    meaning: "the snapshot that it builds on is outside the mounted part of that filesystem",
    hint: "mount the top level of the filesystem (subvolid=5) and restore into a directory of that mount",
  },
  {
    pattern: /cannot find parent subvolume/,
    meaning: "the snapshot that it builds on is not on this filesystem",
    hint: "restore that one first",
  },
  { pattern: /Read-only file system/, meaning: "it is mounted or set read-only" },
  { pattern: /is not read-only/, meaning: "a snapshot that was read-only has been made writable" },
];

function toFailure(code: FailureCode, what: string, exit: Exit): BackupError {
  const { stderr } = exit;
  const context = { ending: describeExit(exit), stderr };
  const refusal = refusals.find(({ pattern }) => pattern.test(stderr));
  if (refusal !== undefined) {
    const { meaning, hint } = refusal;
    return new BackupError(refusal.code ?? code, `${what} failed: ${meaning}`, { hint, context });
  }
  const lastLine =
    stderr
      .split("\n")
      .at(-1)
      ?.replace(/^ERROR: /, "") ?? "";
  return new BackupError(code, `${what} ${describeExit(exit)}${lastLine === "" ? "" : `: ${lastLine}`}`, { context });
}
