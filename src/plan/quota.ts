// Checks whether the planned uploads fit the quotas of the store, as far as they can be seen.

import type { Estimate } from "./model.ts";

/** The usage and the quota of an account or of a container. */
export interface Quota {
  readonly of: "account" | "container";
  /** The container's name; null for the account. */
  readonly name: string | null;
  readonly usedBytes: number;
  /** Null: there is none. */
  readonly quotaBytes: number | null;
  readonly usedObjects: number;
  /** Null: there is none. */
  readonly quotaObjects: number | null;
}

/** True when nothing more can be stored. */
export function isFull({ usedBytes, quotaBytes, usedObjects, quotaObjects }: Quota): boolean {
  return (quotaBytes !== null && usedBytes >= quotaBytes) || (quotaObjects !== null && usedObjects >= quotaObjects);
}

/** The advice where there is no room. */
export const MAKE_ROOM = "have the quota raised, or delete archives that nobody needs";

/** The name of a quota's subject in messages. */
export function describeSubject({ name }: Quota): string {
  return name === null ? "the account" : `the container ${name}`;
}

/** The room that a quota leaves. */
export interface Scarcity {
  readonly quota: Quota;
  readonly left: number;
}

/**
 * The quota that leaves the fewest bytes, when the planned uploads may not fit; null when they fit, or nobody knows.
 * @param container - its own quota in bytes does not count the parts of its objects, which lie in another container
 */
export function findScarceBytes(quotas: readonly Quota[], toSend: Estimate | null, container: string): Scarcity | null {
  if (toSend === null) return null;
  const limiting = quotas.filter(({ name }) => name !== container);
  return scarcest(limiting, toSend.bytes, ({ quotaBytes, usedBytes }) => leftOf(quotaBytes, usedBytes));
}

/** The quota of the container, when it leaves fewer objects than there are archives to send; null when it does not. */
export function findScarceObjects(quotas: readonly Quota[], archives: number, container: string): Scarcity | null {
  const own = quotas.filter(({ name }) => name === container);
  return scarcest(own, archives, ({ quotaObjects, usedObjects }) => leftOf(quotaObjects, usedObjects));
}

function leftOf(quota: number | null, used: number): number {
  return quota === null ? Infinity : Math.max(0, quota - used);
}

function scarcest(quotas: readonly Quota[], wanted: number, leftBy: (quota: Quota) => number): Scarcity | null {
  const [least] = quotas.map((quota) => ({ quota, left: leftBy(quota) })).sort((a, b) => a.left - b.left);
  return least === undefined || wanted <= least.left ? null : least;
}
