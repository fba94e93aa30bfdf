// Downloads on which something goes wrong between us and a real Swift, or inside it.

import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { Readable } from "node:stream";
import { after, afterEach, before, beforeEach, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { BackupError, type FailureCode } from "../../src/errors.ts";
import { openContainer, type ContainerOptions } from "../../src/swift/container.ts";
import { openFaultProxy, type FaultProxy } from "../support/fault-proxy.ts";
import { readAll } from "../support/pieces.ts";
import { noSwift } from "../support/requirements.ts";
import { openSwift, rot, type Swift } from "../support/swift.ts";
import type { Container, ObjectDetails } from "../../src/operations/store-ports.ts";

const MIB = 1024 ** 2;
const PART_BYTES = 5 * MIB;
/** Longer than a test may take. */
const FOREVER_MS = 600_000;
const { signal } = new AbortController();
const isGet = (method: string): boolean => method === "GET";

describe("downloads with faults", { skip: noSwift() }, () => {
  const body = randomBytes(12 * MIB);
  let swift: Swift;
  let proxy: FaultProxy;
  let container: Container;
  let object: ObjectDetails;

  before(async () => {
    // A reader that pauses is cut off after 10 seconds, instead of the minute of a stock Swift.
    swift = await openSwift({ proxy: { client_timeout: 10 } });
    await swift.createContainer("faults");
    const direct = await open(swift.endpoint);
    object = await store(direct, "object", body);
    direct.close();
  });
  after(() => swift.close());
  beforeEach(async () => {
    proxy = await openFaultProxy(swift.endpoint);
    container = await open(proxy.endpoint);
  });
  afterEach(async () => {
    container.close();
    await proxy.close();
  });

  async function open(endpoint: string, changes: Partial<ContainerOptions> = {}): Promise<Container> {
    const credentials = { accessKeyId: swift.accessKey, secretAccessKey: swift.secretKey };
    const settings = { containerName: "faults", endpoint, region: null, credentials, userAgent: "test/1" };
    const limits = { connections: 4, retryForMs: 60_000, stallMs: 60_000 };
    return openContainer({ ...settings, ...limits, ...changes }, undefined, signal);
  }

  async function store(
    into: Container,
    key: string,
    content: Buffer,
    partBytes: number = PART_BYTES,
  ): Promise<ObjectDetails> {
    await into.put(
      key,
      Readable.from([content]),
      { partBytes, concurrency: 2, partsInMemory: 4, metadata: {} },
      signal,
    );
    const found = await into.head(key, signal);
    assert.ok(found !== null);
    return found;
  }

  test("resumes where it was cut, stalled or refused", async () => {
    proxy.plan({ when: isGet, fault: { kind: "cut", afterBytes: 3_000_000 } });
    proxy.plan({ when: isGet, fault: { kind: "answer", status: 503 } });
    proxy.plan({ when: isGet, fault: { kind: "cut", afterBytes: 0 } });
    proxy.plan({ when: isGet, fault: { kind: "stall", afterBytes: 1_000_000 } });
    const watchful = await open(proxy.endpoint, { stallMs: 1_500 });
    assert.ok((await readAll(watchful.get(object, PART_BYTES, signal))).equals(body));
    watchful.close();
    assert.ok(proxy.seen.filter((line) => line.startsWith("GET /faults/object")).length >= 5);
  });

  for (const connections of [1, 2, 3]) {
    const name = `on ${connections} of four connections, no part waits in vain for others to be hashed with`;
    test(name, { timeout: 100_000 }, async () => {
      const few = await open(proxy.endpoint, { connections, readWaitMs: FOREVER_MS });
      try {
        const large = randomBytes(7 * PART_BYTES + 1);
        const stored = await store(few, `few ${connections}`, large);
        assert.ok((await readAll(few.get(stored, PART_BYTES, signal))).equals(large));
      } finally {
        few.close();
      }
    });
  }

  test("peeks over a cut", async () => {
    proxy.plan({ when: isGet, fault: { kind: "cut", afterBytes: 100 } });
    assert.ok((await container.peek("object", 1000, signal)).equals(body.subarray(0, 1000)));
  });

  test("withholds the end when a bit was flipped on the way", async () => {
    proxy.plan({ when: isGet, fault: { kind: "flip", atByte: 4_000_000 } });
    await assertDamaged(container.get(object, PART_BYTES, signal), body.length);
  });

  test("reads on a few connections at once, and keeps none waiting for a reader that pauses", async () => {
    // A block is as large as a part where that fits.
    const large = randomBytes(5 * PART_BYTES + 1);
    const stored = await store(container, "pieces", large);
    const gets = (): number => proxy.seen.filter((line) => line.startsWith("GET /faults/pieces")).length;
    // Nothing comes on the first connection: that the others are still used is all there is to see.
    proxy.plan({ when: isGet, fault: { kind: "stall", afterBytes: 0, ms: 1_500 } });
    const download = container.get(stored, PART_BYTES, signal);
    const pieces = download[Symbol.asyncIterator]();
    const first = pieces.next();
    const start = performance.now();
    while (gets() < 5 || proxy.underway() > 0) {
      assert.ok(performance.now() - start < 120_000, `${String(gets())} requests`);
      await sleep(50);
    }
    // For longer than the server waits. Memory holds the pieces of four connections, not the complete object.
    await sleep(12_000);
    assert.equal(gets(), 5, "one of them twice, for it was stalled");
    const begun = Buffer.from(((await first) as IteratorYieldResult<Buffer>).value);
    const rest = await readAll({ [Symbol.asyncIterator]: () => pieces });
    assert.ok(Buffer.concat([begun, rest]).equals(large));
    assert.equal(gets(), 7, "each block was read once");
  });

  test("stops at once when the store does not answer", { timeout: 60_000 }, async () => {
    // Nothing but the stop ends what hangs here.
    const patient = await open(proxy.endpoint, { retryForMs: FOREVER_MS, stallMs: FOREVER_MS });
    for (const fault of [{ kind: "hang" }, { kind: "stall", afterBytes: 2_000_000 }] as const) {
      const stop = new AbortController();
      proxy.plan({ when: isGet, fault, then: () => void setTimeout(() => stop.abort(), 300) });
      await rejects(readAll(patient.get(object, PART_BYTES, stop.signal)), "ABORTED");
    }
    patient.close();
  });

  test("releases the connection when it is no longer needed", { timeout: 60_000 }, async () => {
    for await (const piece of container.get(object, PART_BYTES, signal)) if (piece.length > 0) break;
    while (proxy.underway() > 0) await sleep(20);
  });

  test("outlasts a crash of the object server", async () => {
    const large = randomBytes(64 * MIB);
    const stored = await store(container, "large", large);
    const chunks: Buffer[] = [];
    let crash: Promise<void> | undefined;
    for await (const chunk of container.get(stored, PART_BYTES, signal)) {
      crash ??= swift.stop("object").then(async () => {
        await sleep(3_000);
        await swift.start("object");
      });
      if (chunks.length === 16) await sleep(1_000);
      chunks.push(Buffer.from(chunk));
    }
    await crash;
    assert.ok(Buffer.concat(chunks).equals(large));
    const gets = proxy.seen.filter((line) => line.startsWith("GET /faults/large")).length;
    assert.ok(gets > large.length / PART_BYTES, "it was never cut");
  });

  test("withholds the end of an object that has rotted on disk", async () => {
    for (const [key, content] of [
      ["rotten", randomBytes(1_000_000)],
      ["rotten parts", randomBytes(6 * MIB)],
    ] as const) {
      const stored = await store(container, key, content);
      await rot(swift, Math.min(content.length, PART_BYTES));
      // A server that has noticed it puts the file away, also before anything of it was given out.
      await assertDamaged(container.get(stored, PART_BYTES, signal), content.length, 0);
    }
  });

  test("reports that segments of an object are missing, whichever they are", async () => {
    // The server gives out blocks of 64 KiB, and the last one of a part may be shorter.
    for (const [part, partBytes] of [
      ["1", PART_BYTES],
      ["2", PART_BYTES],
      ["2", PART_BYTES + 1000],
      ["3", PART_BYTES + 1000],
    ] as const) {
      const key = `broken ${part} of ${partBytes}`;
      const stored = await store(container, key, randomBytes(11 * MIB), partBytes);
      const prefix = encodeURIComponent(`${key}/`);
      const listing = await (await swift.native.request("GET", `/faults%2Bsegments?prefix=${prefix}`)).text();
      const segment = listing.split("\n").find((name) => name.endsWith(`/${part}`)) ?? "";
      const gone = await swift.native.request("DELETE", `/faults%2Bsegments/${encodeURIComponent(segment)}`);
      assert.equal(gone.status, 204);
      await rejects(readAll(container.get(stored, partBytes, signal)), "ARCHIVE_DAMAGED");
    }
  });
});

async function assertDamaged(download: AsyncIterable<Buffer>, bytes: number, least = 1): Promise<void> {
  let read = 0;
  const done = (async () => {
    for await (const chunk of download) read += chunk.length;
  })();
  await rejects(done, "ARCHIVE_DAMAGED");
  assert.ok(read >= least && read <= bytes - 64 * 1024, `${String(read)} of ${String(bytes)} bytes were given out`);
}

async function rejects(promise: Promise<unknown>, code: FailureCode): Promise<void> {
  const error: unknown = await promise.then(
    () => assert.fail("it should have failed"),
    (failure: unknown) => failure,
  );
  assert.ok(error instanceof BackupError, String(error));
  assert.equal(error.code, code, error.message);
}
