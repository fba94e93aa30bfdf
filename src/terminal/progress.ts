import { formatBytes, formatDuration } from "./format.ts";
import type { Screen } from "./screen.ts";

/** Milliseconds between two drawings: fast enough to look alive, slow enough to cost nothing. */
const REDRAW_MS = 200;

/** The rate is that of the last so many milliseconds, so that a stall shows and a burst passes. */
const RATE_WINDOW_MS = 10_000;

export interface Progress {
  /** A new transfer, of which `total` bytes are expected; null when nobody knows. */
  start(label: string, total: number | null): void;
  update(bytes: number): void;
  stop(): void;
}

/**
 * One status line on a terminal: what, how much of how much, how fast, how long still. Nothing elsewhere.
 * @param now - milliseconds of a clock that never steps back
 */
export function openProgress(screen: Screen, now: () => number): Progress {
  let label = "";
  let total: number | null = null;
  let drawn = 0;
  let samples: { readonly at: number; readonly bytes: number }[] = [];
  return {
    start(newLabel, newTotal) {
      label = newLabel;
      total = newTotal;
      drawn = 0;
      samples = [{ at: now(), bytes: 0 }];
      screen.status(label);
    },
    update(bytes) {
      const at = now();
      if (at - drawn < REDRAW_MS) return;
      drawn = at;
      samples.push({ at, bytes });
      while (samples.length > 2 && at - (samples[0]?.at ?? at) > RATE_WINDOW_MS) samples.shift();
      screen.status(`${label}  ${describeTransfer(bytes, total, rateOf(samples))}`);
    },
    stop() {
      screen.status(null);
    },
  };
}

/** Bytes per second between the first and the last sample; null while too little is known. */
function rateOf(samples: readonly { readonly at: number; readonly bytes: number }[]): number | null {
  const first = samples[0];
  const last = samples.at(-1);
  if (first === undefined || last === undefined || last.at - first.at < 1000) return null;
  return ((last.bytes - first.bytes) / (last.at - first.at)) * 1000;
}

/** `12.3 MiB of 1.2 GiB (1 %), 34.5 MiB/s, 35 s left`; what is not known is left out. */
export function describeTransfer(bytes: number, total: number | null, rate: number | null): string {
  const parts: string[] = [];
  if (total === null) parts.push(formatBytes(bytes));
  else parts.push(`${formatBytes(bytes)} of ${formatBytes(total)} (${percentage(bytes, total)} %)`);
  if (rate !== null) parts.push(`${formatBytes(rate)}/s`);
  if (rate !== null && rate > 0 && total !== null && total > bytes) {
    parts.push(`${formatDuration(((total - bytes) / rate) * 1000)} left`);
  }
  return parts.join(", ");
}

/** Never 100 before the end, and never more: an estimate may be short. */
function percentage(bytes: number, total: number): number {
  return bytes >= total ? (bytes === total ? 100 : 99) : Math.floor((bytes / total) * 100);
}
