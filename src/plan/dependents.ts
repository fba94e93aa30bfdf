// What builds on an archive, and so is lost with it.

import { indexArchives, parentIn } from "./chain.ts";
import type { Archive } from "./model.ts";
import { sortByAge } from "./select.ts";

/** Archives in creation order, and which of them build directly on which. */
interface Family {
  readonly byAge: readonly Archive[];
  readonly children: ReadonlyMap<Archive, readonly Archive[]>;
}

/** Of each list of archives that was asked about: many may be damaged at once. */
const families = new WeakMap<readonly Archive[], Family>();

/** The archives that cannot be restored without one: itself, and what builds on it. In creation order. */
export function dependentsOf(archive: Archive, archives: readonly Archive[]): Archive[] {
  const { byAge, children } = familyOf(archives);
  const lost = new Set([archive]);
  // A set gives out what is added to it on the way, each once.
  for (const each of lost) for (const child of children.get(each) ?? []) lost.add(child);
  return byAge.filter((each) => lost.has(each));
}

function familyOf(archives: readonly Archive[]): Family {
  const known = families.get(archives);
  if (known !== undefined) return known;
  const index = indexArchives(archives);
  const children = new Map<Archive, Archive[]>();
  for (const each of archives) {
    const parent = parentIn(each, index);
    if (parent == null) continue;
    const siblings = children.get(parent);
    if (siblings === undefined) children.set(parent, [each]);
    else siblings.push(each);
  }
  const family = { byAge: sortByAge(archives), children };
  families.set(archives, family);
  return family;
}
