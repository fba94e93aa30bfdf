// `--version`: prints the versions of the program and of everything that it uses.

import { addonVersions } from "../addon/load.ts";
import { BackupError, toBackupError } from "../errors.ts";
import { runToEnd } from "../stream/process.ts";
import { printLine } from "../terminal/print.ts";
import type { Context } from "./session.ts";

/** Prints the versions of this program and of the programs it needs; for a missing one, prints that it is missing. */
export async function printVersion({ stdout, tool, node, signal }: Context): Promise<number> {
  const [name = "", version = ""] = tool.split("/");
  const addon = readAddon();
  const lines = [
    `${name} ${version}`,
    `addon ${addon.napi}`,
    `libbtrfsutil ${addon.libbtrfsutil}`,
    `Node ${node}`,
    `btrfs-progs ${await readProgs(signal)}`,
  ];
  for (const line of lines) printLine(stdout, line);
  return 0;
}

function readAddon(): { readonly napi: string; readonly libbtrfsutil: string } {
  try {
    const { napi, libbtrfsutil } = addonVersions();
    return { napi: `for Node-API ${napi}`, libbtrfsutil };
  } catch (error) {
    return { napi: `missing: ${toBackupError(error).message}`, libbtrfsutil: "unknown" };
  }
}

async function readProgs(signal: AbortSignal): Promise<string> {
  const failure = (): BackupError => new BackupError("CONFIG", "btrfs --version failed");
  try {
    const text = await runToEnd({ program: "btrfs", args: ["--version"], failure }, signal);
    return /v(\S+)/.exec(text)?.[1] ?? text.trim();
  } catch (error) {
    return `missing: ${toBackupError(error).message}`;
  }
}
