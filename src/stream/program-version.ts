// What programs say of themselves.

import { BackupError } from "../errors.ts";
import { describeExit, type Exit } from "./exit.ts";
import { runToEnd } from "./process.ts";

/** All that a program prints for --version. @throws CONFIG when it is not installed or refuses; ABORTED */
export async function readVersionText(program: string, signal: AbortSignal): Promise<string> {
  const failure = (exit: Exit): BackupError => new BackupError("CONFIG", `${program} --version ${describeExit(exit)}`);
  return await runToEnd({ program, args: ["--version"], failure }, signal);
}
