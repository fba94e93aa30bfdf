// A Keystone on loopback, and a Swift that believes it: the authentication that real OpenStack clouds have. It is made
// fresh (about 12 s, nearly all of it for its database), so only the tests that are about logins start one.

import type { ChildProcess } from "node:child_process";
import { once } from "node:events";
import { mkdir, mkdtemp, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import {
  freePort,
  launch,
  openProcessCleanup,
  openSwift,
  roomForStorage,
  SYSTEM_PYTHON,
  type Swift,
  type SwiftOptions,
} from "./swift.ts";
import type { KeystoneFilters } from "./swift-config.ts";
import { nativeApi, type NativeApi } from "./swift-native.ts";

const START_TIMEOUT_MS = 60_000;
const ADMIN_PASSWORD = "admin-of-the-rig";
const SERVICE = { username: "swift", password: "swift-of-the-rig" };
const OPERATOR = { name: "operator", password: "operator-of-the-rig" };

export interface Keystone {
  /** `http://127.0.0.1:port/v3` */
  readonly authUrl: string;
  /** As the administrator: any request below the URL, with JSON in and out. @throws for a status from 400 on */
  request(method: string, path: string, body?: unknown): Promise<Answer>;
  addProject(name: string): Promise<string>;
  /** A user with one role in each of the projects; gives the user's id. */
  addUser(name: string, password: string, roles: Readonly<Record<string, string>>): Promise<string>;
  /** Puts an endpoint into the catalog; gives its id. */
  addEndpoint(type: string, region: string, url: string): Promise<string>;
  /** Ends it as a crash would. */
  stop(): Promise<void>;
  /** Brings it back; resolves when it answers. */
  start(): Promise<void>;
  close(): Promise<void>;
}

/** Parsed JSON of an answer. */
type Answer = Readonly<
  Record<string, Readonly<Record<string, unknown>> & readonly Readonly<Record<string, unknown>>[]>
>;

/** @throws when it does not answer within a minute, with the end of its log */
export async function openKeystone(): Promise<Keystone> {
  const directory = await mkdtemp(join(await roomForStorage(), "keystone-test-"));
  const cleanup = openProcessCleanup(directory);
  const port = await freePort();
  const url = `http://127.0.0.1:${port}`;
  const config = join(directory, "keystone.conf");
  let server: ChildProcess | null = null;

  async function run(name: string, ...command: string[]): Promise<void> {
    const child = launch(command, directory, name);
    await once(child, "exit");
    if (child.exitCode !== 0)
      throw new Error(`${name} failed:\n${await readFile(join(directory, `log/${name}.log`), "utf8")}`);
  }
  const manage = (...args: string[]): Promise<void> =>
    run(`manage-${args[0] ?? ""}`, "/usr/bin/keystone-manage", "--config-file", config, ...args);

  async function start(): Promise<void> {
    const uwsgi = [
      "uwsgi_python3",
      "--http-socket",
      `127.0.0.1:${port}`,
      "--wsgi-file",
      "/usr/bin/keystone-wsgi-public",
    ];
    const options = [
      "--need-app",
      "--processes",
      "1",
      "--buffer-size",
      "65535",
      "--rem-header",
      "Content-Length",
      "--die-on-term",
    ];
    server = launch([...uwsgi, ...options], directory, "keystone", { OS_KEYSTONE_CONFIG_FILES: config });
    await untilAnswers(url, server);
  }
  async function stop(): Promise<void> {
    const child = server;
    server = null;
    if (child === null || child.exitCode !== null || child.signalCode !== null) return;
    const gone = once(child, "exit");
    child.kill("SIGKILL");
    await gone;
  }
  async function close(): Promise<void> {
    await stop();
    await cleanup.run();
  }

  try {
    for (const name of ["log", "policy.d"]) await mkdir(join(directory, name));
    await writeFile(config, configuration(directory));
    await manage("db_sync");
    // Otherwise a write makes every reader wait, and some give up ("database is locked").
    await run(
      "wal",
      SYSTEM_PYTHON,
      "-c",
      `import sqlite3; sqlite3.connect("${directory}/keystone.db").execute("PRAGMA journal_mode=WAL")`,
    );
    await Promise.all(
      ["fernet_setup", "credential_setup"].map((task) =>
        manage(task, "--keystone-user", "root", "--keystone-group", "root"),
      ),
    );
    const urls = ["public", "internal"].flatMap((face) => [`--bootstrap-${face}-url`, `${url}/v3`]);
    await manage("bootstrap", "--bootstrap-password", ADMIN_PASSWORD, "--bootstrap-region-id", "RegionOne", ...urls);
    await start();
    return { authUrl: `${url}/v3`, ...(await administration(`${url}/v3`)), start, stop, close };
  } catch (error) {
    const log = await readFile(join(directory, "log/keystone.log"), "utf8").catch(() => "");
    await close();
    throw new Error(`Keystone did not start: ${String(error)}\n${log.slice(-2000)}`, { cause: error });
  }
}

/** A Keystone, and a Swift in its catalog that believes it. */
export interface Cloud {
  readonly keystone: Keystone;
  /** Its native API acts as a member of the project. */
  readonly swift: Swift;
  /** Id of the project `demo`. */
  readonly project: string;
  /** Another Swift that believes the same Keystone; in no catalog. */
  openSwift(
    options?: SwiftOptions,
    s3token?: Pick<KeystoneFilters, "s3tokenUrl" | "secretCacheSeconds">,
  ): Promise<Swift>;
  /** A token of a user, for the project `demo`. */
  requestToken(user: string, password: string): Promise<string>;
  /** One that may do all that its user may. */
  addApplicationCredential(user: string, password: string): Promise<{ readonly id: string; readonly secret: string }>;
  setQuota(container: string, bytes: number): Promise<void>;
  close(): Promise<void>;
}

export async function openCloud(region: string): Promise<Cloud> {
  const keystone = await openKeystone();
  const { authUrl } = keystone;
  const service = await keystone.addProject("service");
  const project = await keystone.addProject("demo");
  await keystone.addUser(SERVICE.username, SERVICE.password, { [service]: "admin" });
  await keystone.addUser(OPERATOR.name, OPERATOR.password, { [project]: "member" });
  const open = async (endpoint: string): Promise<NativeApi> =>
    nativeApi(`${endpoint}/v1/AUTH_${project}`, await requestToken(authUrl, OPERATOR, "demo"));
  const openOne: Cloud["openSwift"] = (options = {}, s3token = {}) =>
    openSwift({ region, ...options, keystone: { ...SERVICE, ...s3token, authUrl, open } });
  const swift = await openOne();
  await keystone.addEndpoint("object-store", region, `${swift.endpoint}/v1/AUTH_%(project_id)s`);
  return {
    keystone,
    swift,
    project,
    openSwift: openOne,
    requestToken: (name, password) => requestToken(authUrl, { name, password }, "demo"),
    addApplicationCredential: async (name, password) => {
      const ask = asking(authUrl, await requestToken(authUrl, { name, password }, "demo"));
      const { users = [] } = await keystone.request("GET", `/users?name=${name}`);
      const fields = { name: "tool", unrestricted: true };
      const answer = await ask("POST", `/users/${String(users[0]?.["id"])}/application_credentials`, {
        application_credential: fields,
      });
      const made = answer["application_credential"];
      return { id: String(made?.["id"]), secret: String(made?.["secret"]) };
    },
    setQuota: async (container, bytes) => {
      await swift.native.request("POST", `/${container}`, {
        headers: { "x-container-meta-quota-bytes": String(bytes) },
      });
    },
    close: async () => {
      await Promise.all([swift.close(), keystone.close()]);
    },
  };
}

async function requestToken(
  authUrl: string,
  user: { readonly name: string; readonly password: string },
  project: string,
): Promise<string> {
  const domain = { id: "default" };
  const identity = { methods: ["password"], password: { user: { ...user, domain } } };
  const answer = await fetch(`${authUrl}/auth/tokens`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ auth: { identity, scope: { project: { name: project, domain } } } }),
  });
  const token = answer.headers.get("x-subject-token");
  if (token === null) throw new Error(`no token for ${user.name}: ${answer.status} ${await answer.text()}`);
  return token;
}

function asking(authUrl: string, token: string): Keystone["request"] {
  return async (method, path, body) => {
    const answer = await fetch(authUrl + path, {
      method,
      headers: { "content-type": "application/json", "x-auth-token": token },
      body: body === undefined ? null : JSON.stringify(body),
    });
    const text = await answer.text();
    if (!answer.ok) throw new Error(`${method} ${path}: ${answer.status} ${text}`);
    return (text === "" ? {} : JSON.parse(text)) as Answer;
  };
}

async function administration(
  authUrl: string,
): Promise<Pick<Keystone, "request" | "addProject" | "addUser" | "addEndpoint">> {
  const request = asking(authUrl, await requestToken(authUrl, { name: "admin", password: ADMIN_PASSWORD }, "admin"));
  const make = async (path: string, kind: string, fields: object): Promise<string> =>
    String((await request("POST", path, { [kind]: fields }))[kind]?.["id"]);
  const services = new Map<string, string>();
  const { roles = [] } = await request("GET", "/roles");
  return {
    request,
    addProject: (name) => make("/projects", "project", { name, domain_id: "default" }),
    addUser: async (name, password, projects) => {
      const user = await make("/users", "user", { name, password, domain_id: "default" });
      for (const [project, role] of Object.entries(projects)) {
        const id = String(roles.find((known) => known["name"] === role)?.["id"]);
        await request("PUT", `/projects/${project}/users/${user}/roles/${id}`);
      }
      return user;
    },
    addEndpoint: async (type, region, url) => {
      const service = services.get(type) ?? (await make("/services", "service", { name: type, type }));
      services.set(type, service);
      if (region !== "RegionOne") await request("PUT", `/regions/${region}`, { region: {} }).catch(() => undefined);
      return make("/endpoints", "endpoint", { service_id: service, interface: "public", region_id: region, url });
    },
  };
}

/** `password_hash_rounds = 4`: passwords of an hour need not withstand anybody, and each login would take 0.3 s. */
function configuration(directory: string): string {
  return `\
[DEFAULT]
use_stderr = true
log_dir =
log_file =

[database]
connection = sqlite:///${directory}/keystone.db

[token]
provider = fernet
expiration = 3600

[fernet_tokens]
key_repository = ${directory}/fernet-keys

[credential]
key_repository = ${directory}/credential-keys

[cache]
enabled = false

[identity]
password_hash_rounds = 4

[oslo_policy]
policy_file = ${directory}/no-such-policy.yaml
policy_dirs = ${directory}/policy.d
`;
}

async function untilAnswers(url: string, server: ChildProcess): Promise<void> {
  const end = performance.now() + START_TIMEOUT_MS;
  while (performance.now() < end && server.exitCode === null && server.signalCode === null) {
    const answer = await fetch(`${url}/v3`, { signal: AbortSignal.timeout(5000) }).catch(() => null);
    if (answer?.ok === true) return;
    await sleep(50);
  }
  throw new Error("it does not answer");
}
