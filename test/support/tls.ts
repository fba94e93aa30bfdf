// A way to a server over TLS, by a certificate of an authority that nobody knows.

import { once } from "node:events";
import { mkdtemp, readFile, writeFile } from "node:fs/promises";
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

/** The content of a certificate; by default it is right, and valid for a day from now on. */
export interface CertificateOptions {
  /** As OpenSSL writes it, such as `DNS:host`. */
  readonly altName?: string;
  /** From 1 January of the one year to 1 January of the other. */
  readonly years?: readonly [from: number, until: number];
}

/** Requests pass unchanged, their Host header too, so that signatures stay right. Files go into `directory`. */
export async function openTlsProxy(
  target: string,
  directory: string,
  certified: CertificateOptions | null = null,
): Promise<TlsProxy> {
  const { certificate, key } = await (certified === null ? makeCertificate(directory) : sign(directory, certified));
  const server = createServer({ cert: await readFile(certificate), key: await readFile(key) }, (request, response) => {
    const onward = forward(new URL(request.url ?? "/", target), { method: request.method, headers: request.headers });
    onward.on("response", (answer) => {
      response.writeHead(answer.statusCode ?? 500, answer.headers);
      // An answer to HEAD has no body, and pipeline would take that for an early end.
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

export function makeCertificate(directory: string): Promise<{ readonly certificate: string; readonly key: string }> {
  const known = made.get(directory) ?? sign(directory);
  made.set(directory, known);
  return known;
}

async function sign(
  directory: string,
  { altName = "IP:127.0.0.1", years }: CertificateOptions = {},
): Promise<{ readonly certificate: string; readonly key: string }> {
  const folder = await mkdtemp(join(directory, "tls-"));
  const [certificate, key, request] = [
    join(folder, "certificate.pem"),
    join(folder, "key.pem"),
    join(folder, "request.pem"),
  ];
  const kind = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", key];
  const names = ["-subj", "/CN=127.0.0.1", "-addext", `subjectAltName=${altName}`];
  if (years === undefined) {
    await run("openssl", "req", "-x509", "-days", "1", ...kind, ...names, "-out", certificate);
    return { certificate, key };
  }
  await run("openssl", "req", "-new", ...kind, ...names, "-out", request);
  // In OpenSSL 3.0 only `ca` takes a date to begin with.
  const settings = `database = ${folder}/index\nnew_certs_dir = ${folder}\nrand_serial = yes\ndefault_md = sha256\ncopy_extensions = copy\npolicy = p`;
  await writeFile(join(folder, "ca.cnf"), `[ca]\ndefault_ca = d\n[d]\n${settings}\n[p]\ncommonName = supplied\n`);
  await writeFile(join(folder, "index"), "");
  const dates = ["-startdate", `${years[0]}0101000000Z`, "-enddate", `${years[1]}0101000000Z`];
  const files = ["-config", join(folder, "ca.cnf"), "-keyfile", key, "-in", request, "-out", certificate];
  await run("openssl", "ca", "-selfsign", "-batch", "-notext", ...files, ...dates);
  return { certificate, key };
}
