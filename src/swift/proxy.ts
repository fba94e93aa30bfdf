// Connections through a proxy; loaded only when one is configured. Packages do the protocol. This file adds what they lack:
// the trusted authorities, a scheme for requests without one, and an end for a connection whose signal aborts.

import type { Agent, ClientRequest } from "node:http";
import { isIP } from "node:net";
import { checkServerIdentity, type PeerCertificate, type SecureContext } from "node:tls";
import { HttpProxyAgent } from "http-proxy-agent";
import { HttpsProxyAgent } from "https-proxy-agent";
import { mayPass } from "./reach.ts";

export interface ProxyAgentOptions {
  readonly keepAlive: boolean;
  /** For the server, and for a proxy that is itself asked by TLS. */
  readonly secureContext: SecureContext | undefined;
  /** Also ends connections that are not established yet. */
  readonly signal: AbortSignal;
}

/** Asks the proxy to connect (CONNECT) to servers at https://; those at http:// it asks itself. */
export function openProxyAgent(proxy: URL, server: URL, options: ProxyAgentOptions): Agent {
  return server.protocol === "https:" ? new Tunnel(proxy, options) : new HttpProxyAgent(proxy, connectOptions(options));
}

type TunnelOptions = Parameters<HttpsProxyAgent<string>["connect"]>[1];

class Tunnel extends HttpsProxyAgent<string> {
  readonly #trusted: { readonly secureContext?: SecureContext };

  constructor(proxy: URL, options: ProxyAgentOptions) {
    super(proxy, connectOptions(options));
    this.protocol = "https:";
    this.#trusted = options.secureContext === undefined ? {} : { secureContext: options.secureContext };
  }

  /** An answer of the proxy that is not the server's is an error with a code of its own, EPROXY and the status. */
  override async connect(request: ClientRequest, options: TunnelOptions) {
    let status = 200;
    request.once("proxyConnect", ({ statusCode }: { readonly statusCode: number }) => (status = statusCode));
    const trusted = { ...this.#trusted, ...checkedAs(options.host) };
    const socket = await super.connect(request, { ...options, ...trusted, secureEndpoint: true });
    // A failure that may pass is retried like any answer of its kind.
    if (status < 400 || mayPass(status)) return socket;
    socket.destroy();
    throw Object.assign(new Error(`the proxy answers ${String(status)}`), { code: `EPROXY${String(status)}` });
  }
}

/** Where the host is an address, https-proxy-agent (9.1) leaves out whose certificate is expected: `localhost`'s then. */
function checkedAs(host: string | undefined) {
  if (host === undefined || isIP(host) === 0) return {};
  return { checkServerIdentity: (_: string, certificate: PeerCertificate) => checkServerIdentity(host, certificate) };
}

function connectOptions({ keepAlive, secureContext, signal }: ProxyAgentOptions) {
  return { keepAlive, maxSockets: Infinity, signal, ...(secureContext === undefined ? {} : { secureContext }) };
}
