#!/usr/bin/env node
// The only file that names `process`: arguments, environment and signals come in here, the exit code goes out.

import { readFileSync } from "node:fs";
import { isatty } from "node:tty";
import { Cli } from "clipanion";
import { joinLegacyFlags } from "./commands/legacy.ts";
import { DoctorCommand } from "./commands/doctor.ts";
import { ListCommand } from "./commands/list.ts";
import { RestoreCommand } from "./commands/restore.ts";
import { SyncCommand } from "./commands/sync.ts";
import { VerifyCommand } from "./commands/verify.ts";
import { VersionCommand } from "./commands/version.ts";
import { BackupError } from "./errors.ts";

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

/** A reader that went away is no failure of ours: nobody is left to tell. */
function ignoreBrokenPipes(): void {
  for (const stream of [process.stdout, process.stderr]) {
    stream.on("error", (error: NodeJS.ErrnoException) => {
      if (error.code !== "EPIPE") throw error;
    });
  }
}

/** The first line of what the parser has to say; the rest is usage, which \`--help\` tells better. */
function explainUsage(error: unknown): string {
  const [line = ""] = (error instanceof Error ? error.message : String(error)).split("\n");
  const reason = line.startsWith("Command not found") ? "these words make no command" : line.replace(/\.$/, "");
  return `${reason}: ${NAME} --help shows what there is`;
}

async function main(argv: string[]): Promise<number> {
  ignoreBrokenPipes();
  const { version } = JSON.parse(readFileSync(new URL("../../package.json", import.meta.url), "utf8")) as { version: string };
  const stopped = listenForSignals();
  const colours = isatty(process.stdout.fd) && (process.env["NO_COLOR"] ?? "") === "" && process.env["TERM"] !== "dumb";
  const commands = [SyncCommand, ListCommand, RestoreCommand, VerifyCommand, DoctorCommand, VersionCommand];
  const cli = Cli.from(commands, {
    binaryName: NAME,
    binaryLabel: NAME,
    binaryVersion: version,
    enableColors: colours,
  });
  const context = {
    env: process.env,
    stdin: process.stdin,
    stdout: process.stdout,
    stderr: process.stderr,
    colorDepth: colours ? 8 : 1,
    signal: stopped.signal,
    now: () => performance.now(),
    tool: `${NAME}/${version}`,
  };
  if (argv.length === 0 || (argv.length === 1 && /^(-h|--help)$/.test(argv[0] ?? ""))) {
    process.stdout.write(cli.usage(null));
    return argv.length === 0 ? 2 : 0;
  }
  let command;
  try {
    command = cli.process(joinLegacyFlags(argv), context);
  } catch (error) {
    process.stderr.write(`error: ${explainUsage(error)}\n`);
    return 2;
  }
  const code = await cli.run(command, context);
  return code === 0 ? 0 : (stopped.exitCode() ?? code);
}

process.exitCode = await main(process.argv.slice(2));
setTimeout(() => process.exit(), LINGER_MS).unref();
