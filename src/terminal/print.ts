// Writes to a standard stream before the log or the result is open, or without them.

import type { Writable } from "node:stream";
import { printable } from "./format.ts";

/**
 * Writes one line without any character that a terminal obeys, because it may contain names and messages of others. A
 * newline in one of them begins no other line.
 */
export function printLine(stream: Writable, text: string): void {
  stream.write(`${printable(text)}\n`);
}

/** Writes a text made only of this program's own words, such as its help, including colours. */
export function printOwnText(stream: Writable, text: string): void {
  stream.write(text);
}
