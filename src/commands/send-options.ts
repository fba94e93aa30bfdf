// The options of commands that send streams, and their values.

import { switchOption, textOption } from "./options.ts";
import { parseChoice, parseCount, parseDuration, parseSize } from "../config/parse.ts";
import type { TransferPolicy } from "../plan/layout.ts";
import type { SendProto } from "../plan/model.ts";
import { stateDirectory } from "../state/paths.ts";
import { confirm } from "../terminal/prompt.ts";
import { EncodingCommand } from "./encoding.ts";
import { withKeepRules } from "./keep-options.ts";
import type { Session, Tuning } from "./session.ts";
import { options } from "../config/options.ts";

export abstract class SendOptions extends withKeepRules(EncodingCommand) {
  protected override readonly narrates: boolean = true;
  workDir = textOption("workDir");
  planOnly = switchOption("plan");
  yes = switchOption("yes");
  memory = textOption("memory");
  concurrency = textOption("concurrency");
  volumeSize = textOption("volumeSize");
  limitUpload = textOption("limitUpload");
  retryFor = textOption("retryFor");
  resume = switchOption("resume");
  fullEvery = textOption("fullEvery");
  maxChain = textOption("maxChain");
  sendProto = textOption("sendProto");
  waitLock = textOption("waitLock");

  /** Where nobody can be asked, the plan is agreed to. */
  protected async agreed(question: string, session: Session): Promise<boolean> {
    const terminal = this.yes ? null : this.askAt(session);
    if (terminal === null) return true;
    const agreed = await confirm(question, terminal, session.signal);
    if (!agreed) session.log.info("nothing was sent");
    return agreed;
  }

  protected runOptions() {
    const { tool, env, now } = this.context;
    return {
      tool,
      now,
      dryRun: false,
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
