// The options of sync, and their values.

import { Option } from "clipanion";
import { switchOption, textOption } from "./options.ts";
import { parseChoice, parseCount, parseDuration, parseSize } from "../config/parse.ts";
import type { TransferPolicy } from "../plan/layout.ts";
import type { SendProto, Uuid } from "../plan/model.ts";
import type { SyncRequest } from "../plan/sync.ts";
import type { Container } from "../operations/store-ports.ts";
import { stateDirectory } from "../state/paths.ts";
import { EncodingCommand } from "./encoding.ts";
import { announceRules, toKeeping, withKeepRules, type TypedKeeping } from "./keep-options.ts";
import type { Session, Tuning } from "./session.ts";
import { options } from "../config/options.ts";

export abstract class SyncOptions extends withKeepRules(EncodingCommand) {
  protected override readonly narrates: boolean = true;
  workDir = textOption("workDir");
  dryRun = switchOption("testRun");
  planOnly = switchOption("plan");
  estimate = switchOption("estimate");
  yes = switchOption("yes");
  memory = textOption("memory");
  concurrency = textOption("concurrency");
  volumeSize = textOption("volumeSize");
  limitUpload = textOption("limitUpload");
  retryFor = textOption("retryFor");
  resume = switchOption("resume");
  leftoverAge = textOption("leftoverAge");
  full = switchOption("full");
  fullEvery = textOption("fullEvery");
  maxChain = textOption("maxChain");
  rearchive = switchOption("rearchive");
  sendProto = textOption("sendProto");
  received = switchOption("received");
  allowEmpty = switchOption("allowEmpty");
  waitLock = textOption("waitLock");
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

  protected runOptions() {
    const { tool, env, now } = this.context;
    return {
      tool,
      now,
      dryRun: this.dryRun,
      resume: this.resume,
      spoolDirectory: this.workDir ?? null,
      checkpointDirectory: stateDirectory(env),
    };
  }

  protected readPolicy(): TransferPolicy {
    return {
      memoryBytes: parseSize(this.memory, "--memory"),
      concurrency: parseCount(this.concurrency, "--concurrency", 64),
      volumeBytes: this.volumeSize === undefined ? null : parseSize(this.volumeSize, "--volume-size"),
    };
  }

  protected readTuning({ screen }: Session): Tuning {
    const retryForMs = parseDuration(this.retryFor, "--retry-for");
    return {
      retryForMs,
      // At night the network may not be up yet. At a terminal somebody waits, and may have mistyped a name.
      contactForMs: screen.interactive ? undefined : retryForMs,
      uploadBytesPerSecond: this.limitUpload === undefined ? null : parseSize(this.limitUpload, "--limit-upload"),
    };
  }

  protected parseSendProto(): SendProto | null {
    if (this.sendProto === undefined) return null;
    return parseChoice(this.sendProto, "--send-proto", options.sendProto.words) === "1" ? 1 : 2;
  }
}
