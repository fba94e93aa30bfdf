// A restore target in memory: the port's second inhabitant. It seals as `btrfs receive` does: on END, whatever comes after.

import type { Readable } from "node:stream";
import type { RestoreTarget } from "../../src/operations/ports.ts";
import type { Identity, TargetSubvolume } from "../../src/plan/model.ts";
import { snapshot } from "./builders.ts";

/** The last command of every send stream. */
export const END = Buffer.from("000000001500506cc99d", "hex");

export interface MemoryTarget extends RestoreTarget {
  /** By path, what was received until it was sealed. */
  readonly sealed: Map<string, Buffer>;
}

export function memoryTarget(): MemoryTarget {
  const sealed = new Map<string, Buffer>();
  const present: TargetSubvolume[] = [];
  const receive = async (stream: Readable, path: string, expected: Identity): Promise<TargetSubvolume> => {
    const chunks: Buffer[] = [];
    try {
      for await (const chunk of stream) if (Buffer.isBuffer(chunk)) chunks.push(chunk);
    } finally {
      const received = Buffer.concat(chunks);
      if (received.subarray(-END.length).equals(END)) sealed.set(path, received);
    }
    const made = {
      ...snapshot(900 + present.length, { path, received: expected }),
      sealed: true,
      changed: null,
      within: true,
    };
    present.push(made);
    return made;
  };
  return {
    sealed,
    list: () => Promise.resolve([...present]),
    whereIs: () => Promise.resolve(null),
    room: () => Promise.resolve(Infinity),
    assertFree: () => Promise.resolve(),
    receive,
    adopt: () => Promise.resolve(() => Promise.resolve()),
    removeReceived: () => Promise.resolve(),
    makeWritable: () => Promise.resolve(),
    close: () => Promise.resolve(),
  };
}
