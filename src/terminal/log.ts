// The log, by pino. Fields that may carry a secret are never written.

import { pino, type DestinationStream, type Level, type Logger } from "pino";
import { printable, printableJson, printableLines } from "./format.ts";
import type { Screen } from "./screen.ts";

export type { Logger } from "pino";

export type LogFormat = "text" | "json";

/** Where lines go. Targets other than the screen take `<priority>text` lines. */
export type LogTarget =
  | { readonly to: "screen" }
  /** Stderr leads to the journal of systemd. */
  | { readonly to: "journal" }
  /** A program such as logger(1). */
  | { readonly to: "syslog"; readonly sink: DestinationStream };

export interface LogOptions {
  readonly level: Level;
  readonly format: LogFormat;
  /** Identifies this run in every line. */
  readonly run: string;
  readonly target: LogTarget;
}

/** Syslog severities of pino's levels. */
const severities: Readonly<Record<string, number>> = { fatal: 2, error: 3, warn: 4, info: 6, debug: 7, trace: 7 };

const colours: Readonly<Record<string, string>> = { fatal: "31", error: "31", warn: "33", debug: "2", trace: "2" };

/** Fields that may carry a secret; they are never written. */
const secrets = ["secretAccessKey", "sessionToken", "password", "token", "secret", "identity"];

/**
 * Opens the log: short text, which people also read in mail from cron, or one JSON object per line. In the syslog and
 * in the journal, lines have real priorities.
 */
export function openLog(screen: Screen, options: LogOptions): Logger {
  const { format, target } = options;
  const text = format === "text";
  const paths = secrets.flatMap((name) => [name, `*.${name}`, `*.*.${name}`]);
  return pino(
    {
      level: options.level,
      base: text ? null : { run: options.run },
      timestamp: text ? false : pino.stdTimeFunctions.isoTime,
      formatters: { level: (label) => ({ level: label }) },
      redact: { paths, censor: "[redacted]" },
    },
    {
      write: (line) => {
        write(line, text, target, screen);
      },
    },
  );
}

function write(line: string, text: boolean, target: LogTarget, screen: Screen): void {
  const { level, message } = text ? toText(line) : { level: levelOf(line), message: printableJson(line.trimEnd()) };
  if (target.to === "screen") {
    screen.line(message, text ? labelOf(level, screen.coloured) : "");
    return;
  }
  // The journal would treat a line without a priority as a separate message.
  const lines = message.split("\n").map((each) => `<${severities[level] ?? 6}>${each}\n`);
  if (target.to === "syslog") target.sink.write(lines.join(""));
  else screen.line(lines.join("").trimEnd());
}

function levelOf(line: string): string {
  return String((JSON.parse(line) as Record<string, unknown>)["level"]);
}

function labelOf(level: string, coloured: boolean): string {
  const label = level === "info" ? "" : level === "warn" ? "warning: " : `${level}: `;
  const colour = colours[level];
  return coloured && colour !== undefined ? `\u001b[${colour}m${label}\u001b[0m` : label;
}

/** Formats a line of pino as a sentence followed by its fields. */
function toText(line: string): { readonly level: string; readonly message: string } {
  const { level, msg, err, ...fields } = JSON.parse(line) as Record<string, unknown>;
  const stack =
    typeof err === "object" && err !== null && "stack" in err ? `\n${printableLines(String(err.stack))}` : "";
  const details = Object.entries(fields).map(([name, value]) => `${name}=${printable(toFieldText(value))}`);
  return { level: String(level), message: [printable(String(msg)), ...details].join("  ") + stack };
}

function toFieldText(value: unknown): string {
  return typeof value === "string" ? value : JSON.stringify(value);
}
