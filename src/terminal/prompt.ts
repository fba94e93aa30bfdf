// Questions that are answered with yes or no.

import { createInterface } from "node:readline";
import type { Readable, Writable } from "node:stream";
import { printable } from "./format.ts";

/** Where it is asked, and what Enter means. */
export interface Questions {
  readonly input: Readable;
  readonly output: Writable;
  readonly byDefault?: boolean;
}

/**
 * Asks until the answer is y, yes, n, no or Enter (by default yes), in any case. The end of the input counts as no, because
 * nobody agreed. @throws the signal's reason
 */
export async function confirm(question: string, streams: Questions, signal: AbortSignal): Promise<boolean> {
  const { input, output, byDefault = true } = streams;
  const lines = createInterface({ input, terminal: false, signal });
  const asked = `${printable(question)} ${byDefault ? "[Y/n]" : "[y/N]"} `;
  output.write(asked);
  try {
    for await (const answer of lines) {
      if (answer.trim() === "") return byDefault;
      if (/^\s*y(es)?\s*$/i.test(answer)) return true;
      if (/^\s*no?\s*$/i.test(answer)) return false;
      output.write(`please answer y or n\n${asked}`);
    }
    signal.throwIfAborted();
    return false;
  } finally {
    // Otherwise a terminal would keep the program running.
    lines.close();
  }
}
