// The clock of this machine, beside that of the store.

/** Dates of more than this are wrong enough for people to see it. */
const OFF_MS = 5 * 60_000;

/** True for a clock that somebody should set right. A run works nevertheless, because it uses the clock of the store. */
export function isClockOff(aheadMs: number): boolean {
  return Math.abs(aheadMs) >= OFF_MS;
}
