// asked: each command declares what can be typed, and calls a plan and an operation. No decisions, no SDK, no processes.
// base.ts alone opens the edges, always closes them, and turns what is thrown into an exit code.

import { randomUUID } from "node:crypto";
import { resolve } from "node:path";
import { Command, Option, type BaseContext } from "clipanion";
import { OPEN_PASSWORDS, readStoreConfig, sendsPasswordsOpenly, type StoreFlags } from "../config.ts";
import { readEnvironment, warnOfReaders, type EnvironmentFlags } from "../environment.ts";
import { toBackupError, type BackupError } from "../errors.ts";
import type { Lock } from "../lock.ts";
import type { DoctorEdges } from "../operations/doctor.ts";
import type { Catalogue, Container, RestoreTarget, Scratch, SnapshotSource } from "../operations/edges.ts";
import type { Reading } from "../operations/reading.ts";
import type { SendProto, Uuid } from "../plan/model.ts";
import type { Quota } from "../plan/quota.ts";
import type { Settings } from "../settings.ts";
import type { Place } from "../state/catalogue.ts";
import type { Proofs } from "../state/proofs.ts";
import type { Access } from "../swift/credentials.ts";
import { printable } from "../terminal/format.ts";
import type { Logger, LogTarget } from "../terminal/log.ts";
import { openOutput, type Output } from "../terminal/output.ts";
import { openProgress, type Progress } from "../terminal/progress.ts";
import { openScreen, type Screen, type Terminal } from "../terminal/screen.ts";
import { parseBoolean, parseChoice, parseCount, parseDuration } from "../words.ts";
import { openClosers, type Closers } from "./closers.ts";
import { isJournal } from "./journal.ts";
import { openKeptCatalogue, openKeptProofs } from "./kept.ts";

export type { Lock } from "../lock.ts";

/** What main.ts lends to a command. */
export interface Context extends BaseContext {
  readonly stderr: Terminal;
  readonly stdout: Terminal;
  readonly signal: AbortSignal;
  /** Milliseconds of a clock that never steps back. */
  readonly now: () => number;
  /** Name and version of this program. */
  readonly tool: string;
  /** Version of Node. */
  readonly node: string;
  readonly pid: number;
  /** What was typed. */
  readonly words: readonly string[];
  /** True when Node may have taken words of these for options of its own. */
  readonly nodeReadsWords: boolean;
  /** How this program is started. */
  readonly program: readonly string[];
  /** What the configuration file adds. */
  readonly settings: Settings;
}

/** What was typed about the store and about who asks for it. */
type TypedStoreFlags = StoreFlags & EnvironmentFlags;

/** What a command works with. Whatever is opened through it is closed when the command ends. */
export interface House {
  readonly log: Logger;
  readonly screen: Screen;
  readonly output: Output;
  readonly progress: Progress;
  readonly signal: AbortSignal;
  openSource(path: string, sendProto: SendProto | null): Promise<SnapshotSource>;
  openTarget(directory: string): Promise<RestoreTarget>;
  openScratch(options: { readonly directory: string | null; readonly bytes: number; readonly path: string }): Promise<Scratch>;
  openContainer(tuning?: Tuning): Promise<Container>;
  /** Of the container; null where nothing is to be kept. */
  openCatalogue(): Promise<Catalogue | null>;
  /** Of the container; null where nothing can be kept. */
  openProofs(): Promise<Proofs | null>;
  /** Keeps other runs away until it is closed. @throws LOCKED */
  lock(claim: Claim): Promise<Lock>;
  /** As far as they can be seen; none where only S3 can be asked. Never fails. */
  quotas(): Promise<readonly Quota[]>;
  /** Keeps other runs from a file that they change too, until it is closed; waits for them. @throws LOCKED */
  lockFile(file: string): Promise<Lock>;
  /** For the one command that looks at everything. */
  openDoctor(): Promise<DoctorEdges>;
}

/** What a run needs for itself alone. */
export interface Claim {
  readonly container: string;
  /** Subvolumes whose archives are added to, read or removed. */
  readonly sources: readonly Uuid[];
  /** Directory that is restored into. */
  readonly target?: string | undefined;
  /** What `--wait-lock` says. */
  readonly wait: string | undefined;
}

/** How requests are made, where a command lets people say. */
export interface Tuning {
  /** How long a request that fails is tried again. */
  readonly retryForMs?: number;
  /** How long a login and the first request are; absent: seconds, for they may fail for a typing mistake. */
  readonly contactForMs?: number | undefined;
  /** Of all uploads together; null = as fast as it goes. */
  readonly uploadBytesPerSecond?: number | null;
  /** On which one archive is read at once, at the most. */
  readonly connections?: number;
}

export abstract class BaseCommand extends Command<Context> {
  json = Option.Boolean("--json", false, { description: "Print the result as JSON." });
  quiet = Option.Boolean("-q,--quiet", false, { description: "Say only what is wrong, and results that were asked for." });
  verbose = Option.Counter("-v,--verbose", 0, { description: "Say more; -vv: each request to the store." });
  showsProgress = Option.Boolean("--progress", true, {
    description: "Show how far it is: a status line, without a terminal a line every 30 s (default).",
  });
  logFormat = Option.String("--log-format", "text", { description: "Form of the log on stderr: text (default) or json." });
  syslog = Option.String("--syslog", false, {
    tolerateBoolean: true,
    description: "Log to the local syslog instead of stderr (`--syslog=false`: do not).",
  });

  /** Whether to keep what archives hold from run to run. */
  cache: boolean = false;

  /** True for commands that tell what they do, and not what was asked of them. */
  protected readonly narrates: boolean = false;

  private access: Promise<Access> | null = null;

  protected abstract run(house: House): Promise<number>;

  override async execute(): Promise<number> {
    const { stderr, stdout, env, now, signal } = this.context;
    const screen = openScreen(stderr, env);
    const closers = openClosers();
    let warn = (sentence: string): void => screen.line(`warning: ${sentence}`);
    try {
      const log = await this.openLog(screen, closers);
      warn = (sentence) => log.warn(sentence);
      if (this.context.settings.skipped !== null) log.info(this.context.settings.skipped);
      const wantsProgress = this.showsProgress && !this.quiet;
      const progress = openProgress(screen, { now, report: wantsProgress ? (line) => log.info(line) : null });
      closers.add(() => {
        progress.stop();
      });
      const house = {
        log,
        screen,
        output: openOutput(stdout, screen, { json: this.json, quiet: this.quiet && this.narrates, columns: this.columns() }),
        progress,
        signal,
        ...this.edges(log, closers),
      };
      return await this.run(house).catch((error: unknown) => this.report(toBackupError(error), house));
    } catch (error) {
      const failure = toBackupError(error);
      screen.line(printable(`error: ${explain(failure)}`));
      return failure.exitCode;
    } finally {
      screen.status(null);
      await closers.closeAll(warn);
    }
  }

  /** What tables are to fit: the terminal, or 80 columns where there is none; with -v nothing is cut. */
  private columns(): number {
    const { columns = 0 } = this.context.stdout;
    return this.verbose > 0 ? Infinity : columns === 0 ? 80 : Math.max(80, columns);
  }

  /** Where the container is; commands that have none keep this. */
  protected storeFlags(): TypedStoreFlags {
    const flags = { containerName: undefined, endpoint: undefined, region: undefined, createCredentials: false };
    return { ...flags, envFile: undefined, osCloud: undefined };
  }

  /** Logs a failure, or that the run was stopped, and returns its exit code. */
  protected report(failure: BackupError, { log, progress }: House, subject = ""): number {
    progress.stop();
    // Whoever stops a run knows: nothing has failed.
    const facts = this.verbose > 0 && failure.code !== "ABORTED" ? { ...failure.context, code: failure.code, err: failure } : {};
    log[failure.code === "ABORTED" ? "info" : "error"](facts, subject + explain(failure));
    return failure.exitCode;
  }

  private async openLog(screen: Screen, closers: Closers): Promise<Logger> {
    const format = parseChoice(this.logFormat, "--log-format", ["text", "json"]);
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

  private edges(
    log: Logger,
    closers: Closers,
  ): Pick<House, "openSource" | "openTarget" | "openScratch" | "openContainer" | "openCatalogue" | "openProofs" | "lock" | "lockFile" | "quotas" | "openDoctor"> {
    const { signal, tool } = this.context;
    const keep = <Edge extends { close(): unknown }>(edge: Edge): Edge => {
      closers.add(() => edge.close());
      return edge;
    };
    const findAccess = (retryForMs?: number): Promise<Access> => this.findAccess(log, retryForMs);
    const openContainer = async (tuning?: Tuning): Promise<Container> => {
      const { containerName = "" } = this.storeFlags();
      const access = await findAccess(tuning?.contactForMs);
      const { openContainer } = await import("../swift/container.ts");
      return keep(await openContainer({ ...access, ...tuning, containerName, userAgent: tool }, log, signal));
    };
    return {
      openContainer,
      openCatalogue: async () => (this.cache ? await this.findCatalogue(log, closers) : null),
      openProofs: async () => openKeptProofs(this.context.env, await this.findPlace(log)),
      openSource: async (path, sendProto) => {
        const { openSource } = await import("../btrfs/source.ts");
        return keep(await openSource(path, { sendProto }, signal));
      },
      openTarget: async (directory) => {
        const { openTarget } = await import("../btrfs/target.ts");
        return keep(await openTarget(directory, signal));
      },
      openScratch: async (options) => {
        const { openScratch } = await import("../btrfs/scratch.ts");
        return keep(await openScratch(options, signal));
      },
      lock: async (claim) => keep(await this.takeLocks(claim, log)),
      quotas: async () => (await this.askForQuotas(log).catch(() => null)) ?? [],
      lockFile: async (file) => keep(await this.takeFileLock(resolve(file))),
      openDoctor: async () => {
        const { machine } = await import("../btrfs/survey.ts");
        const { greetStore } = await import("../swift/probe.ts");
        const greet: DoctorEdges["greet"] = async () => greetStore(await findAccess(), signal);
        // Who asks whether it works waits for the answer: no patience of many minutes.
        const tuning = { retryForMs: 5_000, uploadBytesPerSecond: null };
        return { machine, findAccess, greet, openContainer: () => openContainer(tuning), quotas: () => this.askForQuotas(log) };
      },
    };
  }

  private async askForQuotas(log: Logger): Promise<readonly Quota[] | null> {
    const { readQuotas } = await import("../swift/probe.ts");
    return await readQuotas(await this.findAccess(log), this.storeFlags().containerName ?? "", this.context.signal);
  }

  private async findCatalogue(log: Logger, closers: Closers): Promise<Catalogue | null> {
    const catalogue = await openKeptCatalogue(this.context.env, await this.findPlace(log));
    if (catalogue !== null) closers.add(() => catalogue.close());
    return catalogue;
  }

  private async findPlace(log: Logger): Promise<Place> {
    return { endpoint: (await this.findAccess(log)).endpoint, container: this.storeFlags().containerName ?? "" };
  }

  private async takeLocks({ container, sources, target, wait }: Claim, log: Logger): Promise<Lock> {
    const { env, signal } = this.context;
    const { lockDirectory, lockOfSource, lockOfTarget, takeLocks } = await import("../lock.ts");
    const subjects = [...new Set(sources)].map((source) => lockOfSource(container, source));
    if (target !== undefined) subjects.push(await lockOfTarget(resolve(target)));
    const options = {
      ...this.lockOptions(lockDirectory(env)),
      waitMs: wait === undefined ? 0 : parseDuration(wait, "--wait-lock"),
      onWait: (other: string) => log.info(`waiting for another run on ${other}`),
    };
    return await takeLocks(subjects, options, signal);
  }

  /** Taken at the end of a run that was stopped, too. */
  private async takeFileLock(file: string): Promise<Lock> {
    const { lockDirectory, lockOfFile, takeLocks } = await import("../lock.ts");
    const options = { ...this.lockOptions(lockDirectory(this.context.env)), waitMs: 30_000, onWait: () => undefined };
    return await takeLocks([lockOfFile(file)], options, new AbortController().signal);
  }

  private lockOptions(directory: string) {
    const command = this.context.words.join(" ").replace(/(--ping-url[= ])\S+/g, "$1…");
    return { directory, now: this.context.now, holder: { pid: this.context.pid, command } };
  }

  /** Asked once: what was found holds for the run. */
  private findAccess(log: Logger, retryForMs?: number): Promise<Access> {
    return (this.access ??= this.askForAccess(log, retryForMs));
  }

  private async askForAccess(log: Logger, retryForMs: number | undefined): Promise<Access> {
    const { env, signal, words, nodeReadsWords } = this.context;
    const flags = this.storeFlags();
    const readByNode = nodeReadsWords && words.some((word) => /^--env-file(=|$)/.test(word));
    const config = readStoreConfig(flags, await readEnvironment(env, { ...flags, readByNode }));
    if (flags.envFile !== undefined) await warnOfReaders(flags.envFile, log.warn.bind(log));
    if (config.keystone !== null && sendsPasswordsOpenly(config.keystone)) log.warn(OPEN_PASSWORDS);
    const { openAccess } = await import("../swift/credentials.ts");
    const access = await openAccess({ ...config, retryForMs }, log, signal);
    log.debug({ source: access.source, endpoint: access.endpoint }, "credentials");
    return access;
  }
}

/** A command that talks to a container. */
export abstract class StoreCommand extends BaseCommand {
  config = Option.String("--config", { description: "The configuration file (else the one of the user, else of /etc)." });
  use = Option.String("--use", { description: "The target of the configuration file to use, where it has several." });
  containerName = Option.String("--container-name", { description: "The container; it must exist." });
  endpoint = Option.String("--endpoint", {
    description: "URL of the store's S3 API (else AWS_ENDPOINT_URL_S3, else Keystone's catalog).",
  });
  region = Option.String("--region", { description: "Region of the store (else the store tells)." });
  envFile = Option.String("--env-file", { description: "Read AWS_*, OS_* and ST_* from this file, not the environment." });
  osCloud = Option.String("--os-cloud", { description: "The cloud of clouds.yaml to use (else OS_CLOUD)." });
  createCredentials = Option.Boolean("--create-credentials", true, {
    description: "Make S3 keys with Keystone where the project has none (default).",
  });

  override cache = Option.Boolean("--cache", true, { description: "Keep what is known of archives for the next run (default)." });

  protected override storeFlags(): TypedStoreFlags {
    const { containerName, endpoint, region, createCredentials, envFile, osCloud } = this;
    return { containerName, endpoint, region, createCredentials, envFile, osCloud };
  }
}

/** A command that reads archives. */
export abstract class ReadCommand extends StoreCommand {
  identity = Option.Array("--identity", [], {
    description: "File with an age identity, for archives that are encrypted. Can be said several times.",
  });

  /** Where archives are read from. A container of thousands takes a while to look through: the screen says so. */
  protected async openReading(house: House): Promise<Reading> {
    const container = await house.openContainer(this.tuning());
    const identities = await this.openIdentities(house);
    house.progress.start("looking at what is in the container", null);
    return { container, identities, catalogue: await house.openCatalogue(), onFinding: ({ code, message }) => house.log.warn({ code }, message) };
  }

  protected tuning(): Tuning {
    return {};
  }

  /** Where one is behind a passphrase, age asks for it, now. @throws CONFIG */
  protected async openIdentities({ signal }: House): Promise<readonly string[]> {
    if (this.identity.length === 0) return [];
    const { unlockIdentities } = await import("../operations/reading.ts");
    return await unlockIdentities(this.identity.map((file) => resolve(file)), signal);
  }
}

/** A command that may read archives to their end. */
export abstract class DownloadCommand extends ReadCommand {
  concurrency = Option.String("--concurrency", "4", {
    description: "Connections on which an archive is read at once, at the most (default 4).",
  });

  protected override tuning(): Tuning {
    return { connections: parseCount(this.concurrency, "--concurrency", 64) };
  }
}

function explain(failure: BackupError): string {
  return failure.hint === null ? failure.message : `${failure.message}: ${failure.hint}`;
}
