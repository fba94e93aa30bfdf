// The result of a command, on stdout.

import type { Writable } from "node:stream";
import { formatTable, printable, printableJson, type TableLayout } from "./format.ts";
import type { Screen } from "./screen.ts";

/** The result, on stdout: lines for people, or JSON for programs, never both. */
export interface Output {
  readonly json: boolean;
  /** A line for people. */
  line(text?: string): void;
  /** A table for people, as wide as needed. */
  table(rows: readonly (readonly string[])[], layout?: TableLayout): void;
  /** A line of a JSON document that is the result in any case. */
  text(json: string): void;
  /** One JSON document or one JSON line for programs. */
  record(value: Readonly<Record<string, unknown>>): void;
}

export interface OutputOptions {
  readonly json: boolean;
  readonly quiet?: boolean;
  /** The width that tables have to fit; 80 by default. */
  readonly columns?: number;
}

export function openOutput(
  stdout: Writable,
  screen: Screen,
  { json, quiet = false, columns = 80 }: OutputOptions,
): Output {
  const write = (text: string): void => {
    screen.aside(() => stdout.write(`${text}\n`));
  };
  return {
    json,
    line: (text = "") => {
      if (!json && !quiet) write(printable(text));
    },
    table: (rows, layout) => {
      if (!json && !quiet)
        for (const row of formatTable(
          rows.map((row) => row.map(printable)),
          layout,
          columns,
        ))
          write(row);
    },
    text: (json) => write(printableJson(json)),
    record: (value) => {
      if (json) write(printableJson(JSON.stringify(value)));
    },
  };
}
