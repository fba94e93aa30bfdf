// Whether what is to be sent fits the quotas that can be seen.

import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { describeSubject, findScarceBytes, findScarceObjects, isFull, type Quota } from "../../src/plan/quota.ts";

const quota = (changes: Partial<Quota>): Quota => ({
  of: "container", name: "backup", usedBytes: 0, quotaBytes: null, usedObjects: 0, quotaObjects: null, ...changes,
}); // prettier-ignore

describe("a quota", () => {
  const account = quota({ of: "account", name: null, usedBytes: 90, quotaBytes: 100 });
  const segments = quota({ name: "backup+segments", usedBytes: 95, quotaBytes: 100 });
  const own = quota({ usedBytes: 99, quotaBytes: 100, usedObjects: 4, quotaObjects: 6 });
  const quotas = [account, own, segments];

  test("in bytes is the one that leaves the least of those in which the parts lie", () => {
    const scarce = findScarceBytes(quotas, { bytes: 7, exact: true }, "backup");
    assert.deepEqual(
      [scarce?.left, scarce === null ? "" : describeSubject(scarce.quota)],
      [5, "the container backup+segments"],
    );
    assert.equal(findScarceBytes(quotas, { bytes: 5, exact: true }, "backup"), null);
    assert.equal(findScarceBytes(quotas, null, "backup"), null);
    assert.equal(findScarceBytes([quota({})], { bytes: 7, exact: true }, "backup"), null);
  });
  test("in objects is that of the container itself", () => {
    assert.equal(findScarceObjects(quotas, 3, "backup")?.left, 2);
    assert.equal(findScarceObjects(quotas, 2, "backup"), null);
    assert.equal(findScarceObjects([account], 2, "backup"), null);
  });
  test("is full in bytes or in objects", () => {
    assert.deepEqual([...quotas, quota({ usedObjects: 1, quotaObjects: 1 })].map(isFull), [false, false, false, true]);
    assert.equal(describeSubject(account), "the account");
  });
});
