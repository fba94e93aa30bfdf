// Reads of an object that nobody wants any more.

import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer, type Server } from "node:http";
import type { AddressInfo, Socket } from "node:net";
import { describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { takeHead } from "../../../src/stream/peek.ts";
import { openClients } from "../../../src/swift/client.ts";
import type { Store } from "../../../src/swift/context.ts";
import { readObject } from "../../../src/swift/download.ts";
import { openPartHasher } from "../../../src/swift/part-hasher.ts";
import { openReadMemory } from "../../../src/swift/read-memory.ts";
import { readAll } from "../../support/pieces.ts";

const MIB = 1024 ** 2;
const object = { key: "k", bytes: 120 * MIB, etag: "x-9", modified: new Date(0), metadata: {} };

/** The blocks of memory of a store. */
const BLOCKS = 3;

/** As much of a store as a read asks, at this server. */
async function withStore(server: Server, use: (store: Store) => Promise<void>): Promise<void> {
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const { client, close } = openClients({
    endpoint: new URL(`http://127.0.0.1:${(server.address() as AddressInfo).port}`),
    region: "r",
    credentials: { accessKeyId: "a", secretAccessKey: "b" },
    retryForMs: 60_000, stallMs: 60_000, userAgent: "test/1", log: undefined, uploadBytesPerSecond: null,
  }); // prettier-ignore
  const reading = { connections: 1, readMemory: openReadMemory(BLOCKS), partHasher: openPartHasher(4) };
  const store = { client, container: "c", retryForMs: 60_000, segments: { areReadable: false }, ...reading };
  try {
    await use(store as unknown as Store);
  } finally {
    close();
    server.closeAllConnections();
    server.close();
  }
}

/** A store that begins to answer each read, and then sends nothing more. */
async function withSilentStore(
  isPlain: boolean,
  use: (store: Store, connections: readonly Socket[]) => Promise<void>,
): Promise<void> {
  const connections: Socket[] = [];
  const server = createServer((request, response) => {
    connections.push(request.socket);
    const [, start = 0, end = 0] = (/bytes=(\d+)-(\d+)/.exec(request.headers.range ?? "") ?? []).map(Number);
    const range = `bytes ${start}-${end}/${object.bytes}`;
    const length = isPlain ? { "content-length": end - start + 1 } : {};
    response.writeHead(206, { "content-range": range, etag: `"${object.etag}"`, ...length });
    response.write(Buffer.alloc(100_000));
  });
  await withStore(server, (store) => use(store, connections));
}

/** A store that answers each read with zeros. */
async function withZeros(use: (store: Store) => Promise<void>): Promise<void> {
  const server = createServer((request, response) => {
    const [, start = 0, end = 0] = (/bytes=(\d+)-(\d+)/.exec(request.headers.range ?? "") ?? []).map(Number);
    const length = end - start + 1;
    const range = `bytes ${start}-${end}/${object.bytes}`;
    response.writeHead(206, { "content-range": range, etag: `"${object.etag}"`, "content-length": length });
    response.end(Buffer.alloc(length));
  });
  await withStore(server, use);
}

test("pieces that are destroyed give their memory back, although nobody asks for the next one", async () => {
  await withZeros(async (store) => {
    const { signal } = new AbortController();
    const { head, complete } = await takeHead(readObject(store, object, null, signal), 10);
    assert.equal(head.length, 10);
    complete.destroy();
    const inTime = AbortSignal.timeout(60_000);
    await Promise.all(Array.from({ length: BLOCKS }, () => store.readMemory.acquire(inTime)));
    await assert.rejects(readAll(complete), { code: "ERR_STREAM_PREMATURE_CLOSE" });
  });
});

test("pieces give their memory back to whoever stops in the beginning", async () => {
  await withZeros(async (store) => {
    const { signal } = new AbortController();
    const { complete } = await takeHead(readObject(store, object, null, signal), 10);
    for await (const piece of complete) if (piece.length > 0) break;
    const inTime = AbortSignal.timeout(60_000);
    await Promise.all(Array.from({ length: BLOCKS }, () => store.readMemory.acquire(inTime)));
  });
});

describe("a read that is stopped in the middle", () => {
  for (const [isPlain, requests] of [
    [true, 1],
    // An answer without a length is dropped, and asked for again in the ordinary way.
    [false, 2],
  ] as const) {
    for (const partBytes of [null, 5 * MIB, 12 * MIB]) {
      const name = `${isPlain ? "with" : "without"} a length, in parts of ${partBytes ?? "unknown size"}`;
      test(`closes its connection at once, ${name}`, { timeout: 50_000 }, async () => {
        await withSilentStore(isPlain, async (store, connections) => {
          const stop = new AbortController();
          const body = readAll(readObject(store, object, partBytes, stop.signal));
          body.catch(() => undefined);
          // By the ETag in the answer.
          while (!store.segments.areReadable) await sleep(10);
          assert.equal(connections.length, requests);
          stop.abort();
          await assert.rejects(body, { code: "ABORTED" });
          while (connections.some(({ destroyed }) => !destroyed)) await sleep(10);
        });
      });
    }
  }
});
