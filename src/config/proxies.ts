// Chooses the proxy between this machine and a server, by the variables and rules of curl (7.86 and newer, its manual).
// Pure: the environment is an argument.

import { BlockList, isIP, isIPv6 } from "node:net";
import { BackupError } from "../errors.ts";
import type { Environment } from "./openstack.ts";

/** A proxy, and the variable that names it. */
export interface Proxy {
  readonly url: URL;
  readonly variable: string;
}

export interface Proxies {
  /** For servers at http:// and at https://; null: none. */
  readonly http: Proxy | null;
  readonly https: Proxy | null;
  /** Hosts that are reached directly. */
  readonly except: readonly string[];
  /** True where only HTTP_PROXY is set, which curl does not read: in a CGI script a visitor could set it. */
  readonly ignoresUpperCase: boolean;
}

/** @throws CONFIG for a proxy that is not a URL, or of an unknown kind; the message never contains its password */
export function readProxies(env: Environment): Proxies {
  const except = env["no_proxy"] ?? env["NO_PROXY"] ?? "";
  const http = firstSet(env, ["http_proxy", "all_proxy", "ALL_PROXY"]);
  return {
    http: http === null ? null : parseProxy(env, http),
    https: readProxy(env, ["https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"]),
    except: except.split(/[\s,]+/).filter((host) => host !== ""),
    ignoresUpperCase: http === null && (env["HTTP_PROXY"] ?? "") !== "",
  };
}

function readProxy(env: Environment, variables: readonly string[]): Proxy | null {
  const variable = firstSet(env, variables);
  return variable === null ? null : parseProxy(env, variable);
}

/** Returns the first variable that is set. An empty one counts: it overrides the next ones. */
function firstSet(env: Environment, variables: readonly string[]): string | null {
  return variables.find((name) => env[name] !== undefined) ?? null;
}

/** Defaults to http without a scheme and to port 1080 without a port, as curl does. */
function parseProxy(env: Environment, variable: string): Proxy | null {
  const text = env[variable] ?? "";
  if (text === "") return null;
  const full = /^[a-z][a-z0-9+.-]*:\/\//i.test(text) ? text : `http://${text}`;
  const url = URL.canParse(full) ? new URL(full) : null;
  if (url === null || !/^https?:$/.test(url.protocol) || url.hostname === "") {
    throw new BackupError("CONFIG", `${variable} is not a proxy of the form http://host:port`, {
      hint: "only HTTP and HTTPS proxies are supported",
    });
  }
  // The parsed URL omits a port that the scheme implies.
  if (url.protocol === "http:" && url.port === "" && !/:80(\/|$)/.test(full)) url.port = "1080";
  return { url, variable };
}

/** The proxy for requests to a server; null: direct. */
export function chooseProxy(proxies: Proxies, server: URL): Proxy | null {
  const proxy = server.protocol === "https:" ? proxies.https : proxies.http;
  return proxy === null || isExcepted(server.hostname, proxies.except) ? null : proxy;
}

function isExcepted(hostname: string, except: readonly string[]): boolean {
  const host = withoutBrackets(hostname).replace(/\.$/, "").toLowerCase();
  if (except.length === 1 && except[0] === "*") return true;
  return except.some((entry) =>
    isIP(host) === 0 ? matchesName(host, entry) : matchesAddress(host, withoutBrackets(entry)),
  );
}

/** A name matches itself and all names below it, with or without a leading dot. */
function matchesName(host: string, entry: string): boolean {
  const name = entry.replace(/^\./, "").replace(/\.$/, "").toLowerCase();
  return host === name || host.endsWith(`.${name}`);
}

/** An address matches itself, one with /BITS its network. */
function matchesAddress(host: string, entry: string): boolean {
  const [address = "", bits] = entry.split("/");
  if (isIP(address) !== isIP(host)) return false;
  const family = isIPv6(host) ? "ipv6" : "ipv4";
  const network = new BlockList();
  const prefix = bits === undefined ? (family === "ipv6" ? 128 : 32) : Number(bits);
  if (!Number.isInteger(prefix) || prefix < 0 || prefix > (family === "ipv6" ? 128 : 32)) return false;
  network.addSubnet(address, prefix, family);
  return network.check(host, family);
}

function withoutBrackets(host: string): string {
  return host.replace(/^\[|\]$/g, "");
}

/** Describes the proxy in a sentence, without user and password. */
export function describeProxy({ url, variable }: Proxy): string {
  const port = url.port === "" ? (url.protocol === "https:" ? "443" : "80") : url.port;
  return `${url.hostname}:${port} (${variable})`;
}
