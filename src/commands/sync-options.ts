// The options of sync, and their values.

import { Option } from "clipanion";
import { parseChoice, parseCount, parseDuration, parseSize } from "../config/parse.ts";
import type { TransferPolicy } from "../plan/layout.ts";
import type { SendProto } from "../plan/model.ts";
import { stateDirectory } from "../state/paths.ts";
import { EncodingCommand } from "./encoding.ts";
import { LEFTOVER_AGE } from "./leftovers.ts";
import { allowEmptyOption, receivedOption, waitLockOption } from "./options.ts";
import type { Session, Tuning } from "./session.ts";

export abstract class SyncOptions extends EncodingCommand {
  protected override readonly narrates: boolean = true;
  workDir = Option.String("--work-dir", { description: "Spool each stream in this directory before it is sent." });
  dryRun = Option.Boolean("--dry-run", false, {
    description: "Create and check every stream, but store nothing; reads all data.",
  });
  planOnly = Option.Boolean("-n,--plan", false, {
    description: "Show what would be sent, and stop; reads no file data.",
  });
  estimate = Option.Boolean("--estimate", true, { description: "Estimate the size of each stream first (default)." });
  yes = Option.Boolean("-y,--yes", false, { description: "Do not ask for confirmation." });
  memory = Option.String("--memory", "512Mi", {
    description: "Use at most this much memory for parts (default 512Mi).",
  });
  concurrency = Option.String("--concurrency", "4", {
    description: "Send at most so many parts at once (default 4); fewer on a slow line.",
  });
  volumeSize = Option.String("--volume-size", {
    description: "Split longer streams into objects of this size (default: only if one object cannot hold them).",
  });
  limitUpload = Option.String("--limit-upload", { description: "Send at most so many bytes a second, as in 8Mi." });
  retryFor = Option.String("--retry-for", "15m", {
    description: "Retry for this long while the store is unreachable (default 15m).",
  });
  resume = Option.Boolean("--resume", true, { description: "Resume interrupted uploads (default)." });
  leftoverAge = Option.String("--leftover-age", LEFTOVER_AGE, {
    description: "Remove leftovers of interrupted runs once they are this old (default 24h).",
  });
  full = Option.Boolean("--full", false, { description: "Start a new chain with a full stream." });
  rearchive = Option.Boolean("--rearchive", false, {
    description: "Send again what is archived under another name because snapshots were moved or renamed.",
  });
  sendProto = Option.String("--send-proto", {
    description: "Version of the btrfs send protocol: 1 or 2 (default: the newest that this machine supports).",
  });
  received = receivedOption();
  allowEmpty = allowEmptyOption();
  waitLock = waitLockOption();
  metricsFile = Option.String("--metrics-file", {
    description: "Write metrics to this file, for node_exporter's textfile collector.",
  });
  pingUrl = Option.String("--ping-url", {
    description: "Ping a healthcheck service: URL/start, then URL, or URL/CODE after a failure.",
  });
  subvolumes = Option.Rest({ name: "PATH" });

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
    return parseChoice(this.sendProto, "--send-proto", ["1", "2"]) === "1" ? 1 : 2;
  }
}
