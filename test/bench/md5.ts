// The cost of MD5: by node:crypto one message after another, and by the addon up to four of them side by side.
// In CPU time, so that what else the machine does counts little.
//
//   node dist/test/bench/md5.js

import { createHash } from "node:crypto";
import { md5s } from "../../src/addon/md5.ts";
import { median } from "./table.ts";

const MESSAGE_BYTES = 16 * 2 ** 20;
const ROUNDS = 15;

/** In memory that threads share, as the parts of an upload are. */
const messages = Array.from({ length: 4 }, (_, i) => Buffer.from(new SharedArrayBuffer(MESSAGE_BYTES)).fill(i + 1));

const ways: Readonly<Record<string, { readonly count: number; readonly work: () => unknown }>> = {
  "node:crypto": {
    count: 1,
    work: () =>
      createHash("md5")
        .update(messages[0] ?? "")
        .digest(),
  },
  "1 message": { count: 1, work: () => md5s(messages.slice(0, 1)) },
  "2 messages together": { count: 2, work: () => md5s(messages.slice(0, 2)) },
  "3 messages together": { count: 3, work: () => md5s(messages.slice(0, 3)) },
  "4 messages together": { count: 4, work: () => md5s(messages) },
};

async function cpuSeconds(work: () => unknown): Promise<number> {
  const before = process.cpuUsage();
  await work();
  const { user, system } = process.cpuUsage(before);
  return (user + system) / 1e6;
}

// In turns, so that a bad minute of the machine falls on all of them.
const times = new Map(Object.keys(ways).map((name) => [name, [] as number[]]));
for (let round = 0; round < ROUNDS; round++) {
  for (const [name, { count, work }] of Object.entries(ways)) {
    times.get(name)?.push(((await cpuSeconds(work)) * 2 ** 30) / (count * MESSAGE_BYTES));
  }
}
for (const [name, each] of times) {
  const [best, middle] = [Math.min(...each), median(each)];
  const [fastest, usual] = [best, middle].map(
    (seconds) => `${(1 / seconds).toFixed(2)} GiB/s (${seconds.toFixed(2)} s/GiB)`,
  );
  console.log(`${name.padEnd(24)} best ${fastest ?? ""}, median ${usual ?? ""}`);
}
