// Finds the chain that leads to an archive, or the reason why there is none.

import { BackupError } from "../errors.ts";
import { isEncrypted } from "./encoding.ts";
import type { Archive, Chain, ChainSize, Identity, Key } from "./model.ts";

/** Archives by the identity of the snapshot whose stream they hold. */
export type ArchiveIndex = ReadonlyMap<string, Archive>;

/**
 * Indexes archives. Those of unknown lineage are left out, because nothing can knowingly build on them. Of several
 * archives of one snapshot, the one with the shortest complete chain counts.
 */
export function indexArchives(archives: readonly Archive[]): ArchiveIndex {
  const known = archives.flatMap((archive) => (archive.lineage === null ? [] : { archive, lineage: archive.lineage }));
  const children = groupBy(known, ({ lineage }) =>
    lineage.sendParent === null ? null : identityText(lineage.sendParent),
  );
  const index = new Map<string, Archive>();
  // Level by level from the full ones; the loop also visits the items that it appends.
  const reached = [...(children.get(null) ?? [])];
  for (const { archive, lineage } of reached) {
    const identity = identityText(lineage.snapshot);
    if (archive.bytes === 0 || index.has(identity)) continue;
    index.set(identity, archive);
    for (const child of children.get(identity) ?? []) reached.push(child);
  }
  for (const { archive, lineage } of known) {
    const identity = identityText(lineage.snapshot);
    if (!index.has(identity)) index.set(identity, archive);
  }
  return index;
}

/** The archive that `archive` builds on; null for a full one. @throws CHAIN_BROKEN when it is not in the container */
export function sendParentOf(archive: Archive, index: ArchiveIndex): Archive | null {
  assertReadable(archive);
  if (archive.lineage === null) {
    throw new BackupError("CHAIN_BROKEN", `it is unknown what the archive of ${archive.path} builds on`, {
      hint: "it is encrypted and has no metadata",
      context: { key: archive.key },
    });
  }
  const { sendParent } = archive.lineage;
  if (sendParent === null) return null;
  const found = index.get(identityText(sendParent));
  if (found !== undefined) return found;
  throw new BackupError(
    "CHAIN_BROKEN",
    `${archive.path} builds on a snapshot that is not archived (UUID ${sendParent.uuid}, ctransid ${sendParent.ctransid})`,
    { hint: "restore an archive of another chain; `list` shows what there is", context: { key: archive.key } },
  );
}

/** @throws ARCHIVE_DAMAGED when the store did not return the bytes that identify the archive */
export function assertReadable({ key, path, failure }: Archive): void {
  if (failure === undefined) return;
  throw new BackupError("ARCHIVE_DAMAGED", `the archive of ${path} cannot be read: ${failure}`, {
    hint: "`verify` reports what follows from it",
    context: { key },
  });
}

/** Finds the chain that ends with `target`. @throws CHAIN_BROKEN when a link is missing or the links form a ring */
export function findChain(target: Archive, index: ArchiveIndex): Chain {
  const seen = new Set<Key>([target.key]);
  const links: Archive[] = [];
  for (let link = sendParentOf(target, index); link !== null; link = sendParentOf(link, index)) {
    if (seen.has(link.key)) {
      throw new BackupError("CHAIN_BROKEN", `the archive of ${link.path} builds on itself`, {
        context: { key: link.key },
      });
    }
    seen.add(link.key);
    links.push(link);
  }
  const [full, ...rest] = links.reverse();
  return full === undefined ? [target] : [full, ...rest, target];
}

/** Adds to archives all that they build on, under whatever keys. */
export function withAncestors(archives: readonly Archive[], index: ArchiveIndex): ReadonlySet<Archive> {
  const found = new Set<Archive>();
  for (const archive of archives) {
    for (let link: Archive | null | undefined = archive; link != null && !found.has(link); link = parentIn(link, index))
      found.add(link);
  }
  return found;
}

/** Measures the chain of each archive; null when it is broken. */
export function measureChains(archives: readonly Archive[], index: ArchiveIndex): ReadonlyMap<Key, ChainSize | null> {
  const sizes = new Map<Key, ChainSize | null>();
  for (const archive of archives) {
    // Back to one whose chain is known, then forward again: a chain can be longer than a call stack.
    const pending = new Set<Archive>();
    let known: ChainSize | null | undefined;
    for (let link: Archive | null = archive; known === undefined;) {
      if (link === null) known = NO_CHAIN;
      else if (sizes.has(link.key)) known = sizes.get(link.key) ?? null;
      else if (pending.has(link)) known = null;
      else {
        pending.add(link);
        const parent: Archive | null | undefined = parentIn(link, index);
        if (parent === undefined) known = null;
        else link = parent;
      }
    }
    for (const link of [...pending].reverse()) {
      if (known !== null) known = addLink(known, link);
      sizes.set(link.key, known);
    }
  }
  return sizes;
}

const NO_CHAIN: ChainSize = { length: 0, bytes: 0, began: null };

function addLink({ length, bytes, began }: ChainSize, { bytes: more, otime }: Archive): ChainSize {
  return { length: length + 1, bytes: (bytes ?? 0) + more, began: length === 0 ? otime : began };
}

/** True when only its key shows whose stream an archive holds. */
export function isSilent({ lineage, encoding, failure }: Archive): boolean {
  return failure === undefined && lineage === null && isEncrypted(encoding);
}

/** Null for a full archive; undefined when the parent is not in the container or unknown. */
export function parentIn({ lineage }: Archive, index: ArchiveIndex): Archive | null | undefined {
  if (lineage === null) return undefined;
  return lineage.sendParent === null ? null : index.get(identityText(lineage.sendParent));
}

/** The text by which archives and snapshots are looked up, because maps compare objects by reference. */
export function identityText({ uuid, ctransid }: Identity): string {
  return `${uuid} ${ctransid}`;
}

/** Groups items in their order, in linear time; copying the lists to add to them would not be linear. */
export function groupBy<Item, Group>(
  items: readonly Item[],
  groupOf: (item: Item) => Group,
): ReadonlyMap<Group, readonly Item[]> {
  const groups = new Map<Group, Item[]>();
  for (const item of items) {
    const group = groupOf(item);
    const members = groups.get(group);
    if (members === undefined) groups.set(group, [item]);
    else members.push(item);
  }
  return groups;
}
