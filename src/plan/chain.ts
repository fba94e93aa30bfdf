// Archives → the chain that leads to one of them, or why there is none.

import { BackupError } from "../errors.ts";
import { isEncrypted } from "./encoding.ts";
import type { Archive, Chain, Identity, Key } from "./model.ts";

/** Archives by whose stream they hold. */
export type ArchiveIndex = ReadonlyMap<string, Archive>;

/** Archives whose lineage is unknown are left out: nothing can be built on them knowingly. */
export function indexArchives(archives: readonly Archive[]): ArchiveIndex {
  return new Map(
    archives.flatMap((archive) =>
      archive.lineage === null ? [] : [[identityText(archive.lineage.snapshot), archive] as const],
    ),
  );
}

/** The archive that `archive` builds on; null for a full one. @throws CHAIN_BROKEN when it is not in the container */
export function sendParentOf(archive: Archive, index: ArchiveIndex): Archive | null {
  if (archive.lineage === null) {
    throw new BackupError("CHAIN_BROKEN", `nothing tells what the archive of ${archive.path} builds on`, {
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

/** The chain that ends with `target`. @throws CHAIN_BROKEN when a link is missing or the links form a ring */
export function findChain(target: Archive, index: ArchiveIndex): Chain {
  const seen = new Set<Key>([target.key]);
  const links: Archive[] = [];
  for (let link = sendParentOf(target, index); link !== null; link = sendParentOf(link, index)) {
    if (seen.has(link.key)) {
      throw new BackupError("CHAIN_BROKEN", `the archive of ${link.path} builds on itself`, { context: { key: link.key } });
    }
    seen.add(link.key);
    links.push(link);
  }
  const [full, ...rest] = links.reverse();
  return full === undefined ? [target] : [full, ...rest, target];
}

/** Archives, and all that they build on, under whatever keys. */
export function withAncestors(archives: readonly Archive[], index: ArchiveIndex): ReadonlySet<Archive> {
  const found = new Set<Archive>();
  for (const archive of archives) {
    for (let link: Archive | null | undefined = archive; link != null && !found.has(link); link = parentIn(link, index)) found.add(link);
  }
  return found;
}

/** How many archives have to be read for each one; null when its chain is broken. */
export function measureChains(archives: readonly Archive[], index: ArchiveIndex): ReadonlyMap<Key, number | null> {
  const lengths = new Map<Key, number | null>();
  for (const archive of archives) {
    // Back to one whose length is known, then forth again: a chain can be longer than a call stack.
    const pending: Archive[] = [];
    let known: number | null | undefined;
    for (let link: Archive | null = archive; known === undefined; ) {
      if (link === null) known = 0;
      else if (lengths.has(link.key)) known = lengths.get(link.key) ?? null;
      else if (pending.includes(link)) known = null;
      else {
        pending.push(link);
        const parent: Archive | null | undefined = parentIn(link, index);
        if (parent === undefined) known = null;
        else link = parent;
      }
    }
    for (const link of pending.toReversed()) {
      if (known !== null) known += 1;
      lengths.set(link.key, known);
    }
  }
  return lengths;
}

/** True when only its key can tell whose stream an archive holds. */
export function isSilent({ lineage, encoding }: Archive): boolean {
  return lineage === null && isEncrypted(encoding);
}

/** Null for a full archive, undefined when it is not in the container or nothing tells. */
export function parentIn({ lineage }: Archive, index: ArchiveIndex): Archive | null | undefined {
  if (lineage === null) return undefined;
  return lineage.sendParent === null ? null : index.get(identityText(lineage.sendParent));
}

function identityText(identity: Identity): string {
  return `${identity.uuid} ${identity.ctransid}`;
}
