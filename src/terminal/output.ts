import type { Writable } from "node:stream";
import { formatTable, printable, printableJson } from "./format.ts";
import type { Screen } from "./screen.ts";

/** The result, on stdout: lines for people, or JSON for programs, never both. */
export interface Output {
  readonly json: boolean;
  /** A line for people. */
  line(text?: string): void;
  /** A table for people. */
  table(rows: readonly (readonly string[])[], right?: readonly number[]): void;
  /** One JSON document or one JSON line for programs. */
  record(value: Readonly<Record<string, unknown>>): void;
}

export function openOutput(stdout: Writable, screen: Screen, { json, quiet = false }: { readonly json: boolean; readonly quiet?: boolean }): Output {
  const write = (text: string): void => {
    screen.aside(() => stdout.write(`${text}\n`));
  };
  return {
    json,
    line: (text = "") => {
      if (!json && !quiet) write(printable(text));
    },
    table: (rows, right) => {
      if (!json && !quiet) for (const row of formatTable(rows.map((row) => row.map(printable)), right)) write(row);
    },
    record: (value) => {
      if (json) write(printableJson(JSON.stringify(value)));
    },
  };
}
