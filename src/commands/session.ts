// The composition root: the one place that opens the edges (btrfs, the network, files) for a command, when it first needs them.

import { resolve } from "node:path";
import type { BaseContext } from "clipanion";
import {
  OPEN_PASSWORDS,
  readStoreConfig,
  sendsPasswordsOpenly,
  type StoreConfig,
  type StoreFlags,
} from "../config/store.ts";
import { readEnvironment, warnOfReaders, type EnvironmentFlags } from "../config/environment.ts";
import type { Lock } from "../state/lock.ts";
import type { DoctorEdges, ReceivedSource, RestoreTarget, Scratch, SnapshotSource } from "../operations/ports.ts";
import type { SendProto, Uuid } from "../plan/model.ts";
import type { Quota } from "../plan/quota.ts";
import type { Settings } from "../config/settings.ts";
import type { Place } from "../state/catalogue.ts";
import type { Proofs } from "../state/proofs.ts";
import type { Access } from "../swift/auth/credentials.ts";
import type { Logger } from "../terminal/log.ts";
import type { Output } from "../terminal/output.ts";
import type { Progress } from "../terminal/progress.ts";
import type { Screen, Terminal } from "../terminal/screen.ts";
import { options } from "../config/options.ts";
import { parseCount, parseDuration } from "../config/parse.ts";
import type { Closers } from "./closers.ts";
import { openKeptCatalogue, openKeptProofs } from "./kept.ts";
import type { Catalogue, Container } from "../operations/store-ports.ts";

/** The streams, environment, clock and signal that main.ts passes to a command. */
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
  /** The words of the command line. */
  readonly words: readonly string[];
  /** True when Node may have taken words of the command line for its own options. */
  readonly nodeReadsWords: boolean;
  /** How this program is started. */
  readonly program: readonly string[];
  /** The values that the configuration file adds. */
  readonly settings: Settings;
}

/** The options that name the store and the credentials. */
export type TypedStoreFlags = StoreFlags & EnvironmentFlags;

/** The resources of a command. Whatever it opens through them is closed when the command ends. */
export interface Session {
  readonly log: Logger;
  readonly screen: Screen;
  readonly output: Output;
  readonly progress: Progress;
  readonly signal: AbortSignal;
  openSource(path: string, sendProto: SendProto | null): Promise<SnapshotSource>;
  openReceived(path: string, sendProto: SendProto | null): Promise<ReceivedSource>;
  openTarget(directory: string, options: { readonly forceDecompress: boolean }): Promise<RestoreTarget>;
  openScratch(options: {
    readonly directory: string | null;
    readonly bytes: number;
    readonly path: string;
  }): Promise<Scratch>;
  openContainer(tuning?: Tuning): Promise<Container>;
  /** Opens the container's catalogue; null where nothing is to be kept. */
  openCatalogue(): Promise<Catalogue | null>;
  /** Opens the container's proofs; null where nothing can be kept. */
  openProofs(): Promise<Proofs | null>;
  /** Keeps other runs away until it is closed. @throws LOCKED */
  lock(request: LockRequest): Promise<Lock>;
  /** The credentials and the address of the store, as far as they are known without a request. @throws USAGE, CONFIG */
  readLogin(): Promise<StoreConfig>;
  /** The quotas that can be seen; none where only S3 answers. Never fails. */
  quotas(): Promise<readonly Quota[]>;
  /** Keeps other runs from a file that they change too, until the lock is closed; waits for them. @throws LOCKED */
  lockFile(file: string): Promise<Lock>;
  /** The edges of doctor, the one command that examines everything. */
  openDoctor(): Promise<DoctorEdges>;
}

/** The locks that a run needs for itself alone. */
export interface LockRequest {
  readonly container: string;
  /** Subvolumes whose archives the run adds to, reads or removes. */
  readonly sources: readonly Uuid[];
  /** The directory that a restore writes into. */
  readonly target?: string | undefined;
  /** The value of `--wait-lock`. */
  readonly wait: string | undefined;
}

/** How requests are made, for commands with options for it. */
export interface Tuning {
  /** How long a failed request is retried. */
  readonly retryForMs?: number;
  /** How long a login and the first request are retried; absent: seconds, because a typing mistake may be the cause. */
  readonly contactForMs?: number | undefined;
  /** The limit for all uploads together; null = no limit. */
  readonly uploadBytesPerSecond?: number | null;
  /** The number of connections that read one archive at once, at most. */
  readonly connections?: number;
}

/** Holds for commands without options for it. */
const usualTuning = {
  retryForMs: parseDuration(options.retryFor.default, options.retryFor.flag),
  connections: parseCount(options.connections.default, options.connections.flag, Infinity),
};

/** The values that edges are opened with. */
interface Opening {
  readonly context: Context;
  readonly flags: TypedStoreFlags;
  /** Whether facts about archives are cached from run to run. */
  readonly cache: boolean;
  readonly log: Logger;
  readonly closers: Closers;
}

/** Logs in once: the result holds for the run. */
type FindAccess = (retryForMs?: number) => Promise<Access>;

type StoreEdges = Pick<
  Session,
  "readLogin" | "openContainer" | "openCatalogue" | "openProofs" | "quotas" | "openDoctor"
>;
type LocalEdges = Pick<Session, "openSource" | "openReceived" | "openTarget" | "openScratch" | "lock" | "lockFile">;

/** The edges of a run. Each is opened on first use, and closed by the closers. */
export function openEdges(opening: Opening): StoreEdges & LocalEdges {
  let access: Promise<Access> | null = null;
  const findAccess: FindAccess = (retryForMs) => (access ??= askForAccess(opening, retryForMs));
  return { ...storeEdges(opening, findAccess), ...localEdges(opening) };
}

function keepIn(closers: Closers) {
  return <Edge extends { close(): unknown }>(edge: Edge): Edge => {
    closers.add(() => edge.close());
    return edge;
  };
}

function storeEdges({ context, flags, cache, log, closers }: Opening, findAccess: FindAccess): StoreEdges {
  const { signal, tool, env } = context;
  const { containerName = "" } = flags;
  const keep = keepIn(closers);
  const openContainer = async (tuning?: Tuning): Promise<Container> => {
    const access = await findAccess(tuning?.contactForMs);
    const { openContainer } = await import("../swift/container.ts");
    return keep(
      await openContainer({ ...usualTuning, ...access, ...tuning, containerName, userAgent: tool }, log, signal),
    );
  };
  const findPlace = async (): Promise<Place> => ({ endpoint: (await findAccess()).endpoint, container: containerName });
  const openCatalogue = async (): Promise<Catalogue | null> => {
    const catalogue = cache ? await openKeptCatalogue(env, await findPlace()) : null;
    return catalogue === null ? null : keep(catalogue);
  };
  const quotas = async (): Promise<readonly Quota[] | null> => {
    const { readQuotas } = await import("../swift/probe.ts");
    return await readQuotas(await findAccess(), containerName, signal);
  };
  return {
    // The login is the same for any container.
    readLogin: async () => readLogin({ context, flags: { ...flags, containerName: containerName || "-" } }),
    openContainer,
    openCatalogue,
    openProofs: async () => openKeptProofs(env, await findPlace()),
    quotas: async () => (await quotas().catch(() => null)) ?? [],
    openDoctor: async () => {
      const { machine } = await import("../btrfs/machine.ts");
      const { greetStore } = await import("../swift/probe.ts");
      const { sdkVersion } = await import("../swift/sdk.ts");
      const [name = "", version = ""] = tool.split("/");
      const program = { name, version, node: context.node, sdk: sdkVersion() };
      const greet: DoctorEdges["greet"] = async () => greetStore(await findAccess(), signal);
      // The user waits for this answer, so it does not retry for many minutes.
      const tuning = { retryForMs: 5_000, uploadBytesPerSecond: null };
      return { machine, program, findAccess, greet, openContainer: () => openContainer(tuning), openCatalogue, quotas };
    },
  };
}

function localEdges({ context, log, closers }: Opening): LocalEdges {
  const { signal } = context;
  const keep = keepIn(closers);
  return {
    openSource: async (path, sendProto) => {
      const { openSource } = await import("../btrfs/source.ts");
      return keep(await openSource(path, { sendProto }, signal));
    },
    openReceived: async (path, sendProto) => {
      const { openReceived } = await import("../btrfs/source.ts");
      return keep(await openReceived(path, { sendProto }, signal));
    },
    openTarget: async (directory, options) => {
      const { openTarget } = await import("../btrfs/target.ts");
      return keep(await openTarget(directory, signal, options));
    },
    openScratch: async (options) => {
      const { openScratch } = await import("../btrfs/scratch.ts");
      return keep(await openScratch(options, signal));
    },
    lock: async (request) => keep(await takeRunLocks(request, context, log)),
    lockFile: async (file) => keep(await takeFileLock(resolve(file), context)),
  };
}

async function takeRunLocks(
  { container, sources, target, wait }: LockRequest,
  context: Context,
  log: Logger,
): Promise<Lock> {
  const { lockDirectory, lockOfSource, lockOfTarget, takeLocks } = await import("../state/lock.ts");
  const subjects = [...new Set(sources)].map((source) => lockOfSource(container, source));
  if (target !== undefined) subjects.push(await lockOfTarget(resolve(target)));
  const options = {
    ...lockOptions(lockDirectory(context.env), context),
    waitMs: wait === undefined ? 0 : parseDuration(wait, "--wait-lock"),
    onWait: (other: string) => log.info(`waiting for another run on ${other}`),
  };
  return await takeLocks(subjects, options, context.signal);
}

/** A run that was stopped takes this lock too, at its end. */
async function takeFileLock(file: string, context: Context): Promise<Lock> {
  const { lockDirectory, lockOfFile, takeLocks } = await import("../state/lock.ts");
  const options = { ...lockOptions(lockDirectory(context.env), context), waitMs: 30_000, onWait: () => undefined };
  return await takeLocks([lockOfFile(file)], options, new AbortController().signal);
}

function lockOptions(directory: string, { words, now, pid }: Context) {
  const command = words.join(" ").replace(/(--ping-url[= ])\S+/g, "$1…");
  return { directory, now, holder: { pid, command } };
}

async function readLogin({ context, flags }: Pick<Opening, "context" | "flags">): Promise<StoreConfig> {
  const { env, words, nodeReadsWords } = context;
  const readByNode = nodeReadsWords && words.some((word) => /^--env-file(=|$)/.test(word));
  return readStoreConfig(flags, await readEnvironment(env, { ...flags, readByNode }));
}

async function askForAccess(opening: Opening, retryForMs: number | undefined): Promise<Access> {
  const { context, flags, log } = opening;
  const { signal } = context;
  const config = await readLogin(opening);
  if (flags.envFile !== undefined) await warnOfReaders(flags.envFile, log.warn.bind(log));
  if (config.keystone !== null && sendsPasswordsOpenly(config.keystone)) log.warn(OPEN_PASSWORDS);
  const { openAccess } = await import("../swift/auth/credentials.ts");
  const access = await openAccess({ ...config, retryForMs }, log, signal);
  log.debug({ source: access.source, endpoint: access.endpoint }, "credentials");
  return access;
}
