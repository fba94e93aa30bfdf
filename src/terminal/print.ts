// Writes to a standard stream before the log or the result is open, or without them.

import type { Writable } from "node:stream";
import { printableLines } from "./format.ts";

/** Writes lines without any character that a terminal obeys, because they may contain names and messages of others. */
export function printLines(stream: Writable, text: string): void {
  stream.write(`${printableLines(text)}\n`);
}

/** Writes a text made only of this program's own words, such as its help, including colours. */
export function printOwnText(stream: Writable, text: string): void {
  stream.write(text);
}
