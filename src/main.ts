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

/** A run that has ended but is held open by a forgotten handle exits after this many milliseconds. */
const LINGER_MS = 5000;

const signals = { SIGINT: 2, SIGTERM: 15, SIGHUP: 1 } as const;

/** The first signal stops the run cleanly, the second immediately. */
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
 * Watches stdout and stderr; their failures never stop the work. A reader that went away is no failure of ours.
 * Anything else that prevents writing the result, such as a full disk, is reported at the end.
 */
function watchOutput(): { readonly failure: () => unknown } {
  let failure: unknown = null;
  process.stderr.on("error", () => undefined);
  process.stdout.on("error", (error: NodeJS.ErrnoException) => {
    if (error.code !== "EPIPE") failure ??= error;
  });
  return { failure: () => failure };
}

/** Ends a run whose result could not be written: the work is done, but nobody knows. */
function reportLostOutput(failure: unknown, code: number): number {
  process.stderr.write(`error: the result was not written to stdout: ${describeWriteError(failure)}\n`);
  return code === 0 ? new BackupError("STEP_FAILED", "").exitCode : code;
}

/** True when Node may have taken our words for its own options, because no `--` protected them. */
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
  const exitCode = code === 0 ? 0 : (stopped.exitCode() ?? code);
  // A failed write is known by now, but its event may still be pending.
  await setImmediate();
  return output.failure() === null ? exitCode : reportLostOutput(output.failure(), exitCode);
}

process.exitCode = await main(process.argv.slice(2));
setTimeout(() => process.exit(), LINGER_MS).unref();
