// What a sync does about quotas before it sends anything.

import { BackupError } from "../errors.ts";
import type { Estimate } from "../plan/model.ts";
import { isFull, scarceBytes } from "../plan/quota.ts";
import { formatBytes } from "../terminal/format.ts";
import type { House } from "./session.ts";

/** As far as quotas can be seen. @throws QUOTA_EXCEEDED when nothing more can be stored */
export async function lookAtQuotas(
  toSend: Estimate | null,
  makeRoom: () => Promise<void>,
  house: House,
): Promise<void> {
  let quotas = await house.quotas();
  if (quotas.some(isFull)) {
    await makeRoom();
    quotas = await house.quotas();
  }
  const full = quotas.find(isFull);
  if (full !== undefined) {
    throw new BackupError("QUOTA_EXCEEDED", `the quota of the ${full.of} is used up: nothing was sent`, {
      hint: "have the quota raised, or delete archives that nobody needs",
      context: { ...full },
    });
  }
  const left = scarceBytes(quotas, toSend);
  if (left === null || toSend === null) return;
  house.log.warn(
    `the quota of the account leaves ${formatBytes(left)}, and up to ${formatBytes(toSend.bytes)} are to be sent`,
  );
}
