// Finds everything that cannot be restored without an archive. Whatever deletes an archive, or advises to, names these.

import { groupBy, identityText, indexArchives, parentIn } from "./chain.ts";
import type { Archive, Identity } from "./model.ts";
import { sortByAge } from "./select.ts";

interface Family {
  readonly children: ReadonlyMap<Archive | null, readonly Archive[]>;
  /** Archives by the identity of the parent they name. */
  readonly byParent: ReadonlyMap<string | null, readonly Archive[]>;
  /** Position in creation order. */
  readonly rank: ReadonlyMap<Archive, number>;
}

/** Computed once for each list of archives: all archives of a container can be damaged. */
const families = new WeakMap<readonly Archive[], Family>();

/**
 * The archives that cannot be restored without this one: itself, and everything that builds on it. In creation order.
 */
export function dependentsOf(archive: Archive, archives: readonly Archive[]): Archive[] {
  const { children, rank } = familyOf(archives);
  const lost = new Set([archive]);
  // The loop also visits the items added to the set on the way, each once.
  for (const each of lost) for (const child of children.get(each) ?? []) lost.add(child);
  return inOrder(lost, rank);
}

/**
 * The archives that cannot be restored without an archive of this identity, whether it exists or not. In creation
 * order.
 */
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
