// What is written before there is a log or a result, or without them: the other ways to a standard stream.

import type { Writable } from "node:stream";
import { printableLines } from "./format.ts";

/** Writes lines, each without a character that a terminal obeys: names and messages of others may be in them. */
export function printLines(stream: Writable, text: string): void {
  stream.write(`${printableLines(text)}\n`);
}

/** Writes a text that this program has made of its own words alone, such as its help, with colours and all. */
export function printOwnText(stream: Writable, text: string): void {
  stream.write(text);
}
