// Which archives can be restored, while a plan adds to them: what it sends can make whole what builds on that.

import { groupBy, identityText } from "./chain.ts";
import type { Archive, Identity } from "./model.ts";

/** "unknown": its chain leads to an archive that may be one of those that do not say what they hold. */
export type ChainState = "whole" | "unknown" | "broken";

export interface GrowingChains {
  /** Of the archive of this; "broken" too when there is none. */
  stateOf(identity: Identity): ChainState;
  /** From now on there is an archive of this, and its chain is whole. */
  add(identity: Identity): void;
}

/**
 * @param trusted - identities that are taken for what an archive holds which does not say
 * @param silent - archives that do not say what they hold, and are not taken for any of these
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
      if (states.get(identity) === "whole" || states.get(identity) === state) continue;
      states.set(identity, state);
      for (const { lineage } of children.get(identity) ?? []) reached.push(identityText(lineage.snapshot));
    }
  };
  for (const { lineage } of children.get(null) ?? []) spread(identityText(lineage.snapshot), "whole");
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
      spread(identityText(identity), "whole");
    },
  };
}

/** By the store's own clock, which dates both: nothing builds on what was stored after it. */
function couldPrecede(parent: Archive, archive: Archive): boolean {
  if (parent.source !== archive.source) return false;
  return parent.stored === null || archive.stored === null || parent.stored <= archive.stored;
}
