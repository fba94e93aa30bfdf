import { pino, type DestinationStream, type Level, type Logger } from "pino";
import { printable } from "./format.ts";
import type { Screen } from "./screen.ts";

export type { Logger } from "pino";

export type LogFormat = "auto" | "text" | "json";

export interface LogOptions {
  readonly level: Level;
  readonly format: LogFormat;
  /** Identifies this run in every line. */
  readonly run: string;
  /** Where lines go instead of the screen: a program that takes `<priority>text` lines, such as logger(1). */
  readonly syslog: DestinationStream | null;
}

/** Syslog severities of pino's levels. */
const severities: Readonly<Record<string, number>> = { fatal: 2, error: 3, warn: 4, info: 6, debug: 7, trace: 7 };

const colours: Readonly<Record<string, string>> = { fatal: "31", error: "31", warn: "33", debug: "2", trace: "2" };

/** Fields that carry a secret if anything does; they are never written. */
const secrets = ["secretAccessKey", "sessionToken", "password", "token", "secret", "identity"];

/** The log: short text on a terminal, one JSON object a line elsewhere; or the syslog, with real priorities. */
export function openLog(screen: Screen, options: LogOptions): Logger {
  const text = options.syslog !== null || options.format === "text" || (options.format === "auto" && screen.interactive);
  const paths = secrets.flatMap((name) => [name, `*.${name}`, `*.*.${name}`]);
  return pino(
    {
      level: options.level,
      base: text ? null : { run: options.run },
      timestamp: text ? false : pino.stdTimeFunctions.isoTime,
      formatters: { level: (label) => ({ level: label }) },
      redact: { paths, censor: "[redacted]" },
    },
    { write: (line) => { write(line, screen, text, options.syslog); } },
  );
}

function write(line: string, screen: Screen, text: boolean, syslog: DestinationStream | null): void {
  if (!text) {
    screen.line(line.trimEnd());
    return;
  }
  const { level, message } = toText(line);
  if (syslog !== null) syslog.write(`<${severities[level] ?? 6}>${message}\n`);
  else screen.line(decorate(level, message, screen.coloured));
}

function decorate(level: string, message: string, coloured: boolean): string {
  const label = level === "info" ? "" : level === "warn" ? "warning: " : `${level}: `;
  const colour = colours[level];
  return coloured && colour !== undefined ? `\u001b[${colour}m${label}\u001b[0m${message}` : label + message;
}

/** A line of pino as a sentence with its fields behind it. */
function toText(line: string): { readonly level: string; readonly message: string } {
  const { level, msg, err, ...fields } = JSON.parse(line) as Record<string, unknown>;
  const stack = typeof err === "object" && err !== null && "stack" in err ? `\n${String(err.stack)}` : "";
  const details = Object.entries(fields).map(([name, value]) => `${name}=${printable(toFieldText(value))}`);
  return { level: String(level), message: [printable(String(msg)), ...details].join("  ") + stack };
}

function toFieldText(value: unknown): string {
  return typeof value === "string" ? value : JSON.stringify(value);
}
