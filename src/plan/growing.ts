// Tracks which archives can be restored while a plan adds to them: a planned upload can complete the chain of archives
// that build on it.

import { groupBy, identityText } from "./chain.ts";
import type { Archive, Identity } from "./model.ts";

/** "unknown": its chain leads to an archive that may be one of those with unknown contents. */
export type ChainState = "intact" | "unknown" | "broken";

export interface GrowingChains {
  /** The state of the chain of this identity's archive; "broken" too when there is none. */
  stateOf(identity: Identity): ChainState;
  /** Adds an archive of this identity with a complete chain. */
  add(identity: Identity): void;
}

/**
 * @param trusted - identities that archives of unknown contents are trusted to hold
 * @param silent - archives of unknown contents that are not trusted to hold any of these
 */
export function growChains(
  archives: readonly Archive[],
  trusted: readonly Identity[],
  silent: readonly Archive[],
): GrowingChains {
  const usable = archives.flatMap((archive) =>
    archive.bytes === 0 || archive.lineage === null ? [] : { archive, lineage: archive.lineage },
  );
  const children = groupBy(usable, ({ lineage }) =>
    lineage.sendParent === null ? null : identityText(lineage.sendParent),
  );
  const states = new Map<string, ChainState>();
  const spread = (from: string, state: ChainState): void => {
    const reached = [from];
    for (const identity of reached) {
      if (states.get(identity) === "intact" || states.get(identity) === state) continue;
      states.set(identity, state);
      for (const { lineage } of children.get(identity) ?? []) reached.push(identityText(lineage.snapshot));
    }
  };
  for (const { lineage } of children.get(null) ?? []) spread(identityText(lineage.snapshot), "intact");
  for (const identity of trusted) spread(identityText(identity), "unknown");
  const known = new Set(archives.flatMap(({ lineage }) => (lineage === null ? [] : identityText(lineage.snapshot))));
  for (const { archive, lineage } of usable) {
    const { sendParent } = lineage;
    if (
      sendParent === null ||
      known.has(identityText(sendParent)) ||
      !silent.some((each) => couldPrecede(each, archive))
    )
      continue;
    spread(identityText(sendParent), "unknown");
  }
  return {
    stateOf: (identity) => states.get(identityText(identity)) ?? "broken",
    add: (identity) => {
      spread(identityText(identity), "intact");
    },
  };
}

/** By the store's own clock, which dates both: nothing builds on an archive that was stored later. */
function couldPrecede(parent: Archive, archive: Archive): boolean {
  if (parent.source !== archive.source) return false;
  return parent.stored === null || archive.stored === null || parent.stored <= archive.stored;
}
