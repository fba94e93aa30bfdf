// The facts that a campaign knows without asking the program: eyes.py reads the store's files and the kernel's own words.

import { spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { SYSTEM_PYTHON } from "../support/swift.ts";

/** Beside the source: the compiled file lies in dist/test/campaign/. */
const SCRIPT = fileURLToPath(new URL("../../../test/campaign/eyes.py", import.meta.url));

/** One object, as a storage node holds it. */
export interface StoredObject {
  /** `/ACCOUNT/CONTAINER/OBJECT` */
  readonly name: string;
  readonly file: string;
  /** The present size of the file. */
  readonly bytes: number;
  /** As long as it was when it was stored. */
  readonly length: number;
  readonly etag: string;
  /** User metadata without its prefix. */
  readonly metadata: Readonly<Record<string, string>>;
  /** The segments of a static large object; null for any other. */
  readonly segments: readonly Segment[] | null;
}

export interface Segment {
  /** `/CONTAINER/OBJECT` */
  readonly name: string;
  readonly bytes: number;
  readonly etag: string;
}

/** A subvolume, by the kernel. */
export interface SeenSubvolume {
  /** Relative to the mount point. */
  readonly path: string;
  readonly id: number;
  readonly readOnly: boolean;
  readonly uuid: string;
  readonly parentUuid: string | null;
  readonly receivedUuid: string | null;
  readonly ctransid: number;
  readonly otransid: number;
  readonly stransid: number;
  readonly rtransid: number;
}

export interface Eyes {
  /** Every object of the Swift in this directory. */
  stored(directory: string): Promise<readonly StoredObject[]>;
  subvolumes(mountPoint: string): Promise<readonly SeenSubvolume[]>;
  /** One hash of all that a send stream carries of a tree. */
  digest(directory: string): Promise<string>;
  /** The differences between two trees that were hashed before. */
  compare(a: string, b: string): Promise<readonly string[]>;
  make(
    directory: string,
    options: { readonly seed: number; readonly files: number; readonly bytes: number; readonly zoo: boolean },
  ): Promise<void>;
  change(directory: string, seed: number): Promise<void>;
  close(): Promise<void>;
}

export function openEyes(): Eyes {
  const child = spawn("setpriv", ["--pdeathsig", "KILL", "--", SYSTEM_PYTHON, SCRIPT], {
    // A group of its own: Ctrl-C is for the campaign, which then ends in order.
    detached: true,
    stdio: ["pipe", "pipe", "inherit"],
  });
  const answers = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  let last: Promise<unknown> = Promise.resolve();
  // One at a time: answers come in the order of the questions.
  async function ask(request: Readonly<Record<string, unknown>>): Promise<unknown> {
    const before = last;
    const asked = (async () => {
      await before.catch(() => undefined);
      child.stdin.write(`${JSON.stringify(request)}\n`);
      const line = await answers.next();
      if (line.done === true) throw new Error("the observer ended");
      const answer = JSON.parse(line.value) as { readonly ok?: unknown; readonly error?: string };
      if (answer.error !== undefined) throw new Error(`${String(request["do"])}: ${answer.error}`);
      return answer.ok;
    })();
    last = asked;
    return await asked;
  }
  return {
    stored: async (directory) => (await ask({ do: "stored", directory })) as readonly StoredObject[],
    subvolumes: async (directory) => (await ask({ do: "subvolumes", directory })) as readonly SeenSubvolume[],
    digest: async (directory) => (await ask({ do: "digest", directory })) as string,
    compare: async (a, b) => (await ask({ do: "compare", a, b })) as readonly string[],
    async make(directory, options) {
      await ask({ do: "make", directory, ...options });
    },
    async change(directory, seed) {
      await ask({ do: "change", directory, seed });
    },
    async close() {
      child.stdin.end();
      if (child.exitCode === null && child.signalCode === null) await once(child, "exit");
    },
  };
}
