// How the cost of work grows with its size, told apart by far: in time of the processor, whatever else this machine does.

import assert from "node:assert/strict";

/** Costs that cannot be told apart, in ms. */
const NOTHING_MS = 30;
const ATTEMPTS = 5;

/**
 * Asserts that the larger piece of work costs less than so many times as much as the smaller one. Collecting garbage and
 * sharing a core can multiply the cost of a run, and the first ones are compiled: the least of several counts.
 *
 * @param most - far above what the right algorithm needs, and far below what the wrong one would
 */
export function assertGrowth(name: string, small: () => unknown, large: () => unknown, most: number): void {
  let [one, many] = [Infinity, Infinity];
  for (let attempt = 1; attempt <= ATTEMPTS; attempt += 1) {
    for (let warm = 0; warm < 5; warm += 1) one = Math.min(one, costOf(small));
    many = Math.min(many, costOf(large));
    if (many < most * one + NOTHING_MS) return;
  }
  assert.fail(`${name}: ${one} ms, and ${many} ms for the larger one, which is more than ${most} times as much`);
}

function costOf(work: () => unknown): number {
  const before = process.cpuUsage();
  work();
  const { user, system } = process.cpuUsage(before);
  return (user + system) / 1000;
}
