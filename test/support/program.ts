// The program as it is published, bundled from what is compiled now: see .ci/program.mjs. Tests start it thousands of
// times, and so it starts with half of the CPU time.

import { mkdtemp, rm } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { run } from "./loopback.ts";

const DIST = fileURLToPath(new URL("../..", import.meta.url));

export interface Program {
  /** The file that node is started with. */
  readonly main: string;
  close(): Promise<void>;
}

export async function bundleProgram(): Promise<Program> {
  const directory = await mkdtemp(join(DIST, "program-"));
  await run(process.execPath, join(DIST, "../.ci/program.mjs"), directory);
  return { main: join(directory, "main.js"), close: () => rm(directory, { recursive: true }) };
}
