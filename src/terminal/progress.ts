// The progress of transfers, on stderr.

import { formatBytes } from "./format.ts";
import type { Screen } from "./screen.ts";

/** Milliseconds between two drawings: fast enough to look alive, slow enough to cost nothing. */
const REDRAW_MS = 200;

/** While nothing moves, the display is refreshed this often (milliseconds), because an old rate would be a lie. */
const IDLE_MS = 1000;

/** Milliseconds between two lines where there is no terminal. */
const REPORT_MS = 30_000;

/** The rate covers the last so many milliseconds, so that a stall shows and a burst passes. */
const RATE_WINDOW_MS = 15_000;

/** Before this much time was measured, or with more than this left, an estimate does not help. */
const RATE_AFTER_MS = 2_000;
const TIME_LEFT_AT_MOST_MS = 99 * 3_600_000;

export interface Progress {
  /** Announces several transfers, of `total` bytes together; null when nobody knows. */
  expect(transfers: number, total: number | null): void;
  /** Begins a new transfer of `total` expected bytes; null when nobody knows. */
  start(label: string, total: number | null): void;
  /**
   * @param resumed - how many of the bytes were stored before
   * @param read - bytes read for the transfer; absent: the same
   */
  update(bytes: number, resumed?: number, read?: number): void;
  /** Ends the transfer. Safe to call twice. */
  stop(): void;
}

export interface ProgressOptions {
  /** Milliseconds of a clock that never steps back. */
  readonly now: () => number;
  /** Receives a line now and then where there is no terminal; null = no progress is wanted. */
  readonly report: ((line: string) => void) | null;
}

/** The facts about a transfer, or about several together. */
export interface Transfer {
  readonly bytes: number;
  /** Null when nobody knows. */
  readonly total: number | null;
  readonly resumed?: number;
  /** Bytes per second; null while too little is known. */
  readonly rate: number | null;
  /** True while data is read that will be transferred. */
  readonly isReading?: boolean;
}

/**
 * Opens the progress display. On a terminal it is one status line: the name, the bytes done and expected, the rate and
 * the time left, and for several transfers the share of all. Elsewhere it is a line every 30 s.
 */
export function openProgress(screen: Screen, { now, report }: ProgressOptions): Progress {
  const idle: Current = { label: "", total: 0, bytes: 0, resumed: 0 };
  let current = idle;
  let all: Overall = { transfers: 1, position: 0, total: null, done: 0 };
  let shownAt = 0;
  let timer: NodeJS.Timeout | null = null;
  const meter = openMeter(now);

  const describe = (): string => describeStatus(current, all, { rate: meter.rate(), isReading: meter.isReading() });
  const show = (): void => {
    shownAt = now();
    if (screen.interactive) screen.status(describe());
    else report?.(describe());
  };
  const reportIfDue = (): void => {
    if (report !== null && now() - shownAt >= (screen.interactive ? REDRAW_MS : REPORT_MS)) show();
  };
  return {
    expect(transfers, total) {
      all = { transfers, position: 0, total, done: 0 };
    },
    start(label, total) {
      current = { label, total, bytes: 0, resumed: 0 };
      all = { ...all, position: all.position + 1 };
      meter.start();
      shownAt = now();
      timer ??= setInterval(reportIfDue, IDLE_MS).unref();
      if (report !== null && screen.interactive) show();
    },
    update(bytes, resumed = 0, read = 0) {
      meter.move(bytes - resumed - (current.bytes - current.resumed), read);
      current = { ...current, bytes, resumed };
      reportIfDue();
    },
    stop() {
      clearInterval(timer ?? undefined);
      timer = null;
      // A transfer that is over counts with its expected size, so that the total reaches its end.
      all = { ...all, done: all.done + (current.total ?? current.bytes) };
      current = idle;
      screen.status(null);
    },
  };
}

interface Current extends Omit<Transfer, keyof Movement> {
  readonly label: string;
  readonly resumed: number;
}

type Movement = Required<Pick<Transfer, "rate" | "isReading">>;

/** Several transfers; those before the current one are done. */
interface Overall {
  readonly transfers: number;
  readonly position: number;
  readonly total: number | null;
  readonly done: number;
}

function describeStatus(current: Current, { transfers, position, total, done }: Overall, movement: Movement): string {
  const { label, bytes } = current;
  // Without a size it is no transfer.
  if (bytes === 0 && current.total === null) return label;
  // Names may be long, and the terminal's edge cuts the line: so names come last.
  if (transfers < 2) return `${describeTransfer({ ...current, ...movement })}: ${label}`;
  const one = describeTransfer({ ...current, rate: null });
  const overall = describeTransfer({ bytes: done + bytes, total, ...movement });
  return `${overall}; ${position} of ${transfers}: ${one}: ${label}`;
}

interface Meter {
  start(): void;
  /** @param read - bytes read so far for the transfer */
  move(bytes: number, read: number): void;
  rate(): number | null;
  isReading(): boolean;
}

/** Measures the rate. It continues over several transfers, and their pauses count. */
function openMeter(now: () => number): Meter {
  let moved = 0;
  let lastRead = { bytes: 0, at: -Infinity };
  const samples: { readonly at: number; readonly moved: number }[] = [];
  return {
    start() {
      lastRead = { bytes: 0, at: -Infinity };
      if (samples.length === 0) samples.push({ at: now(), moved });
    },
    move(bytes, read) {
      const at = now();
      if (read > lastRead.bytes) lastRead = { bytes: read, at };
      // Data that has to be sent again lowers the count, and is movement nevertheless.
      moved += Math.max(0, bytes);
      if (at - (samples.at(-1)?.at ?? -Infinity) < REDRAW_MS) return;
      samples.push({ at, moved });
      // The newest of the outdated samples stays: the window begins there.
      while (at - (samples[1]?.at ?? at) > RATE_WINDOW_MS) samples.shift();
    },
    isReading: () => now() - lastRead.at < RATE_WINDOW_MS,
    rate() {
      const first = samples.findLast(({ at }) => now() - at >= RATE_WINDOW_MS) ?? samples[0];
      const elapsed = now() - (first?.at ?? 0);
      return first === undefined || elapsed < RATE_AFTER_MS ? null : ((moved - first.moved) / elapsed) * 1000;
    },
  };
}

/** `12.3 MiB of 1.2 GiB (1 %), 34.5 MiB/s, 35 s left`; unknown values are left out. */
export function describeTransfer({ bytes, total, resumed = 0, rate, isReading = false }: Transfer): string {
  const parts = [
    total === null
      ? formatBytes(bytes)
      : `${formatBytes(bytes)} of ${formatBytes(total)} (${percentage(bytes, total)} %)`,
  ];
  if (resumed > 0) parts.push(`${formatBytes(resumed)} resumed`);
  if (rate !== null) parts.push(rate > 0 ? `${formatBytes(rate)}/s` : isReading ? "reading" : "stalled");
  const left = rate !== null && rate > 0 && total !== null && total > bytes ? ((total - bytes) / rate) * 1000 : null;
  if (left !== null && left <= TIME_LEFT_AT_MOST_MS) parts.push(`${describeTimeLeft(left)} left`);
  return parts.join(", ");
}

/** Rounds to what can be known: `5 s`, `40 s`, `3 min`, `2 h 10 min`. */
function describeTimeLeft(milliseconds: number): string {
  const seconds = Math.max(5, Math.ceil(milliseconds / 5000) * 5);
  if (seconds < 60) return `${seconds} s`;
  const minutes = Math.round(milliseconds / 60_000);
  if (minutes < 60) return `${Math.max(1, minutes)} min`;
  const tens = Math.round(minutes / 10);
  return `${Math.floor(tens / 6)} h${tens % 6 === 0 ? "" : ` ${(tens % 6) * 10} min`}`;
}

/** Never 100 before the end, and never more, because an estimate may be too low. */
function percentage(bytes: number, total: number): number {
  return bytes >= total ? (bytes === total ? 100 : 99) : Math.floor((bytes / total) * 100);
}
