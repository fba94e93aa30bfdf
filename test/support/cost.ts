// Work that has to grow with the number of archives, and not with the square of it. Time would not tell on a busy
// machine; what is read of them does.

import assert from "node:assert/strict";

const [FEW, MANY] = [400, 1600];
/** Four times as many, some of it to sort them. The square of it would be 16 times. */
const MOST = 6;

/** Counts from then on what is read of these. */
type Watch = <Item extends object>(items: readonly Item[]) => Item[];

/** Asserts that work on four times as many items reads about four times as many properties of them. */
export function assertInProportion(name: string, work: (size: number, watch: Watch) => unknown): void {
  const [few, many] = [readsOf(work, FEW), readsOf(work, MANY)];
  assert.ok(few >= FEW, `${name}: looks at ${few} properties of ${FEW}`);
  assert.ok(many < MOST * few, `${name}: reads ${few} properties of ${FEW}, and ${many} of ${MANY}`);
}

function readsOf(work: (size: number, watch: Watch) => unknown, size: number): number {
  let reads = 0;
  const counting: ProxyHandler<object> = {
    get: (item, name): unknown => {
      reads += 1;
      return Reflect.get(item, name);
    },
  };
  work(size, <Item extends object>(items: readonly Item[]) => items.map((item) => new Proxy<Item>(item, counting)));
  return reads;
}
