// Reads of an object that nobody wants any more.

import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer, type IncomingMessage } from "node:http";
import type { AddressInfo } from "node:net";
import { describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { openClients } from "../../../src/swift/client.ts";
import type { Store } from "../../../src/swift/context.ts";
import { readObject } from "../../../src/swift/download.ts";

const MIB = 1024 ** 2;
const object = { key: "k", bytes: 12 * MIB, etag: "x-3", modified: new Date(0), metadata: {} };

/** A store that begins to answer each read, and then sends nothing more. */
async function withSilentStore(use: (store: Store, asked: Promise<IncomingMessage>) => Promise<void>): Promise<void> {
  const server = createServer((request, response) => {
    const [, start, end] = (/bytes=(\d+)-(\d+)/.exec(request.headers.range ?? "") ?? []).map(Number);
    const range = `bytes ${start ?? 0}-${end ?? 0}/${object.bytes}`;
    response.writeHead(206, { "content-range": range, etag: `"${object.etag}"` }).write(Buffer.alloc(100_000));
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const { client, close } = openClients({
    endpoint: new URL(`http://127.0.0.1:${(server.address() as AddressInfo).port}`),
    region: "r",
    credentials: { accessKeyId: "a", secretAccessKey: "b" },
    retryForMs: 60_000, stallMs: 60_000, userAgent: "test/1", log: undefined, uploadBytesPerSecond: null,
  }); // prettier-ignore
  const asked = once(server, "request").then(([request]) => request as IncomingMessage);
  // As much of a store as a read asks.
  const store = { client, container: "c", retryForMs: 60_000, connections: 1, segments: { areReadable: false } };
  try {
    await use(store as unknown as Store, asked);
  } finally {
    close();
    server.closeAllConnections();
    server.close();
  }
}

describe("a read that is stopped in the middle", () => {
  for (const partBytes of [null, 5 * MIB, 12 * MIB]) {
    test(`closes its connection at once, in parts of ${partBytes ?? "unknown size"}`, { timeout: 20_000 }, async () => {
      await withSilentStore(async (store, asked) => {
        const stop = new AbortController();
        const body = readObject(store, object, partBytes, stop.signal);
        body.resume();
        const { socket } = await asked;
        // By the ETag in the answer.
        while (!store.segments.areReadable) await sleep(10);
        stop.abort();
        await Promise.all([once(socket, "close"), assert.rejects(once(body, "end"), { code: "ABORTED" })]);
      });
    });
  }
});
