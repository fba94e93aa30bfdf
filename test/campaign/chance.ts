// Chance that can be had again: all that a campaign chooses comes from the words that a source was made of.

import { createCipheriv, createHash } from "node:crypto";

export interface Chance {
  /** From 0 up to 1. */
  fraction(): number;
  /** A whole number, both ends included. */
  int(from: number, to: number): number;
  /** True so often, from 0 to 1. */
  maybe(probability: number): boolean;
  pick<Item>(items: readonly [Item, ...Item[]]): Item;
  shuffled<Item>(items: readonly Item[]): Item[];
  /** Incompressible. */
  bytes(length: number): Buffer;
}

/** The same words give the same choices, in the order they are asked for. */
export function chanceOf(...words: readonly (string | number)[]): Chance {
  const seed = createHash("sha256").update(words.join("\n")).digest();
  let [a, b, c, d] = [seed.readUInt32LE(0), seed.readUInt32LE(4), seed.readUInt32LE(8), seed.readUInt32LE(12)];
  /** sfc32, 32 bits at a time. */
  const next = (): number => {
    const sum = (((a + b) | 0) + d) | 0;
    d = (d + 1) | 0;
    a = b ^ (b >>> 9);
    b = (c + (c << 3)) | 0;
    c = (((c << 21) | (c >>> 11)) + sum) | 0;
    return sum >>> 0;
  };
  const fraction = (): number => next() / 2 ** 32;
  const int = (from: number, to: number): number => from + Math.floor(fraction() * (to - from + 1));
  return {
    fraction,
    int,
    maybe: (probability) => fraction() < probability,
    pick: (items) => items[int(0, items.length - 1)] ?? items[0],
    shuffled(items) {
      const left = [...items];
      return items.flatMap(() => left.splice(int(0, left.length - 1), 1));
    },
    bytes(length) {
      const key = Buffer.alloc(16);
      for (let at = 0; at < key.length; at += 4) key.writeUInt32LE(next(), at);
      return createCipheriv("aes-128-ctr", key, Buffer.alloc(16)).update(Buffer.alloc(length));
    },
  };
}
