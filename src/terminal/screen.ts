// The lines on stderr, and the status line below them.

import type { Writable } from "node:stream";
import { printable, printableLines } from "./format.ts";

/** A stream to a person or a file. `columns` is undefined where there is no terminal. */
export type Terminal = Writable & { readonly isTTY?: boolean; readonly columns?: number };

/** The lines that a person sees, and one status line below them that is redrawn in place. */
export interface Screen {
  readonly interactive: boolean;
  /** True when colour is wanted: a terminal, no NO_COLOR, and TERM is not dumb. */
  readonly coloured: boolean;
  /**
   * Writes a line, or several, above the status line.
   * @param prefix - stands before it unchanged, including colours
   */
  line(text: string, prefix?: string): void;
  /** Replaces the status line; null removes it. Does nothing where there is no terminal. */
  status(text: string | null): void;
  /** Runs `write` while the status line is away, for output to another stream on the same terminal. */
  aside(write: () => void): void;
}

export function openScreen(stream: Terminal, env: Readonly<Record<string, string | undefined>>): Screen {
  const interactive = stream.isTTY === true && env["TERM"] !== "dumb";
  let shown: string | null = null;
  let drawn = 0;
  const erase = (): void => {
    if (shown === null) return;
    // A terminal that has become narrower since has split the line into several.
    const above = Math.ceil(drawn / widthOf(stream)) - 1;
    stream.write(above > 0 ? `\r\u001b[${above}A\u001b[J` : "\r\u001b[K");
  };
  const draw = (): void => {
    if (shown === null) return;
    const text = shown.slice(0, widthOf(stream) - 1);
    drawn = text.length;
    stream.write(text);
  };
  const aside = (write: () => void): void => {
    erase();
    write();
    draw();
  };
  return {
    interactive,
    coloured: interactive && (env["NO_COLOR"] ?? "") === "",
    line: (text, prefix = "") => {
      aside(() => stream.write(`${prefix}${printableLines(text)}\n`));
    },
    status: (text) => {
      if (!interactive) return;
      erase();
      shown = text === null ? null : printable(text);
      draw();
    },
    aside,
  };
}

/** A terminal that does not know its width, such as a serial line, reports 0. */
function widthOf({ columns }: Terminal): number {
  return columns === undefined || columns === 0 ? 80 : columns;
}
