// The options of sync, and their values.

import { Option } from "clipanion";
import { switchOption, textOption } from "./options.ts";
import type { Uuid } from "../plan/model.ts";
import type { SyncRequest } from "../plan/sync.ts";
import type { Container } from "../operations/store-ports.ts";
import { announceRules, toKeeping, type TypedKeeping } from "./keep-options.ts";
import { SendOptions } from "./send-options.ts";
import type { Session } from "./session.ts";

export abstract class SyncOptions extends SendOptions {
  dryRun = switchOption("testRun");
  estimate = switchOption("estimate");
  leftoverAge = textOption("leftoverAge");
  full = switchOption("full");
  rearchive = switchOption("rearchive");
  received = switchOption("received");
  allowEmpty = switchOption("allowEmpty");
  metricsFile = textOption("metricsFile");
  pingUrl = textOption("pingUrl");
  subvolumes = Option.Rest({ name: "PATH" });

  /** The wishes of this run for a subvolume, by the typed keep rules or those in the container. */
  protected async readRequest(
    source: Uuid,
    { container, keeping }: { readonly container: Container; readonly keeping: TypedKeeping },
    session: Session,
  ): Promise<SyncRequest> {
    const { full, rearchive, fullEvery, maxChain } = this;
    const rules = await announceRules(keeping, source, container, session);
    return { full, rearchive, keeping: toKeeping(rules, keeping.pinned, { fullEvery, maxChain, container }) };
  }

  protected override runOptions() {
    return { ...super.runOptions(), dryRun: this.dryRun };
  }
}
