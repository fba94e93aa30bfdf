// The program as users start it: a process with arguments and an environment, and its output.

import { spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";

/** The compiled program. */
export const MAIN = fileURLToPath(new URL("../../src/main.js", import.meta.url));

/** The same as it is published: bundled, by the last build. */
export const PUBLISHED = fileURLToPath(new URL("../../program/main.js", import.meta.url));

/** The same, bundled for the run when the suite runs: see program.ts. */
const PROGRAM = process.env["TEST_PROGRAM"] ?? MAIN;

export interface Ran {
  /** Exit status, or the name of the signal that ended it. */
  readonly code: number | string;
  readonly stdout: string;
  readonly stderr: string;
}

export interface Surroundings {
  /** The environment, beside PATH. */
  readonly env?: Readonly<Record<string, string>>;
  /** Its stdin; absent: nothing. */
  readonly input?: string;
  /** Called with the process once it runs, to disturb it. */
  readonly during?: (child: ChildProcess) => unknown;
}

/** Runs the program as cron does: no terminal, no input, hardly any environment. */
export async function cli(args: readonly string[], { env = {}, input, during }: Surroundings = {}): Promise<Ran> {
  const child = spawn(process.execPath, [PROGRAM, ...args], {
    env: { PATH: "/usr/bin:/bin", ...ownDirectories(env["HOME"]), ...env },
    stdio: [input === undefined ? "ignore" : "pipe", "pipe", "pipe"],
  });
  child.stdin?.end(input);
  return await outcome(child, during);
}

/** Root keeps nothing at home: tests do, and without one they keep nothing at all. */
function ownDirectories(home: string | undefined): Record<string, string> {
  const base = home ?? "/proc/nowhere";
  return {
    STATE_DIRECTORY: `${base}/.local/state/btrfs-snapshots-to-swift`,
    CACHE_DIRECTORY: `${base}/.cache/btrfs-snapshots-to-swift`,
  };
}

/** Runs the program on a terminal of its own, where somebody types `input`. Everything it shows is in stdout. */
export async function cliOnTerminal(
  args: readonly string[],
  input: string,
  env: Readonly<Record<string, string>>,
  prompt = "[Y/n]",
): Promise<Ran> {
  return await onTerminal([process.execPath, PROGRAM, ...args], { prompt, input }, env);
}

/** Runs any program so, where somebody types `input` each time that the prompt is shown. */
export async function onTerminal(
  words: readonly string[],
  { prompt, input }: { readonly prompt: string; readonly input: string },
  env: Readonly<Record<string, string>>,
): Promise<Ran> {
  const command = words.map((word) => `'${word}'`).join(" ");
  const child = spawn("script", ["--quiet", "--return", "--command", command, "/dev/null"], {
    env: { PATH: "/usr/bin:/bin", TERM: "xterm", ...ownDirectories(env["HOME"]), ...env },
    stdio: ["pipe", "pipe", "pipe"],
  });
  const answer = (chunk: Buffer): void => {
    if (chunk.includes(prompt)) child.stdin.write(input);
  };
  child.stdout.on("data", answer);
  return await outcome(child);
}

async function outcome(child: ChildProcess, during?: Surroundings["during"]): Promise<Ran> {
  let stdout = "";
  let stderr = "";
  child.stdout?.setEncoding("utf8").on("data", (text: string) => (stdout += text));
  child.stderr?.setEncoding("utf8").on("data", (text: string) => (stderr += text));
  during?.(child);
  const [status, signal] = (await once(child, "close")) as [number | null, string | null];
  return { code: status ?? signal ?? "", stdout, stderr };
}
