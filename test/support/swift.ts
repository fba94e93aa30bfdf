// An all-in-one Swift on loopback: memcached and the four servers as plain processes from a directory of generated
// configuration. It takes free ports, so that several run side by side; it ends only processes it started; nothing of
// it outlives the test process, however that dies.

import { spawn, type ChildProcess } from "node:child_process";
import { closeSync, openSync } from "node:fs";
import { mkdir, mkdtemp, open, readdir, readFile, rm, stat, writeFile } from "node:fs/promises";
import { once } from "node:events";
import { createServer } from "node:net";
import { tmpdir, userInfo } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { accounts, swiftFiles, type KeystoneFilters, type SwiftLimits, type SwiftPorts } from "./swift-config.ts";
import { openNative, type NativeApi } from "./swift-native.ts";

/** Debian's Python: the one Swift is installed for, whichever other comes first in PATH. */
export const SYSTEM_PYTHON = "/usr/bin/python3";

const REGION = "us-east-1";
const START_TIMEOUT_MS = 120_000;

export interface SwiftOptions {
  readonly limits?: SwiftLimits;
  /** Further settings of the proxy's [DEFAULT], such as `client_timeout`, `expose_info`. */
  readonly proxy?: Readonly<Record<string, string | number>>;
  /** Its own region; by default us-east-1. */
  readonly region?: string;
  /** Its users; by default tempauth's accounts. `open` gives the native API to the creator of the Swift. */
  readonly keystone?: KeystoneFilters & { open(endpoint: string): Promise<NativeApi> };
  /** Filters left out of the proxy's pipeline, such as s3api. */
  readonly without?: readonly string[];
  /** The command before that of every server but memcached, as of a root with another Swift in which the directory is seen. */
  readonly enter?: (directory: string) => readonly string[];
  /** Where to make the directory; by default on tmpfs, where that keeps extended attributes. */
  readonly storageDir?: string;
}

/** A server that a test can take away and bring back. */
export type SwiftServer = "proxy" | "object" | "container" | "account" | "memcached";

/** The key pair of a user. */
export interface Keys {
  readonly accessKey: string;
  readonly secretKey: string;
}

export interface Swift extends Keys {
  /** `http://127.0.0.1:port`, of S3 and of the native API. */
  readonly endpoint: string;
  readonly region: string;
  /** Same account, no rights. */
  readonly reader: Keys;
  /** Another account. */
  readonly stranger: Keys;
  /** Configuration, logs, and under srv/ what is stored. */
  readonly dir: string;
  /** The variables that the program and the SDK read: AWS_ACCESS_KEY_ID and so on. */
  readonly environment: Readonly<Record<string, string>>;
  /** The native API, as the tester. */
  readonly native: NativeApi;
  /** Makes a container over the native API, so that names S3 cannot address can be made too. */
  createContainer(name: string): Promise<void>;
  /** Ends a server as a crash would: SIGKILL. Resolves when it is gone. */
  stop(server: SwiftServer): Promise<void>;
  /** Brings a stopped server back; resolves when it answers. */
  start(server: SwiftServer): Promise<void>;
  /** SIGSTOP: connections are accepted by the kernel, nobody answers. */
  freeze(server: SwiftServer): void;
  /** SIGCONT. */
  thaw(server: SwiftServer): void;
  /** The last lines of every server's log, for the message of a failing test. */
  logs(lines?: number): Promise<string>;
  /** Ends everything and removes the directory. Safe to call twice. */
  close(): Promise<void>;
}

const SERVERS: readonly SwiftServer[] = ["memcached", "account", "container", "object", "proxy"];

/** The words that start a server in a root with another Swift. */
export function enterRoot(root: string): (directory: string) => readonly string[] {
  return (seen) => ["sh", "native/release/debian-root.sh", "enter", root, `${seen}:${seen}`, "--"];
}

/** TEST_SWIFT_ROOT names a root whose Swift all tests use, instead of this machine's. */
function enterChosen(): (directory: string) => readonly string[] {
  const root = process.env["TEST_SWIFT_ROOT"];
  return root === undefined ? () => [] : enterRoot(root);
}

/** A Swift that answers. @throws when it does not within two minutes, with the tails of its logs. */
export async function openSwift(options: SwiftOptions = {}): Promise<Swift> {
  for (let attempt = 1; ; attempt += 1) {
    try {
      return await tryOpenSwift(options);
    } catch (error) {
      // Somebody else may have taken a port between our look and the server's bind.
      if (attempt === 3 || !/in use|could not bind/i.test(String(error))) throw error;
    }
  }
}

async function tryOpenSwift(options: SwiftOptions): Promise<Swift> {
  const ports = await freePorts();
  const directory = await mkdtemp(join(options.storageDir ?? (await roomForStorage()), "swift-test-"));
  const cleanup = openProcessCleanup(directory);
  const processes = new Map<SwiftServer, ChildProcess>();
  const servers = { directory, ports, processes, enter: (options.enter ?? enterChosen())(directory) };

  async function close(): Promise<void> {
    await Promise.all([...processes.keys()].map((server) => stopServer(servers, server)));
    await cleanup.run();
  }

  try {
    await writeConfiguration(directory, ports, options);
    await Promise.all(SERVERS.map((server) => startServer(servers, server)));
    const endpoint = `http://127.0.0.1:${ports.proxy}`;
    const native = await (options.keystone?.open(endpoint) ?? openNative(endpoint, accounts.tester));
    const { putContainer: createContainer } = native;
    return {
      ...describe(endpoint, options.region ?? REGION),
      ...control(servers),
      dir: directory,
      native,
      createContainer,
      close,
    };
  } catch (error) {
    const logs = await readLogs(directory, 15);
    await close();
    throw new Error(`Swift did not start: ${String(error)}\n${logs}`, { cause: error });
  }
}

type Description = Pick<Swift, "endpoint" | "region" | "reader" | "stranger" | "environment" | keyof Keys>;

function describe(endpoint: string, region: string): Description {
  return {
    endpoint,
    region,
    ...accounts.tester,
    reader: accounts.reader,
    stranger: accounts.stranger,
    environment: {
      AWS_ACCESS_KEY_ID: accounts.tester.accessKey,
      AWS_SECRET_ACCESS_KEY: accounts.tester.secretKey,
      AWS_ENDPOINT_URL_S3: endpoint,
      AWS_REGION: region,
    },
  };
}

function control(servers: Servers): Pick<Swift, "stop" | "start" | "freeze" | "thaw" | "logs"> {
  return {
    stop: (server) => stopServer(servers, server),
    start: (server) => startServer(servers, server),
    freeze: (server) => void servers.processes.get(server)?.kill("SIGSTOP"),
    thaw: (server) => void servers.processes.get(server)?.kill("SIGCONT"),
    logs: (lines = 20) => readLogs(servers.directory, lines),
  };
}

/** Changes bytes in the middle of the newest stored file of this size. */
export async function rot(swift: Swift, bytes: number): Promise<void> {
  const file = await open(await newestFileOf(swift, bytes), "r+");
  await file.write(Buffer.from("rot!"), 0, 4, Math.floor(bytes / 2));
  await file.close();
}

/** Removes the newest stored file of this size, as a disk that is gone does: listings go on naming the object. */
export async function lose(swift: Swift, bytes: number): Promise<void> {
  await rm(await newestFileOf(swift, bytes));
}

/** Takes an object out of the listing of its container, as a container server that was away does; the object stays. */
export async function unlist(swift: Swift, container: string, key: string): Promise<void> {
  // The server writes rows that it keeps beside its database into that before it answers.
  await (await swift.native.request("GET", `/${encodeURIComponent(container)}`)).text();
  const databases = (await readdir(join(swift.dir, "srv"), { recursive: true })).filter((name) =>
    /containers\/.*\.db$/.test(name),
  );
  const script = [
    "import sqlite3, sys",
    "container, key, removed = sys.argv[1], sys.argv[2], 0",
    "for path in sys.argv[3:]:",
    "    database = sqlite3.connect(path)",
    "    if database.execute('SELECT container FROM container_info').fetchone() != (container,): continue",
    "    database.create_function('chexor', 3, lambda old, name, time: old)",
    "    removed += database.execute('DELETE FROM object WHERE name = ?', (key,)).rowcount",
    "    database.commit()",
    "sys.exit(0 if removed == 1 else 1)",
  ].join("\n");
  const paths = databases.map((name) => join(swift.dir, "srv", name));
  const process = spawn(SYSTEM_PYTHON, ["-c", script, container, key, ...paths], { stdio: "inherit" });
  const [status] = (await once(process, "exit")) as [number | null];
  if (status !== 0) throw new Error(`${key} is not in the one listing that it should be in`);
}

async function newestFileOf(swift: Swift, bytes: number): Promise<string> {
  const objects = join(swift.dir, "srv");
  const files = (await readdir(objects, { recursive: true })).filter((name) => name.endsWith(".data"));
  const looked = files.map(async (name) => ({ path: join(objects, name), stats: await stat(join(objects, name)) }));
  const sized = (await Promise.all(looked)).filter(({ stats }) => stats.size === bytes);
  const [newest] = sized.toSorted((a, b) => b.stats.mtimeMs - a.stats.mtimeMs);
  if (newest === undefined) throw new Error(`no file of ${bytes} bytes`);
  return newest.path;
}

async function writeConfiguration(directory: string, ports: SwiftPorts, options: SwiftOptions): Promise<void> {
  const files = swiftFiles({
    directory,
    ports,
    region: options.region ?? REGION,
    limits: options.limits ?? {},
    proxy: options.proxy ?? {},
    user: userInfo().username,
    suppressionSeconds: process.env["TEST_SWIFT_ROOT"] === undefined ? 0.5 : 1,
    keystone: options.keystone ?? null,
    without: options.without ?? [],
  });
  for (const name of ["etc", "srv/d1", "cache", "log"]) await mkdir(join(directory, name), { recursive: true });
  for (const [name, text] of Object.entries(files)) await writeFile(join(directory, "etc", name), text);
}

// --- processes

interface Servers {
  readonly directory: string;
  readonly ports: SwiftPorts;
  readonly processes: Map<SwiftServer, ChildProcess>;
  /** See {@link SwiftOptions.enter}. */
  readonly enter: readonly string[];
}

/** The kernel ends each server when the test process dies, whatever it dies of. */
export function launch(
  command: readonly string[],
  directory: string,
  name: string,
  env: Readonly<Record<string, string>> = {},
): ChildProcess {
  const log = openSync(join(directory, "log", `${name}.log`), "a");
  try {
    return spawn("setpriv", ["--pdeathsig", "KILL", "--", ...command], {
      // A group of its own: Ctrl-C is for the test process, which then closes us in order.
      detached: true,
      stdio: ["ignore", log, log],
      // All addresses here are numeric; loading eventlet's own resolver takes each server a sixth of its start.
      env: { ...process.env, EVENTLET_NO_GREENDNS: "yes", ...env },
    });
  } finally {
    closeSync(log);
  }
}

function commandOf({ directory, ports, enter }: Servers, server: SwiftServer): readonly string[] {
  const etc = join(directory, "etc");
  // Only the proxy needs the rings.
  const rings = server === "proxy" ? [ports.account, ports.container, ports.object].map(String) : [];
  if (server !== "memcached")
    return [...enter, SYSTEM_PYTHON, join(etc, "serve.py"), etc, `${server}-server`, ...rings];
  return ["memcached", "-u", userInfo().username, "-l", "127.0.0.1", "-p", `${ports.memcached}`, "-U", "0", "-m", "16"];
}

async function startServer(servers: Servers, server: SwiftServer): Promise<void> {
  if (servers.processes.has(server)) return;
  const child = launch(commandOf(servers, server), servers.directory, server);
  servers.processes.set(server, child);
  const failed = once(child, "exit").then((): never => {
    throw new Error(`${server} ended with ${child.exitCode ?? child.signalCode}`);
  });
  const answered = new AbortController();
  try {
    await Promise.race([failed, untilAnswers(server, servers.ports[server], answered.signal)]);
  } finally {
    answered.abort();
    // From now on its end is the test's own doing.
    failed.catch(() => undefined);
  }
}

async function stopServer({ processes }: Servers, server: SwiftServer): Promise<void> {
  const child = processes.get(server);
  if (child === undefined) return;
  processes.delete(server);
  if (child.exitCode !== null || child.signalCode !== null || child.pid === undefined) return;
  const gone = once(child, "exit");
  child.kill("SIGKILL");
  await gone;
}

async function untilAnswers(server: SwiftServer, port: number, signal: AbortSignal): Promise<void> {
  // memcached speaks no HTTP; it listens long before the first server needs it.
  if (server === "memcached") return;
  const url = `http://127.0.0.1:${port}/healthcheck`;
  const end = performance.now() + START_TIMEOUT_MS;
  while (performance.now() < end && !signal.aborted) {
    const answer = await fetch(url, { signal: AbortSignal.timeout(5000) }).catch(() => null);
    if (answer?.ok === true) return;
    await sleep(25);
  }
  throw new Error(`${server} does not answer on port ${port}`);
}

async function readLogs(directory: string, lines: number): Promise<string> {
  const tails = SERVERS.map(async (server) => {
    const text = await readFile(join(directory, "log", `${server}.log`), "utf8").catch(() => "");
    return `--- ${server}\n${text.trimEnd().split("\n").slice(-lines).join("\n")}`;
  });
  return (await Promise.all(tails)).join("\n");
}

// --- room and ports

const PROBE = `\
import os, tempfile
with tempfile.TemporaryFile(dir="/dev/shm") as file:
    os.setxattr(file.fileno(), "user.probe", b"x" * 4096)
`;

/** tmpfs where it keeps extended attributes as large as Swift's (Linux 6.6 and newer), else the usual place. */
export async function roomForStorage(): Promise<string> {
  const child = spawn(SYSTEM_PYTHON, ["-c", PROBE], { stdio: "ignore" });
  await once(child, "exit");
  return child.exitCode === 0 ? "/dev/shm" : tmpdir();
}

/**
 * A process that outlives ours: it waits for the end of its stdin, which also our death brings, and removes the
 * directory. So a killed test run leaves no storage behind in memory.
 */
export function openProcessCleanup(directory: string): { run(): Promise<void> } {
  const child = spawn("sh", ["-c", 'cat; rm -rf -- "$1" || { sleep 1; rm -rf -- "$1"; }', "sh", directory], {
    detached: true,
    stdio: ["pipe", "ignore", "ignore"],
  });
  const gone = once(child, "exit");
  return {
    async run() {
      child.stdin.end();
      await gone;
      await rm(directory, { recursive: true, force: true });
    },
  };
}

async function freePorts(): Promise<SwiftPorts> {
  const ports = new Set<number>();
  while (ports.size < SERVERS.length) ports.add(await freePort());
  const [proxy = 0, object = 0, container = 0, account = 0, memcached = 0] = ports;
  return { proxy, object, container, account, memcached };
}

/**
 * A port nobody listens on, from below the range that the kernel gives to outgoing connections (32768 and up): from
 * there, a client that keeps asking for a stopped server could be handed that server's own port.
 */
export async function freePort(): Promise<number> {
  for (;;) {
    const port = 10_000 + Math.floor(Math.random() * 22_000);
    // The one in this range that fetch() refuses, as browsers do.
    if (port === 10_080) continue;
    const server = createServer();
    const outcome = once(server, "listening").then(
      () => true,
      () => false,
    );
    server.listen(port, "127.0.0.1");
    if (!(await outcome)) continue;
    server.close();
    await once(server, "close");
    return port;
  }
}
