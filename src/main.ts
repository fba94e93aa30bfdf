#!/bin/sh
// 2>/dev/null; exec node -- "$0" "$@"

// To sh the line above is a command that fails and one that starts Node; to Node it is a comment. With `--`, Node leaves
// our words alone: it takes `--env-file` for its own option, wherever it stands (nodejs/node#54232, seen on 20.20, 22.23
// and 24.21). Not `env -S`, which busybox does not have.
//
// The only file that names `process`: arguments, environment and signals come in here, the exit code goes out.

import { readFileSync } from "node:fs";
import { setImmediate } from "node:timers/promises";
import { isatty } from "node:tty";
import { fileURLToPath } from "node:url";
import { runCommandLine } from "./commands/cli.ts";
import { BackupError, describeWriteError } from "./errors.ts";

const NAME = "btrfs-snapshots-to-swift";

/** A run that has ended but is held open by something forgotten ends after this many milliseconds. */
const LINGER_MS = 5000;

const signals = { SIGINT: 2, SIGTERM: 15, SIGHUP: 1 } as const;

/** The first signal stops the run cleanly, the second at once. */
function listenForSignals(): { readonly signal: AbortSignal; readonly exitCode: () => number | null } {
  const controller = new AbortController();
  let code: number | null = null;
  for (const [name, number] of Object.entries(signals)) {
    process.on(name, () => {
      if (code !== null) process.exit(128 + number);
      code = 128 + number;
      controller.abort(new BackupError("ABORTED", `stopped by ${name}`));
    });
  }
  return { signal: controller.signal, exitCode: () => code };
}

/**
 * What becomes of the result and the log never stops the work. A reader that went away is no failure of ours; anything
 * else that keeps the result from being written, such as a full disk, is told at the end.
 */
function watchOutput(): { readonly failure: () => unknown } {
  let failure: unknown = null;
  process.stderr.on("error", () => undefined);
  process.stdout.on("error", (error: NodeJS.ErrnoException) => {
    if (error.code !== "EPIPE") failure ??= error;
  });
  return { failure: () => failure };
}

/** Ends a run whose result was not written: the work is done, but nobody was told. */
function reportLostOutput(failure: unknown, code: number): number {
  process.stderr.write(`error: the result was not written to stdout: ${describeWriteError(failure)}\n`);
  return code === 0 ? new BackupError("STEP_FAILED", "").exitCode : code;
}

/** True when Node may have taken words of ours for options of its own: nothing kept it from them by `--`. */
function nodeReadsWords(): boolean {
  const [, ...words] = readFileSync("/proc/self/cmdline", "utf8").split("\0");
  return words[process.execArgv.length] !== "--";
}

async function main(argv: readonly string[]): Promise<number> {
  const output = watchOutput();
  const { version } = JSON.parse(readFileSync(new URL("../../package.json", import.meta.url), "utf8")) as {
    version: string;
  };
  const stopped = listenForSignals();
  const colours = isatty(process.stdout.fd) && (process.env["NO_COLOR"] ?? "") === "" && process.env["TERM"] !== "dumb";
  const code = await runCommandLine(argv, {
    env: process.env,
    stdin: process.stdin,
    stdout: process.stdout,
    stderr: process.stderr,
    colorDepth: colours ? 8 : 1,
    signal: stopped.signal,
    now: () => performance.now(),
    tool: `${NAME}/${version}`,
    node: process.versions.node,
    pid: process.pid,
    words: argv,
    nodeReadsWords: nodeReadsWords(),
    program: [process.execPath, "--", fileURLToPath(import.meta.url)],
    settings: { words: [], paths: [], inForce: [], target: null, skipped: null },
  });
  const told = code === 0 ? 0 : (stopped.exitCode() ?? code);
  // A write that has failed is known by now, but its event may still be under way.
  await setImmediate();
  return output.failure() === null ? told : reportLostOutput(output.failure(), told);
}

process.exitCode = await main(process.argv.slice(2));
setTimeout(() => process.exit(), LINGER_MS).unref();
