// Decides in which order archives are read to get the trees of some of them: each once, each after the one it builds on,
// with as few trees as possible at a time.

import type { Archive, Chain, Key } from "./model.ts";

/** Reads one archive. */
export interface ReadStep {
  readonly archive: Archive;
  /** The archives that it builds on, the full one first. */
  readonly ancestors: readonly Archive[];
  /** Whether its tree was asked for. */
  readonly isWanted: boolean;
  /** Archives whose trees no later step needs, when this one is done. */
  readonly lastUses: readonly Archive[];
}

/** @param chains - of the wanted archives */
export function planReading(chains: readonly Chain[]): ReadStep[] {
  const wanted = new Set(chains.map((chain) => chain.at(-1)?.key));
  const children = new Map<Key | null, Map<Key, Archive>>();
  for (const chain of chains) {
    for (const [position, archive] of chain.entries()) {
      const parent = chain[position - 1]?.key ?? null;
      const siblings = children.get(parent) ?? new Map<Key, Archive>();
      children.set(parent, siblings.set(archive.key, archive));
    }
  }
  const steps: Omit<ReadStep, "lastUses">[] = [];
  // A list of archives to visit in place of recursion, because chains can be longer than a call stack.
  const rootsFirst = (parent: Key | null, ancestors: readonly Archive[]): (readonly [Archive, readonly Archive[]])[] =>
    [...(children.get(parent)?.values() ?? [])].map((archive) => [archive, ancestors] as const).reverse();
  const pending = rootsFirst(null, []);
  const seen = new Set<Key>();
  for (let next = pending.pop(); next !== undefined; next = pending.pop()) {
    const [archive, ancestors] = next;
    if (seen.has(archive.key)) continue;
    seen.add(archive.key);
    steps.push({ archive, ancestors, isWanted: wanted.has(archive.key) });
    pending.push(...rootsFirst(archive.key, [...ancestors, archive]));
  }
  return withLastUses(steps);
}

function withLastUses(steps: readonly Omit<ReadStep, "lastUses">[]): ReadStep[] {
  const last = new Map<Key, number>();
  for (const [at, { archive, ancestors }] of steps.entries())
    for (const { key } of [...ancestors, archive]) last.set(key, at);
  return steps.map((step, at) => ({
    ...step,
    lastUses: [...step.ancestors, step.archive].filter(({ key }) => last.get(key) === at),
  }));
}
