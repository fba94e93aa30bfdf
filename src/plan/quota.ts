// Whether what is to be sent fits the quotas of the store, as far as they can be seen.

import type { Estimate } from "./model.ts";

/** What is used and what may be, of an account or of a container. */
export interface Quota {
  readonly of: "account" | "container";
  /** Of the container; null for the account. */
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

/**
 * The bytes that are left when what is to be sent may not fit them; null when it does, or nobody knows. A container's quota
 * in bytes does not count the parts of its objects, which lie in another container.
 */
export function scarceBytes(quotas: readonly Quota[], toSend: Estimate | null): number | null {
  const [account] = quotas.filter(({ of }) => of === "account");
  if (toSend === null || account?.quotaBytes == null) return null;
  const left = Math.max(0, account.quotaBytes - account.usedBytes);
  return toSend.bytes > left ? left : null;
}
