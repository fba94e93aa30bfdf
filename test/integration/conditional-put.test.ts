// Small objects on a store that takes a conditional PUT, as Swift does from 2.36 on: one request creates the object only
// where there is none. The Swift that tests run against is older, so a server stands in that answers as a newer one does.

import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { once } from "node:events";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import { Readable } from "node:stream";
import { buffer } from "node:stream/consumers";
import { after, before, describe, test } from "node:test";
import { openContainer } from "../../src/swift/container.ts";
import type { Container } from "../../src/operations/store-ports.ts";

const { signal } = new AbortController();
const options = { partBytes: 5 * 2 ** 20, concurrency: 1, partsInMemory: 2, metadata: { kind: "ours" } };

interface Held {
  readonly body: Buffer;
  readonly kind: string;
}

describe("a small object on a store that accepts a conditional PUT", () => {
  const objects = new Map<string, Held>();
  const seen: string[] = [];
  let loses = false;
  let server: Server;
  let container: Container;

  before(async () => {
    server = createServer((request, response) => void answer(request, response));
    server.listen(0, "127.0.0.1");
    await once(server, "listening");
    const address = server.address();
    const port = typeof address === "object" && address !== null ? address.port : 0;
    const credentials = { accessKeyId: "a", secretAccessKey: "s" };
    const where = { containerName: "small", endpoint: `http://127.0.0.1:${port}`, region: "r", credentials };
    container = await openContainer(
      { ...where, userAgent: "test/1", connections: 4, retryForMs: 3_000 },
      undefined,
      signal,
    );
  });
  after(() => {
    container.close();
    server.close();
  });

  async function answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const { pathname } = new URL(request.url ?? "/", "http://x");
    const body = await buffer(request);
    const held = objects.get(pathname);
    seen.push(`${request.method ?? ""} ${pathname}`);
    if (pathname === "/info") return void response.end(JSON.stringify({ swift: { version: "2.38.2" } }));
    if (request.method === "GET") return void response.end("<ListBucketResult><Name>small</Name></ListBucketResult>");
    if (request.method === "HEAD") {
      if (held === undefined) return void response.writeHead(404).end();
      response.writeHead(200, { "content-length": held.body.length, etag: etagOf(held), "x-amz-meta-kind": held.kind });
      return void response.end();
    }
    assert.equal(request.headers["if-none-match"], "*");
    if (held !== undefined) return void response.writeHead(412).end("<Error><Code>PreconditionFailed</Code></Error>");
    const kept = { body, kind: String(request.headers["x-amz-meta-kind"]) };
    objects.set(pathname, kept);
    if (loses) response.destroy();
    else response.writeHead(200, { etag: etagOf(kept) }).end();
  }

  const put = (key: string, text: string) => container.put(key, Readable.from([Buffer.from(text)]), options, signal);

  test("is created by one request", async () => {
    const stored = await put("one", "x");
    const md5 = createHash("md5").update("x").digest();
    assert.deepEqual(stored, { bytes: 1, etag: md5.toString("hex"), parts: 1, md5s: [md5], resumedBytes: 0 });
    assert.deepEqual(
      seen.filter((line) => line.endsWith("/one")),
      ["HEAD /small/one", "PUT /small/one", "HEAD /small/one"],
    );
  });

  test("has succeeded when the answer was lost and the second attempt is refused", async () => {
    loses = true;
    await put("lost", "x");
    loses = false;
    assert.equal(seen.filter((line) => line === "PUT /small/lost").length, 2);
  });

  test("is never created over another's, nor mistaken for it when only their bytes are equal", async () => {
    for (const [key, body] of [
      ["theirs", "y"],
      ["same", "x"],
    ] as const) {
      const late = Readable.from(
        (async function* () {
          yield Buffer.from("x");
          await Promise.resolve(objects.set(`/small/${key}`, { body: Buffer.from(body), kind: "theirs" }));
        })(),
      );
      await assert.rejects(container.put(key, late, options, signal), { code: "ALREADY_ARCHIVED" });
      assert.equal(objects.get(`/small/${key}`)?.kind, "theirs");
    }
    assert.deepEqual(
      seen.filter((line) => line.startsWith("DELETE")),
      [],
    );
  });
});

function etagOf({ body }: Held): string {
  return `"${createHash("md5").update(body).digest("hex")}"`;
}
