// Processes as streams. The only file that starts any. Never a shell: arguments are passed as they are.
//
// Each child leads a session and process group of its own, so that Ctrl-Z and Ctrl-C on the terminal reach this program
// and not the children. A `btrfs send` that is stopped and continued may emit a corrupt stream and still exit 0 (seen
// on Linux 6.18). The end of a child's output is no success; exit status 0 is. The caller of a command defines what its
// failure means; nothing here knows btrfs, age or Swift.

import { spawn, type ChildProcess, type StdioOptions } from "node:child_process";
import { env, kill } from "node:process";
import type { Readable } from "node:stream";
import { finished } from "node:stream/promises";
import { abortedError, BackupError, isBrokenPipe } from "../errors.ts";
import { describeExit, faultOf, type Exit } from "./exit.ts";
import { writePieces, type Pieces } from "./pieces.ts";
import { onAbort, settlesWithin } from "./waiting.ts";
import { notStarted } from "./packages.ts";

/** A program to run and what it means when it fails. */
export interface Command {
  readonly program: string;
  readonly args: readonly string[];
  /** The error for every ending but exit status 0. */
  readonly failure: (exit: Exit) => BackupError;
  /** The required beginning of its output, checked before any of it is passed on. */
  readonly begins?: string;
  /**
   * True for a program that may ask something on the terminal: it stays in our session, which has that terminal, and so
   * gets Ctrl-C and Ctrl-Z as we do.
   */
  readonly mayAsk?: boolean;
}

/** A program that accepts lines and answers nothing. */
export interface Sink {
  write(line: string): void;
  /** Resolves when the program has read its input and is gone. Safe to call twice. */
  close(): Promise<void>;
}

/** A process that only stays alive. */
export interface HeldProcess {
  readonly pid: number;
  /** Ends it; resolves when it is gone. Safe to call twice. */
  close(): Promise<void>;
}

/** Time between being asked to end and being killed, and the longest wait for the kill to work. */
const GRACE_MS = 2_000;

/** How long the output of an exited process may stay open and silent in a process that it left behind. */
export const LINGER_MS = 5_000;

const STDERR_TAIL_CHARS = 4_096;

/** The backlog that a sink may leave unread before lines are dropped. */
const SINK_BACKLOG_BYTES = 1024 * 1024;

/** A program that was started. */
export interface Started {
  readonly child: ChildProcess;
  readonly life: ProcessLifetime;
}

/** Starts a program; its lifetime reports when it cannot be started. */
export function start(command: Command, stdio: StdioOptions): Started {
  const child = spawn(command.program, command.args, { ...surroundings(), detached: command.mayAsk !== true, stdio });
  return { child, life: watch(child, command) };
}

/**
 * The complete standard output of a program that prints little, after exit status 0.
 * @throws the error that `command.failure` makes; CONFIG when the program is missing; ABORTED
 */
export async function runToEnd(command: Command, signal: AbortSignal): Promise<string> {
  const { child, life } = start(command, ["ignore", "pipe", "pipe"]);
  let output = "";
  const { stdout } = child;
  if (stdout === null) throw new TypeError(`${command.program} was started without an output`);
  stdout.setEncoding("utf8").on("data", (text: string) => void (output += text));
  const ended = closed(stdout);
  await untilSuccess(life, signal);
  if (await settlesWithin(ended, LINGER_MS)) return output;
  stdout.destroy();
  throw command.failure(faultOf(command, "left its output open"));
}

/** Runs a program that writes into a file that is open; resolves after exit status 0. Rejects as {@link runToEnd} does. */
export async function runInto(descriptor: number, command: Command, signal: AbortSignal): Promise<void> {
  const { life } = start(command, ["ignore", descriptor, "pipe"]);
  await untilSuccess(life, signal);
}

async function untilSuccess(life: Lifetime, signal: AbortSignal): Promise<void> {
  onAbort(signal, life.success, () => void life.stop());
  await life.success.catch((error: unknown) => {
    throw signal.aborted ? abortedError(signal) : error;
  });
}

/**
 * Feeds a stream to a program; resolves when the program has read all of it and exited with status 0. When the stream
 * fails, the program is ended; it rejects once that is gone. Through a socket, which wakes its writer only when much of it
 * is free: for a pipe and a program that reads in small pieces, such as `btrfs receive`, each of them would wake us.
 * @throws what `source` is destroyed with or `command.failure` makes; CONFIG when the program is missing; ABORTED
 */
export async function writeTo(command: Command, source: Pieces, signal: AbortSignal): Promise<void> {
  const child = spawn(command.program, command.args, { ...surroundings(), stdio: ["pipe", "ignore", "pipe"] });
  const life = watch(child, command);
  const feed = async (): Promise<void> => {
    await writePieces(source, child.stdin, signal);
    await finished(child.stdin.end());
  };
  const feeding = feed().catch(async (error: unknown) => {
    // The program causes a broken pipe, and its exit status explains more; for any other error we have to stop it.
    if (!isBrokenPipe(error) || !(await settlesWithin(life.success, GRACE_MS))) await life.stop();
    throw error;
  });
  const [fed, ended] = await Promise.allSettled([feeding, life.success]);
  if (signal.aborted) throw abortedError(signal);
  if (fed.status === "rejected" && !isBrokenPipe(fed.reason)) throw fed.reason;
  if (ended.status === "rejected") throw ended.reason;
  if (fed.status === "rejected") throw command.failure(faultOf(command, "left its input unread", life.stderr()));
}

/**
 * Starts a program that copies its input to its output (`cat`, behind the commands that set up its surroundings);
 * resolves when it does. It ends with this process, however this process ends, because its input is closed then.
 * @throws the error that `command.failure` makes; CONFIG when the program is missing; ABORTED
 */
export async function startHeldProcess(command: Command, signal: AbortSignal): Promise<HeldProcess> {
  const child = spawn(command.program, command.args, { ...surroundings(), stdio: ["pipe", "pipe", "pipe"] });
  const life = watch(child, command);
  const close = async (): Promise<void> => {
    child.stdin.end();
    if (!(await settlesWithin(life.success, GRACE_MS))) await life.stop();
  };
  // Written to a program that has died: its exit status explains more.
  child.stdin.on("error", () => undefined);
  child.stdin.write("ready\n");
  const echo = new Promise<void>((resolve) => child.stdout.once("data", () => resolve()));
  const aborted = new Promise<void>((resolve) => onAbort(signal, echo, resolve));
  await Promise.race([echo, life.success, aborted]);
  if (child.pid !== undefined && !signal.aborted && child.exitCode === null) return { pid: child.pid, close };
  await close();
  throw signal.aborted
    ? abortedError(signal)
    : command.failure(faultOf(command, "ended before it began", life.stderr()));
}

/**
 * Starts a program that its caller can do without: when it is missing, dies or falls behind, lines are lost without an
 * error.
 */
export function openSink({ program, args }: Pick<Command, "program" | "args">): Sink {
  const child = spawn(program, args, { ...surroundings(), stdio: ["pipe", "ignore", "ignore"] });
  const failure = (exit: Exit): BackupError => new BackupError("INTERNAL", `${program} ${describeExit(exit)}`);
  const life = watch(child, { program, args, failure });
  const { stdin } = child;
  stdin.on("error", () => undefined);
  return {
    write: (line) => {
      if (stdin.writable && stdin.writableLength < SINK_BACKLOG_BYTES) stdin.write(line);
    },
    close: async () => {
      stdin.end();
      if (!(await settlesWithin(life.success, GRACE_MS))) await life.stop();
    },
  };
}

/** The lifetime of a child. */
export interface Lifetime {
  /** Resolves after exit status 0; rejects after any other ending. */
  readonly success: Promise<void>;
  readonly stderr: () => string;
  /** Ends the entire process group. Resolves when its leader is gone, or does not go even when killed. */
  stop(): Promise<void>;
}

/** The lifetime of one process. */
export interface ProcessLifetime extends Lifetime {
  /** How it ended; null when it did its work, could not be started, or has not ended. */
  exit(): Exit | null;
}

function watch(child: ChildProcess, command: Command): ProcessLifetime {
  const kill: Kill =
    command.mayAsk === true ? (signal) => void child.kill(signal) : (signal) => killGroup(child, signal);
  let stderr = "";
  child.stderr?.setEncoding("utf8").on("data", (text: string) => {
    stderr = (stderr + text).slice(-STDERR_TAIL_CHARS);
  });
  const errorOutput = child.stderr === null ? Promise.resolve() : closed(child.stderr);
  const lastWords = (): string => stderr.trim();
  let exit: Exit | null = null;
  const end = async (): Promise<void> => {
    const ended = await endingOf(child, command.program);
    if (ended.status === 0) return;
    // Processes that a failed leader leaves behind must not continue, nor delay its last output.
    kill("SIGKILL");
    await settlesWithin(errorOutput, GRACE_MS);
    exit = { ...ended, program: command.program, fault: null, stderr: lastWords() };
    throw command.failure(exit);
  };
  const success = end().finally(() => child.stderr?.destroy());
  success.catch(() => undefined);
  let stopping: Promise<void> | null = null;
  return { success, exit: () => exit, stderr: lastWords, stop: () => (stopping ??= stopAll(kill, success)) };
}

function closed(stream: Readable): Promise<void> {
  return new Promise((resolve) => stream.once("close", resolve));
}

/** @throws CONFIG when it could not be started */
function endingOf(child: ChildProcess, program: string): Promise<Pick<Exit, "status" | "signal">> {
  return new Promise((resolve, reject) => {
    child.once("error", (error: NodeJS.ErrnoException) => reject(notStarted(program, error)));
    child.once("exit", (status, signal) => resolve({ status, signal }));
  });
}

/** Ends a child, with its group where it leads one. */
type Kill = (signal: NodeJS.Signals) => void;

async function stopAll(kill: Kill, success: Promise<void>): Promise<void> {
  kill("SIGTERM");
  await settlesWithin(success, GRACE_MS);
  // Also when the leader obeyed the first signal: other processes of its group need not have.
  kill("SIGKILL");
  await settlesWithin(success, GRACE_MS);
}

function killGroup({ pid }: ChildProcess, signal: NodeJS.Signals): void {
  if (pid === undefined) return;
  try {
    kill(-pid, signal);
  } catch {
    // No process is left in the group.
  }
}

/** A child needs none of our secrets, and messages are matched in English. */
function surroundings(): { readonly detached: true; readonly env: NodeJS.ProcessEnv } {
  // Started by cron or sudo, the directories in which mount and btrfs may lie can be missing.
  const path = `${env["PATH"] ?? ""}:/usr/local/sbin:/usr/sbin:/sbin:/usr/local/bin:/usr/bin:/bin`.replace(/^:/, "");
  return { detached: true, env: { PATH: path, HOME: env["HOME"], LC_ALL: "C" } };
}
