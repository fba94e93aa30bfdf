// Programs that a release is made with.

import { execFile } from "node:child_process";
import { promisify } from "node:util";

const start = promisify(execFile);

/** The standard output of a program. Rejects with all that it wrote when it fails. */
export async function run(program, args, options = {}) {
  try {
    const { stdout } = await start(program, args, { maxBuffer: 2 ** 26, ...options });
    return stdout;
  } catch (error) {
    throw new Error(`${program} failed: ${error.message}\n${error.stdout ?? ""}${error.stderr ?? ""}`);
  }
}
