// The local syslog, by the program logger(1).

import { openSink } from "./process.ts";

/**
 * The local syslog, through logger(1): lines begin with `<priority>`. Lines that it cannot accept are lost without an
 * error, as syslog's are: a backup does not fail for want of a log.
 */
export function openSyslog(tag: string): { write(line: string): void; close(): Promise<void> } {
  return openSink({ program: "logger", args: ["--id", "--tag", tag, "--prio-prefix"] });
}
