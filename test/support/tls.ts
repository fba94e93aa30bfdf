// A way to a server over TLS, by a certificate of an authority that nobody knows.

import { once } from "node:events";
import { mkdtemp, readFile } from "node:fs/promises";
import { request as forward } from "node:http";
import { createServer } from "node:https";
import { join } from "node:path";
import { pipeline } from "node:stream/promises";
import { run } from "./loopback.ts";

export interface TlsProxy {
  readonly url: string;
  /** PEM file of the authority. */
  readonly authority: string;
  close(): Promise<void>;
}

/** Requests pass unchanged, their Host header too, so that signatures stay right. Files go into `directory`. */
export async function openTlsProxy(target: string, directory: string): Promise<TlsProxy> {
  const { certificate, key } = await makeCertificate(directory);
  const server = createServer({ cert: await readFile(certificate), key: await readFile(key) }, (request, response) => {
    const onward = forward(new URL(request.url ?? "/", target), { method: request.method, headers: request.headers });
    onward.on("response", (answer) => {
      response.writeHead(answer.statusCode ?? 500, answer.headers);
      // Of an answer to HEAD there is nothing to come, and pipeline would take that for an early end.
      if (request.method === "HEAD") return void response.end();
      pipeline(answer, response).catch(() => response.destroy());
    });
    onward.on("error", () => response.destroy());
    request.pipe(onward);
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const address = server.address();
  if (address === null || typeof address === "string") throw new Error("the proxy has no port");
  return {
    url: `https://127.0.0.1:${address.port}`,
    authority: certificate,
    async close() {
      server.closeAllConnections();
      server.close();
      await once(server, "close");
    },
  };
}

/** One per directory: signed by itself, so it is its own authority. */
const made = new Map<string, Promise<{ readonly certificate: string; readonly key: string }>>();

function makeCertificate(directory: string): Promise<{ readonly certificate: string; readonly key: string }> {
  const known = made.get(directory) ?? sign(directory);
  made.set(directory, known);
  return known;
}

async function sign(directory: string): Promise<{ readonly certificate: string; readonly key: string }> {
  const folder = await mkdtemp(join(directory, "tls-"));
  const [certificate, key] = [join(folder, "certificate.pem"), join(folder, "key.pem")];
  const kind = ["-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "1"];
  const names = ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"];
  await run("openssl", "req", ...kind, ...names, "-out", certificate, "-keyout", key);
  return { certificate, key };
}
