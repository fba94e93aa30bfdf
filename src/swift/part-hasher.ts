// The MD5s of parts. MD5 costs more than all other work on a part, the network included, but several parts side by side
// cost hardly more than one. So parts wait for each other, as long as they come fast.

import { md5s } from "../addon/md5.ts";

/** How long a part waits for others. */
const WAIT_MS = 500;

export interface PartHasher {
  /** Answers come in the order of the questions. */
  md5(part: Buffer): Promise<Buffer>;
  /** Announces that no more parts will come. */
  flush(): void;
}

interface Waiting {
  readonly part: Buffer;
  resolve(md5: Buffer): void;
  reject(error: unknown): void;
}

/**
 * @param together - how many parts are hashed side by side
 * @param waitMs - how long a part waits for others
 */
export function openPartHasher(together: number, waitMs: number = WAIT_MS): PartHasher {
  let waiting: Waiting[] = [];
  let timer: NodeJS.Timeout | undefined;
  let last = Promise.resolve();

  function hash(): void {
    clearTimeout(timer);
    timer = undefined;
    const group = waiting;
    waiting = [];
    last = last.then(() => hashGroup(group));
  }

  return {
    md5: (part) =>
      new Promise((resolve, reject) => {
        waiting.push({ part, resolve, reject });
        if (waiting.length >= together) hash();
        else timer ??= setTimeout(hash, waitMs);
      }),
    flush: hash,
  };
}

async function hashGroup(group: readonly Waiting[]): Promise<void> {
  try {
    const found = await md5s(group.map(({ part }) => part));
    for (const [at, { resolve }] of group.entries()) resolve(found[at] ?? Buffer.alloc(0));
  } catch (error) {
    for (const { reject } of group) reject(error);
  }
}
