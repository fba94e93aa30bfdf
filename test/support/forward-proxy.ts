// A forward proxy as firms have them: it connects to servers at https:// (CONNECT), and asks those at http:// itself.

import { once } from "node:events";
import { readFile } from "node:fs/promises";
import { createServer, request as forward, type IncomingMessage, type ServerResponse } from "node:http";
import { createServer as createTlsServer } from "node:https";
import { connect } from "node:net";
import { pipeline } from "node:stream/promises";
import type { Duplex } from "node:stream";

export interface ForwardProxyOptions {
  /** `user:password`; absent: everybody may. */
  readonly login?: string;
  /** Connects to no server but these; absent: to all. */
  readonly allowed?: readonly string[];
  /** PEM files; absent: it is asked without TLS. */
  readonly tls?: { readonly certificate: string; readonly key: string };
}

export interface ForwardProxy {
  /** `127.0.0.1:port` */
  readonly host: string;
  /** The requests that it got: `CONNECT host:port` or `METHOD url`. */
  readonly seen: string[];
  close(): Promise<void>;
}

export async function openForwardProxy({ login, allowed, tls }: ForwardProxyOptions = {}): Promise<ForwardProxy> {
  const seen: string[] = [];
  const expected = login === undefined ? undefined : `Basic ${Buffer.from(login).toString("base64")}`;
  const refusal = (request: IncomingMessage): number | null => {
    if (expected !== undefined && request.headers["proxy-authorization"] !== expected) return 407;
    return allowed !== undefined && !allowed.some((host) => request.url?.includes(host)) ? 403 : null;
  };
  const sockets = new Set<Duplex>();
  const server =
    tls === undefined
      ? createServer()
      : createTlsServer({ cert: await readFile(tls.certificate), key: await readFile(tls.key) });
  server.on("request", (request: IncomingMessage, response: ServerResponse) => {
    seen.push(`${request.method ?? ""} ${request.url ?? ""}`);
    const status = refusal(request);
    if (status !== null) return void response.writeHead(status).end("<html>refused by the proxy</html>");
    ask(request, response).catch(() => response.destroy());
  });
  server.on("connect", (request: IncomingMessage, socket: Duplex) => {
    sockets.add(socket);
    seen.push(`CONNECT ${request.url ?? ""}`);
    const status = refusal(request);
    if (status !== null) return void socket.end(`HTTP/1.1 ${status} No\r\n\r\n`);
    const { hostname, port } = new URL(`http://${request.url ?? ""}`);
    const onward = connect(Number(port), hostname, () => {
      socket.write("HTTP/1.1 200 Connected\r\n\r\n");
      socket.pipe(onward).pipe(socket);
    });
    onward.on("error", () => socket.end("HTTP/1.1 502 Bad Gateway\r\n\r\n"));
    socket.on("error", () => onward.destroy());
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const address = server.address();
  if (address === null || typeof address === "string") throw new Error("the proxy has no port");
  return {
    host: `127.0.0.1:${address.port}`,
    seen,
    async close() {
      for (const socket of sockets) socket.destroy();
      server.closeAllConnections();
      server.close();
      await once(server, "close");
    },
  };
}

async function ask(request: IncomingMessage, response: ServerResponse): Promise<void> {
  const headers = { ...request.headers };
  delete headers["proxy-authorization"];
  delete headers["proxy-connection"];
  const onward = forward(new URL(request.url ?? ""), { method: request.method, headers });
  request.pipe(onward);
  const [answer] = (await once(onward, "response")) as [IncomingMessage];
  response.writeHead(answer.statusCode ?? 500, answer.headers);
  if (request.method === "HEAD") response.end();
  else await pipeline(answer, response);
}
