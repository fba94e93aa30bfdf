// Keystone, version 3: from a login to a token and a catalog. A token lives as long as the few requests made with it;
// each run logs in again, so none is ever renewed and none is kept.

import type { InDomain, KeystoneLogin, Named } from "../../config/openstack.ts";
import type { Network, HttpAnswer } from "../http.ts";
import { field, list, parseJson, text } from "../../json.ts";
import { judgeProxy, judgeRedirect } from "../reach.ts";
import { BackupError } from "../../errors.ts";
import { ask } from "./ask-keystone.ts";

export interface Session {
  readonly login: KeystoneLogin;
  readonly network: Network;
  readonly token: string;
  readonly user: { readonly id: string; readonly name: string };
  readonly project: { readonly id: string; readonly name: string };
  readonly catalog: readonly Endpoint[];
}

/** A login under way. */
interface LoginRequest {
  readonly login: KeystoneLogin;
  readonly network: Network;
  readonly signal: AbortSignal;
}

/** One entry of the catalog. */
export interface Endpoint {
  readonly service: string;
  readonly interface: string;
  readonly region: string;
  readonly url: string;
}

/** @throws ACCESS_DENIED, CONFIG, STORE_UNAVAILABLE, ABORTED */
export async function logIn(login: KeystoneLogin, network: Network, signal: AbortSignal): Promise<Session> {
  const request = { login, network, signal };
  const answer = await requestToken(request);
  if (answer.status === 401 || answer.status === 403) throw await explainRefusal(request);
  const session = readSession(request, answer);
  if (session === "no project") throw await askForProject(request, answer);
  if (session !== null) return session;
  throw notKeystone(request, answer);
}

function notKeystone({ login, network }: LoginRequest, { status, headers }: HttpAnswer): BackupError {
  const url = new URL(login.authUrl);
  const proxy = network.describeProxy(url);
  const redirect =
    status === 407 ? judgeProxy(status, url.host, proxy) : judgeRedirect(status, headers.location ?? null, url);
  if (redirect !== null)
    return new BackupError(redirect.code, `Keystone cannot be reached: ${redirect.message}`, { hint: redirect.hint });
  return new BackupError("CONFIG", `${login.authUrl} does not answer like Keystone (status ${String(status)})`, {
    hint: "check OS_AUTH_URL; it usually ends with /v3",
  });
}

/**
 * Where in the catalog the S3 API is: an `s3` service if there is one, else the proxy that serves the containers.
 * @throws CONFIG
 */
export function findS3({ catalog, login }: Session): { readonly endpoint: string; readonly region: string } {
  for (const service of ["s3", "object-store"]) {
    const ofService = catalog.filter((entry) => entry.service === service && entry.interface === login.interface);
    const here = ofService.filter(({ region }) => login.region === null || region === login.region);
    const regions = [...new Set(here.map(({ region }) => region))];
    if (regions.length > 1) {
      throw new BackupError("CONFIG", "Keystone's catalog has several regions, and none is chosen", {
        hint: `set OS_REGION_NAME to one of ${regions.join(", ")}`,
      });
    }
    const [found] = here;
    if (found !== undefined) return { endpoint: new URL(found.url).origin, region: found.region };
  }
  const stores = catalog.filter(({ service }) => service === "s3" || service === "object-store");
  const where = login.region === null ? "" : ` in region '${login.region}'`;
  const known = stores.map((entry) => `${entry.region} (${entry.interface})`).join(", ");
  throw new BackupError("CONFIG", `Keystone's catalog has no ${login.interface} object store${where}`, {
    hint: known === "" ? "use --endpoint URL" : `OS_REGION_NAME (and OS_INTERFACE) may be ${known}`,
  });
}

/** Swift's own URL of the project's account; null when the catalog has none. */
export function findAccount({ catalog, login }: Session, region: string | null): string | null {
  const entry = catalog.find(
    ({ service, interface: face, region: own }) =>
      service === "object-store" && face === login.interface && (region === null || own === region),
  );
  return entry?.url ?? null;
}

async function requestToken({ login, network, signal }: LoginRequest): Promise<HttpAnswer> {
  const { identity, project, authUrl } = login;
  const url = `${authUrl}/auth/tokens`;
  if (identity.kind === "token" && project === null) {
    const headers = { "x-auth-token": identity.token, "x-subject-token": identity.token };
    return ask(url, { headers, network }, signal);
  }
  const scope = project === null ? {} : { scope: { project } };
  return ask(url, { method: "POST", body: { auth: { identity: identityBody(login), ...scope } }, network }, signal);
}

function identityBody({ identity }: KeystoneLogin): object {
  switch (identity.kind) {
    case "password":
      return { methods: ["password"], password: { user: { ...identity.user, password: identity.password } } };
    case "token":
      return { methods: ["token"], token: { id: identity.token } };
    case "application credential": {
      const credential = { ...identity.credential, secret: identity.secret };
      return { methods: ["application_credential"], application_credential: credential };
    }
  }
}

/**
 * Keystone answers a wrong password and a wrong project alike. A login without a project shows whether it is the
 * project.
 */
async function explainRefusal(request: LoginRequest): Promise<BackupError> {
  const { login, network, signal } = request;
  const { identity, project, authUrl } = login;
  const { host } = new URL(authUrl);
  if (identity.kind === "password" && project !== null) {
    const body = { auth: { identity: identityBody(login), scope: "unscoped" } };
    const answer = await ask(`${authUrl}/auth/tokens`, { method: "POST", body, network }, signal);
    if (answer.status === 201) {
      const hint = await projectsHint(request, answer);
      return new BackupError(
        "ACCESS_DENIED",
        `Keystone at ${host} knows ${subject(login)}, but not as a member of ${describe("project", project)}`,
        { hint },
      );
    }
  }
  const hints = {
    password: "check OS_USERNAME, OS_PASSWORD and OS_USER_DOMAIN_NAME",
    token: "tokens expire after some hours: get a new one, or set OS_USERNAME and OS_PASSWORD",
    "application credential": "check OS_APPLICATION_CREDENTIAL_ID and OS_APPLICATION_CREDENTIAL_SECRET",
  } as const;
  return new BackupError("ACCESS_DENIED", `Keystone at ${host} refuses ${subject(login)}`, {
    hint: `${hints[identity.kind]}${otherLogin(identity)}`,
  });
}

/** The hint about another login that was not tried. */
function otherLogin(identity: KeystoneLogin["identity"]): string {
  if (identity.kind !== "password" || identity.passedOver === undefined) return "";
  return `; ${identity.passedOver} was not tried, as OS_AUTH_TYPE=v3applicationcredential does not choose it`;
}

async function askForProject(request: LoginRequest, answer: HttpAnswer): Promise<BackupError> {
  const { login } = request;
  return new BackupError("CONFIG", `no project given for ${subject(login)}`, {
    hint: await projectsHint(request, answer),
  });
}

async function projectsHint({ login, network, signal }: LoginRequest, { headers }: HttpAnswer): Promise<string> {
  const token = { "x-auth-token": String(headers["x-subject-token"]) };
  const projects = await ask(`${login.authUrl}/auth/projects`, { headers: token, network }, signal);
  const names = list(parseJson(projects.text), "projects").flatMap((entry) => text(entry, "name") ?? []);
  return names.length === 0 ? "this user has no project" : `OS_PROJECT_NAME may be ${names.join(", ")}`;
}

function readSession(
  { login, network }: LoginRequest,
  { status, headers, text: body }: HttpAnswer,
): Session | "no project" | null {
  const token = headers["x-subject-token"];
  const described = field(parseJson(body), "token");
  const [user, project] = [readNamed(field(described, "user")), readNamed(field(described, "project"))];
  if (status >= 300 || typeof token !== "string" || user === null) return null;
  if (project === null) return "no project";
  return { login, network, token, user, project, catalog: readCatalog(described) };
}

function readCatalog(described: unknown): Endpoint[] {
  return list(described, "catalog").flatMap((service) =>
    list(service, "endpoints").flatMap((entry) => {
      const url = text(entry, "url") ?? "";
      if (!URL.canParse(url)) return [];
      const region = text(entry, "region_id") ?? text(entry, "region") ?? "";
      return [{ service: text(service, "type") ?? "", interface: text(entry, "interface") ?? "", region, url }];
    }),
  );
}

function readNamed(value: unknown): { readonly id: string; readonly name: string } | null {
  const id = text(value, "id");
  return id === null ? null : { id, name: text(value, "name") ?? id };
}

/** The user who logs in, for people. */
export function subject({ identity }: KeystoneLogin): string {
  switch (identity.kind) {
    case "password":
      return describe("user", identity.user);
    case "token":
      return "this token";
    case "application credential":
      return "an application credential";
  }
}

function describe(what: string, who: InDomain): string {
  if ("id" in who) return `${what} ${who.id}`;
  return `${what} '${who.name}' (domain ${nameOf(who.domain)})`;
}

function nameOf(named: Named): string {
  return "id" in named ? named.id : `'${named.name}'`;
}
