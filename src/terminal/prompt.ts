import { createInterface } from "node:readline";
import type { Readable, Writable } from "node:stream";
import { printable } from "./format.ts";

/**
 * Asks until the answer is y, yes, n, no or Enter (yes), in any case. The end of the input counts as no, because nobody
 * agreed. @throws the signal's reason
 */
export async function confirm(
  question: string,
  streams: { readonly input: Readable; readonly output: Writable },
  signal: AbortSignal,
): Promise<boolean> {
  const { input, output } = streams;
  const lines = createInterface({ input, terminal: false, signal });
  const asked = `${printable(question)} [Y/n] `;
  output.write(asked);
  try {
    for await (const answer of lines) {
      if (/^\s*(y|yes)?\s*$/i.test(answer)) return true;
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
