// What cannot be restored without an archive: whatever deletes one, or advises to, names these.

import { groupBy, identityText, indexArchives, parentIn } from "./chain.ts";
import type { Archive, Identity } from "./model.ts";
import { sortByAge } from "./select.ts";

interface Family {
  readonly children: ReadonlyMap<Archive | null, readonly Archive[]>;
  /** By the identity that they name as what they build on. */
  readonly byParent: ReadonlyMap<string | null, readonly Archive[]>;
  /** Position in creation order. */
  readonly rank: ReadonlyMap<Archive, number>;
}

/** Worked out once for each list of archives: a container can have as many damaged archives as archives. */
const families = new WeakMap<readonly Archive[], Family>();

/** The archives that cannot be restored without one: itself, and what builds on it. In creation order. */
export function dependentsOf(archive: Archive, archives: readonly Archive[]): Archive[] {
  const { children, rank } = familyOf(archives);
  const lost = new Set([archive]);
  // A set gives out what is added to it on the way, each once.
  for (const each of lost) for (const child of children.get(each) ?? []) lost.add(child);
  return inOrder(lost, rank);
}

/** The archives that cannot be restored without some archive of this identity, whether there is one or not. In creation order. */
export function builtOn(identity: Identity, archives: readonly Archive[]): Archive[] {
  const { byParent, rank } = familyOf(archives);
  const found = new Set(byParent.get(identityText(identity)));
  for (const { lineage } of found) {
    for (const child of lineage === null ? [] : (byParent.get(identityText(lineage.snapshot)) ?? [])) found.add(child);
  }
  return inOrder(found, rank);
}

function inOrder(archives: ReadonlySet<Archive>, rank: Family["rank"]): Archive[] {
  const ranked = Array.from(archives, (each) => ({ each, rank: rank.get(each) ?? 0 }));
  return ranked.sort((a, b) => a.rank - b.rank).map(({ each }) => each);
}

function familyOf(archives: readonly Archive[]): Family {
  const known = families.get(archives);
  if (known !== undefined) return known;
  const index = indexArchives(archives);
  const family = {
    children: groupBy(archives, (archive) => parentIn(archive, index) ?? null),
    byParent: groupBy(archives, ({ lineage }) =>
      lineage?.sendParent == null ? null : identityText(lineage.sendParent),
    ),
    rank: new Map(sortByAge(archives).map((archive, position) => [archive, position])),
  };
  families.set(archives, family);
  return family;
}
