// Chooses how many parts are in flight: no more than the line needs. An interruption loses the parts in flight, and on
// a slow line those took much time: there few parts are sent at once. Where each connection has a limit of its own,
// more connections are faster: then it uses as many as are allowed.

import type { Log } from "../retry-strategy.ts";

/** The bytes in flight should not take longer than this to be sent. */
const IN_FLIGHT_MS = 30_000;

/** A line that is so much faster with one part more in flight is worth it. */
const GAIN = 1.25;

/** The bytes that a new connection takes at first fill buffers: they do not measure the line. */
const SETTLE_MS = 5_000;
/** A rate is that of so many milliseconds. */
const WINDOW_MS = 15_000;
/** More than buffers hold: a line that takes so much on each connection sooner is a fast one. */
const BEYOND_BUFFERS_BYTES = 4 * 1024 * 1024;

/** A measurement older than this does not describe the line of today. */
const REMEMBERED_MS = 30 * 60_000;

/** The parts of an upload. */
export interface PartLimits {
  readonly partBytes: number;
  /** Parts that may be in flight at most. */
  readonly most: number;
}

/** Bytes per second, by the number of parts that were in flight. */
export type Rates = ReadonlyMap<number, number>;

/** How many parts to have in flight after so many, given the measurements of the line. */
export function chooseParallelism(current: number, rates: Rates, { partBytes, most }: PartLimits): number {
  const rate = rates.get(current);
  if (rate === undefined) return Math.min(current, most);
  const affordable = affordableParts(rate, partBytes);
  if (affordable > current) return Math.min(affordable, most);
  const [fewer, more] = [rates.get(current - 1), rates.get(current + 1)];
  if (current > 1 && affordable < current && (fewer === undefined || rate < fewer * GAIN)) return current - 1;
  if (current < most && (more === undefined || more >= rate * GAIN)) return current + 1;
  return Math.min(current, most);
}

function affordableParts(rate: number, partBytes: number): number {
  return Math.floor((rate * IN_FLIGHT_MS) / 1000 / partBytes);
}

/**
 * Lets parts into the line. It lasts as long as the container is open: the next upload starts with the known
 * measurements.
 */
export interface Parallelism {
  /** Runs a task that sends a part, once that part may be in flight; in the order in which they come. */
  withPart<Result>(limits: PartLimits, task: () => Promise<Result>): Promise<Result>;
  /** The highest recent measurement, in bytes per second; null without any. */
  rate(): number | null;
  /** So many bytes more have left. */
  moved(bytes: number): void;
}

interface Measured {
  readonly rate: number;
  readonly at: number;
}

function recentRates(measured: ReadonlyMap<number, Measured>, now: number): Rates {
  const recent = [...measured].filter(([, { at }]) => now - at < REMEMBERED_MS);
  return new Map(recent.map(([parts, { rate }]) => [parts, rate]));
}

function highestOf(rates: Rates): number | null {
  return rates.size === 0 ? null : Math.max(...rates.values());
}

/** @param now - milliseconds of a clock that never steps back */
export function openParallelism(now: () => number, log?: Log): Parallelism {
  const measured = new Map<number, Measured>();
  const waiting: (() => void)[] = [];
  const meter = openMeter(now);
  let limits: PartLimits = { partBytes: Infinity, most: 1 };
  let [allowed, inFlight] = [1, 0];

  function admit(): void {
    while (inFlight < allowed && waiting.length > 0) {
      inFlight += 1;
      waiting.shift()?.();
    }
    // With fewer in flight it is not the line that is measured.
    if (inFlight === allowed) meter.begin();
    else meter.end();
  }

  function decide(rate: number): void {
    measured.set(allowed, { rate, at: now() });
    const chosen = chooseParallelism(allowed, recentRates(measured, now()), limits);
    if (chosen !== allowed) log?.debug({ parts: chosen, bytesPerSecond: Math.round(rate) }, "parts in flight at once");
    allowed = chosen;
    meter.end();
    admit();
  }

  return {
    async withPart(itsLimits, task) {
      limits = itsLimits;
      allowed = Math.min(allowed, limits.most);
      const admitted = new Promise<void>((resolve) => waiting.push(resolve));
      admit();
      await admitted;
      try {
        return await task();
      } finally {
        inFlight -= 1;
        admit();
      }
    },
    rate: () => highestOf(recentRates(measured, now())),
    moved(bytes) {
      const seen = meter.moved(bytes);
      if (seen === null) return;
      const isFast = allowed < limits.most && affordableParts(seen.rate, limits.partBytes) > allowed;
      if (seen.isSettled || (isFast && seen.bytes >= allowed * BEYOND_BUFFERS_BYTES)) decide(seen.rate);
    },
  };
}

/** A time in which as many parts were in flight as may be. */
interface Window {
  readonly since: number;
  readonly isSettled: boolean;
  readonly bytes: number;
}

interface Seen {
  readonly bytes: number;
  /** Bytes per second. */
  readonly rate: number;
  /** True when it is the rate of the line; before, buffers may have taken all. */
  readonly isSettled: boolean;
}

function openMeter(now: () => number) {
  let window: Window | null = null;
  return {
    /** Does nothing while it measures already. */
    begin(): void {
      window ??= { since: now(), isSettled: false, bytes: 0 };
    },
    end(): void {
      window = null;
    },
    /** The measurements so far; null while nothing is measured. */
    moved(more: number): Seen | null {
      if (window === null) return null;
      const [at, bytes] = [now(), window.bytes + more];
      const elapsed = at - window.since;
      const isSettled = window.isSettled && elapsed >= WINDOW_MS;
      window =
        window.isSettled || elapsed < SETTLE_MS ? { ...window, bytes } : { since: at, isSettled: true, bytes: 0 };
      return { bytes, rate: (bytes * 1000) / Math.max(elapsed, 1), isSettled };
    },
  };
}
