// commands/: everything that can be typed. Each command declares its options, and calls plans and operations. It makes no
// decisions of its own, knows no SDK, and starts no process.
//
// Here: the classes that all commands extend. They open the log, close what was opened, and turn an error into an exit code.

import { randomUUID } from "node:crypto";
import { resolve } from "node:path";
import { Command } from "clipanion";
import { countingOption, listOption, switchOption, switchOrTextOption, textOption } from "./options.ts";
import { toBackupError, type BackupError } from "../errors.ts";
import type { Reading } from "../operations/read-archive.ts";
import { printable } from "../terminal/format.ts";
import type { Logger, LogTarget } from "../terminal/log.ts";
import { openOutput } from "../terminal/output.ts";
import { openProgress } from "../terminal/progress.ts";
import type { Questions } from "../terminal/prompt.ts";
import { openScreen, type Screen } from "../terminal/screen.ts";
import { parseBoolean, parseChoice, parseCount } from "../config/parse.ts";
import { openClosers, type Closers } from "./closers.ts";
import { isJournal } from "./journal.ts";
import { openEdges, type Context, type Session, type Tuning, type TypedStoreFlags } from "./session.ts";
import { options } from "../config/options.ts";

export abstract class BaseCommand extends Command<Context> {
  json = switchOption("json");
  quiet = switchOption("quiet");
  verbose = countingOption("verbose");
  showsProgress = switchOption("progress");
  logFormat = textOption("logFormat");
  syslog = switchOrTextOption("syslog");

  /** Whether to cache facts about archives from run to run. */
  cache: boolean = false;

  /** True for commands that log their progress instead of answering a question. */
  protected readonly narrates: boolean = false;

  protected abstract run(session: Session): Promise<number>;

  override async execute(): Promise<number> {
    const { stderr, stdout, env, now, signal } = this.context;
    const screen = openScreen(stderr, env);
    const closers = openClosers();
    let warn = (sentence: string): void => screen.line(printable(`warning: ${sentence}`));
    try {
      const log = await this.openLog(screen, closers);
      warn = (sentence) => log.warn(sentence);
      if (this.context.settings.skipped !== null) log.info(this.context.settings.skipped);
      const wantsProgress = this.showsProgress && !this.quiet;
      const progress = openProgress(screen, { now, report: wantsProgress ? (line) => log.info(line) : null });
      closers.add(() => {
        progress.stop();
      });
      const session = {
        log,
        screen,
        output: openOutput(stdout, screen, {
          json: this.json,
          quiet: this.quiet && this.narrates,
          columns: this.columns(),
        }),
        progress,
        signal,
        ...openEdges({ context: this.context, flags: this.storeFlags(), cache: this.cache, log, closers }),
      };
      return await this.run(session).catch((error: unknown) => this.report(toBackupError(error), session));
    } catch (error) {
      const failure = toBackupError(error);
      screen.line(printable(`error: ${explain(failure)}`));
      return failure.exitCode;
    } finally {
      screen.status(null);
      await closers.closeAll(warn);
    }
  }

  /** The width that tables have to fit: the terminal, or 80 columns without one. With -v nothing is cut. */
  private columns(): number {
    const { columns = 0 } = this.context.stdout;
    return this.verbose > 0 ? Infinity : columns === 0 ? 80 : Math.max(80, columns);
  }

  /** The options that name the container. Commands without a container keep this empty default. */
  protected storeFlags(): TypedStoreFlags {
    const flags = { containerName: undefined, endpoint: undefined, region: undefined, createCredentials: false };
    return { ...flags, envFile: undefined, osCloud: undefined };
  }

  /** Logs a failure, or that the run was stopped, and returns its exit code. */
  protected report(failure: BackupError, { log, progress }: Session, subject = ""): number {
    progress.stop();
    // A run that somebody stopped has not failed, and that person knows.
    const facts =
      this.verbose > 0 && failure.code !== "ABORTED" ? { ...failure.context, code: failure.code, err: failure } : {};
    log[failure.code === "ABORTED" ? "info" : "error"](facts, subject + explain(failure));
    return failure.exitCode;
  }

  /** The terminal to ask at: only where what the question is about is visible, and somebody can answer it; else null. */
  protected askAt({ screen, output }: Pick<Session, "screen" | "output">): Pick<Questions, "input" | "output"> | null {
    const { stdin, stdout, stderr } = this.context;
    const isSeen = screen.interactive && stdout.isTTY === true && !output.json;
    return isSeen && "isTTY" in stdin && stdin.isTTY === true ? { input: stdin, output: stderr } : null;
  }

  private async openLog(screen: Screen, closers: Closers): Promise<Logger> {
    const format = parseChoice(this.logFormat, "--log-format", options.logFormat.words);
    const wanted = parseBoolean(this.syslog, "--syslog");
    const { openLog } = await import("../terminal/log.ts");
    const target: LogTarget = wanted
      ? { to: "syslog", sink: await this.openSyslog(closers) }
      : { to: isJournal(this.context.env) ? "journal" : "screen" };
    const level = (["info", "debug"] as const)[this.verbose] ?? "trace";
    return openLog(screen, { level: this.quiet ? "warn" : level, format, run: randomUUID().slice(0, 8), target });
  }

  private async openSyslog(closers: Closers): Promise<{ write(line: string): void }> {
    const { openSyslog } = await import("../stream/syslog.ts");
    const syslog = openSyslog(this.context.tool.split("/")[0] ?? "");
    closers.add(() => syslog.close());
    return syslog;
  }
}

/** A command that talks to a container. */
export abstract class StoreCommand extends BaseCommand {
  config = textOption("config");
  use = textOption("use");
  containerName = textOption("containerName");
  endpoint = textOption("endpoint");
  region = textOption("region");
  envFile = textOption("envFile");
  osCloud = textOption("osCloud");
  createCredentials = switchOption("createCredentials");

  override cache = switchOption("cache");

  protected override storeFlags(): TypedStoreFlags {
    const { containerName, endpoint, region, createCredentials, envFile, osCloud } = this;
    return { containerName, endpoint, region, createCredentials, envFile, osCloud };
  }
}

/** A command that reads archives. */
export abstract class ReadCommand extends StoreCommand {
  identity = listOption("identity");

  /** Opens the archives for reading. A container with thousands of them takes a while, so the screen shows a status. */
  protected async openReading(session: Session): Promise<Reading> {
    const container = await session.openContainer(this.tuning());
    const identities = await this.openIdentities(session);
    session.progress.start("looking through the container", null);
    return {
      container,
      identities,
      catalogue: await session.openCatalogue(),
      onFinding: ({ code, message }) => session.log.warn({ code }, message),
    };
  }

  protected tuning(): Tuning {
    return {};
  }

  /** Opens the identities. For one behind a passphrase, age asks for the passphrase now. @throws CONFIG */
  protected async openIdentities({ signal }: Session): Promise<readonly string[]> {
    if (this.identity.length === 0) return [];
    const { unlockIdentities } = await import("../stream/age.ts");
    return await unlockIdentities(
      this.identity.map((file) => resolve(file)),
      signal,
    );
  }
}

/** A command that may read archives completely. */
export abstract class DownloadCommand extends ReadCommand {
  concurrency = textOption("connections");

  protected override tuning(): Tuning {
    return { connections: parseCount(this.concurrency, "--concurrency", 64) };
  }
}

function explain(failure: BackupError): string {
  return failure.hint === null ? failure.message : `${failure.message}: ${failure.hint}`;
}
