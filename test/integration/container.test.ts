// The contract of the Container port, held by both its inhabitants: the one in memory and the one in a real Swift.

import assert from "node:assert/strict";
import { createHash, randomBytes } from "node:crypto";
import { Readable } from "node:stream";
import { after, before, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { BackupError, type FailureCode } from "../../src/errors.ts";
import { openContainer } from "../../src/swift/container.ts";
import { memoryContainer } from "../support/memory-container.ts";
import { readAll } from "../support/pieces.ts";
import { noSwift } from "../support/requirements.ts";
import { openSwift, type Swift } from "../support/swift.ts";
import type { Container, PutOptions } from "../../src/operations/store-ports.ts";

const MIB = 1024 ** 2;
const { signal } = new AbortController();
const options: PutOptions = { partBytes: 5 * MIB, concurrency: 2, partsInMemory: 4, metadata: {} };

/** The container that a suite runs on. */
interface Inhabitant {
  readonly container: Container;
  /** Names of everything that is kept for the container, parts of unfinished uploads too. */
  leftovers(): Promise<readonly string[]>;
}

const oddKeys = [
  "6f1e2d3c-0000-4000-8000-000000000001\\x2fsnapshots\\x2fsubvolume-1",
  "key/000001",
  "  double  spaces ",
  "ünïcödé/日本語/🎉",
  "u\u0308 (NFD)",
  "plus+plus",
  "pct%41%2F%",
  "& < > \" '",
  "?query#fragment",
  ";,:@!$()*~`[]{}|^",
  "dir/",
  "//x//y",
  "a/../b/./..",
  "tab\tand\nnewline",
  "\u{ffee} sorts before 🎉",
];

function contract(open: () => Inhabitant): void {
  let container: Container;
  before(() => (container = open().container));

  const put = async (key: string, body: Buffer, more: Partial<PutOptions> = {}) =>
    container.put(key, Readable.from(slices(body)), { ...options, ...more }, signal);

  test("returns what was stored, with its metadata", async () => {
    const body = randomBytes(100_000);
    const metadata = { "btrfs-format": "1", "btrfs-path": "a b%20c", "btrfs-uuid": "x".repeat(256) };
    const stored = await put("round", body, { metadata });
    const md5s = [Buffer.from(md5(body), "hex")];
    const etag = `${md5(...md5s)}-1`;
    assert.deepEqual(stored, { bytes: 100_000, etag, parts: 1, md5s, resumedBytes: 0 });
    const found = await container.head("round", signal);
    assert.ok(found !== null);
    assert.deepEqual({ ...found, modified: null }, { key: "round", bytes: 100_000, etag, modified: null, metadata });
    assert.ok(Math.abs(found.modified.getTime() - Date.now()) < 60_000);
    assert.ok((await readAll(container.get(found, options.partBytes, signal))).equals(body));
  });

  test("knows nothing of a key that was never stored", async () => {
    assert.equal(await container.head("never", signal), null);
    await rejects(container.peek("never", 10, signal), "ARCHIVE_MISSING");
    await container.delete("never", signal);
    const ghost = { key: "never", bytes: 10, etag: md5(Buffer.alloc(10)), modified: new Date(), metadata: {} };
    await rejects(readAll(container.get(ghost, null, signal)), "ARCHIVE_MISSING");
  });

  test("deletes", async () => {
    await put("gone", randomBytes(10));
    await container.delete("gone", signal);
    assert.equal(await container.head("gone", signal), null);
    assert.deepEqual(await container.list("gone", signal), []);
  });

  test("peeks at the beginning", async () => {
    const body = randomBytes(1000);
    await put("peeked", body);
    assert.ok((await container.peek("peeked", 100, signal)).equals(body.subarray(0, 100)));
    assert.ok((await container.peek("peeked", 5000, signal)).equals(body));
  });

  test("accepts odd keys, and lists them in the order of their bytes", async () => {
    for (const key of oddKeys) await put(`odd ${key}`, Buffer.from(key));
    for (const key of oddKeys) {
      const found = await container.head(`odd ${key}`, signal);
      assert.ok(found !== null, key);
      assert.equal((await readAll(container.get(found, null, signal))).toString(), key);
      assert.equal((await container.list(`odd ${key}`, signal)).length, 1);
    }
    const listed = await container.list("odd ", signal);
    const expected = oddKeys.map((key) => Buffer.from(`odd ${key}`)).toSorted(Buffer.compare);
    assert.deepEqual(
      listed.map(({ key }) => key),
      expected.map(String),
    );
    assert.deepEqual(
      listed.map(({ bytes }) => bytes),
      expected.map(({ length }) => length - 4),
    );
  });

  test("stores in parts", async () => {
    const body = randomBytes(12 * MIB + 7);
    const progress: number[] = [];
    const metadata = { "btrfs-part-size": String(5 * MIB) };
    const stored = await put("parts\\x2f3", body, { metadata, onProgress: ({ stored }) => progress.push(stored) });
    const md5s = [0, 5, 10].map((at) => Buffer.from(md5(body.subarray(at * MIB, (at + 5) * MIB)), "hex"));
    const etag = `${md5(...md5s)}-3`;
    assert.deepEqual(stored, { bytes: body.length, etag, parts: 3, md5s, resumedBytes: 0 });
    assert.equal(progress.at(-1), body.length);
    assert.deepEqual(
      progress,
      progress.toSorted((a, b) => a - b),
    );
    const found = await container.head("parts\\x2f3", signal);
    assert.ok(found !== null);
    assert.deepEqual([found.bytes, found.etag, found.metadata], [body.length, etag, metadata]);
    assert.ok((await readAll(container.get(found, 5 * MIB, signal))).equals(body));
    assert.ok((await readAll(container.get(found, null, signal))).equals(body));
    assert.equal((await container.list("parts", signal))[0]?.bytes, body.length);
  });

  test("stores in one part what fills it exactly, in two what exceeds it by a byte", async () => {
    assert.equal((await put("exact", randomBytes(5 * MIB))).parts, 1);
    const stored = await put("exceeding", randomBytes(5 * MIB + 1));
    assert.equal(stored.parts, 2);
    assert.equal((await container.head("exceeding", signal))?.etag, stored.etag);
  });

  test("finds out whether a body equals the stored object", async () => {
    for (const [key, bytes] of [
      ["same small", 100],
      ["same large", 12 * MIB],
    ] as const) {
      const body = randomBytes(bytes);
      await put(key, body);
      const found = await container.head(key, signal);
      assert.ok(found !== null);
      const others = [body, body.subarray(1), Buffer.concat([body, body.subarray(0, 1)]), randomBytes(bytes)];
      const answers = others.map((other) => container.matches(found, options.partBytes, Readable.from(slices(other))));
      assert.deepEqual(await Promise.all(answers), [true, false, false, false]);
    }
  });

  for (const bytes of [100, 12 * MIB]) {
    test(`never stores ${String(bytes)} bytes over an existing key`, async () => {
      const { etag } = await put(`taken ${String(bytes)}`, randomBytes(50));
      const body = Readable.from(slices(randomBytes(bytes)));
      await rejects(container.put(`taken ${String(bytes)}`, body, options, signal), "ALREADY_ARCHIVED");
      assert.ok(body.destroyed);
      assert.equal((await container.head(`taken ${String(bytes)}`, signal))?.etag, etag);
    });
  }

  for (const bytes of [0, 1000, 7 * MIB, 17 * MIB]) {
    test(`leaves no object of a body that fails after ${String(bytes)} bytes`, async () => {
      const failure = new Error("the body has failed");
      const key = `failing ${String(bytes)}`;
      const thrown = await caught(container.put(key, failing(bytes, failure), options, signal));
      assert.equal(thrown, failure);
      await nothingStaysOf(open(), key);
    });

    test(`leaves no object of a body that is cut off after ${String(bytes)} bytes`, async () => {
      const key = `cut ${String(bytes)}`;
      await caught(container.put(key, failing(bytes, null), options, signal));
      await nothingStaysOf(open(), key);
    });

    test(`leaves no object when it is stopped after ${String(bytes)} bytes`, async () => {
      const key = `stopped ${String(bytes)}`;
      const stop = new AbortController();
      const body = idling(bytes);
      const done = rejects(container.put(key, body, options, stop.signal), "ABORTED");
      await sleep(500);
      const before = performance.now();
      stop.abort();
      await done;
      assert.ok(performance.now() - before < 20_000);
      assert.ok(body.destroyed);
      await nothingStaysOf(open(), key);
    });
  }

  test("passes on a failure that came before the request", async () => {
    const failure = new Error("failed early");
    const body = idling(0);
    body.once("error", () => undefined);
    body.destroy(failure);
    await sleep(10);
    assert.equal(await caught(container.put("failed early", body, options, signal)), failure);
    await nothingLeft(open(), "failed early");
  });

  test("refuses an empty body", async () => {
    await rejects(container.put("empty", Readable.from([]), options, signal), "INTERNAL");
    await nothingLeft(open(), "empty");
  });

  test("refuses names and metadata that a store would mangle", async () => {
    for (const key of ["k".repeat(971), "control \u0001", "no character \uffff"])
      await rejects(put(key, randomBytes(10)), "INTERNAL");
    for (const metadata of [{ ü: "1" }, { a: "ü" }, { a: "x".repeat(257) }, { under_score: "1" }, { a: " outer" }]) {
      await rejects(put("metadata", randomBytes(10), { metadata }), "INTERNAL");
    }
    const many = Object.fromEntries(Array.from({ length: 17 }, (_, at) => [`name-${String(at)}`, "x".repeat(250)]));
    await rejects(put("metadata", randomBytes(10), { metadata: many }), "INTERNAL");
    await nothingLeft(open(), "metadata");
  });

  test("stops reading when it is aborted", async () => {
    await put("long", randomBytes(12 * MIB));
    const found = await container.head("long", signal);
    assert.ok(found !== null);
    const stop = new AbortController();
    const body = container.get(found, 5 * MIB, stop.signal);
    const pieces = body[Symbol.asyncIterator]();
    assert.ok(Buffer.isBuffer((await pieces.next()).value));
    stop.abort();
    await rejects(readAll({ [Symbol.asyncIterator]: () => pieces }), "ABORTED");
    await rejects(container.head("long", stop.signal), "ABORTED");
    await rejects(container.list("long", stop.signal), "ABORTED");
  });

  test("notices that an object was changed since it was requested", async () => {
    await put("changing", randomBytes(6 * MIB));
    const found = await container.head("changing", signal);
    assert.ok(found !== null);
    await container.delete("changing", signal);
    await put("changing", randomBytes(6 * MIB));
    await rejects(readAll(container.get(found, null, signal)), "ARCHIVE_DAMAGED");
  });
}

describe("container in memory", () => {
  const container = memoryContainer();
  contract(() => ({ container, leftovers: async () => Promise.resolve([...container.objects.keys()]) }));

  test("withholds the end of an object that was damaged", async () => {
    const body = randomBytes(300_000);
    await container.put("rotten", Readable.from([body]), options, signal);
    const found = container.objects.get("rotten");
    assert.ok(found !== undefined);
    const rotten = Buffer.from(body);
    rotten[5] = (rotten[5] ?? 0) ^ 1;
    container.objects.set("rotten", { ...found, body: rotten });
    const read: Buffer[] = [];
    await rejects(collect(container.get(found, null, signal), read), "ARCHIVE_DAMAGED");
    const bytes = Buffer.concat(read).length;
    assert.ok(bytes > 0 && bytes <= body.length - 64 * 1024, String(bytes));
  });
});

describe("container in Swift", { skip: noSwift() }, () => {
  let swift: Swift;
  let container: Container;
  before(async () => {
    // Pages of 10 keys, instead of the 1000 of a stock Swift.
    swift = await openSwift({ proxy: { max_bucket_listing: 10 } });
    await swift.createContainer("contract");
    container = await openContainer(
      {
        containerName: "contract",
        endpoint: swift.endpoint,
        region: null,
        credentials: { accessKeyId: swift.accessKey, secretAccessKey: swift.secretKey },
        userAgent: "test/1",
        connections: 4,
        retryForMs: 10_000,
      },
      undefined,
      signal,
    );
  });
  after(async () => {
    container.close();
    await swift.close();
  });

  contract(() => ({ container, leftovers: async () => nativeNames(swift, ["contract", "contract+segments"]) }));

  test("knows the store's limits", () => {
    assert.deepEqual(container.limits, { partsPerUpload: 1000, minPartBytes: 5 * MIB, maxPartBytes: 5 * 1024 * MIB });
  });

  test("lists more than a page holds", async () => {
    const keys = Array.from({ length: 31 }, (_, at) => `many ${String(at).padStart(2, "0")}`).concat(
      "many control \u0001",
    );
    for (const key of keys) await swift.native.putObject("contract", key, Buffer.from("x"));
    assert.deepEqual(
      (await container.list("many ", signal)).map(({ key }) => key),
      keys,
    );
  });

  test("reads a large object that was made natively", async () => {
    const halves = [randomBytes(100_000), randomBytes(50_000)];
    await swift.createContainer("contract_segments");
    for (const [at, half] of halves.entries())
      await swift.native.putObject("contract_segments", `big/${String(at)}`, half);
    const manifest = halves.map((_, at) => ({ path: `/contract_segments/big/${String(at)}` }));
    const made = await swift.native.request("PUT", "/contract/slo?multipart-manifest=put", {
      body: Buffer.from(JSON.stringify(manifest)),
    });
    assert.equal(made.status, 201);
    const found = await container.head("slo", signal);
    assert.equal(found?.bytes, 150_000);
    assert.ok((await readAll(container.get(found, null, signal))).equals(Buffer.concat(halves)));
    assert.ok((await container.peek("slo", 10, signal)).equals((halves[0] ?? Buffer.alloc(0)).subarray(0, 10)));
  });
});

/** No object; and without the resumable parts, nothing at all. */
async function nothingStaysOf(inhabitant: Inhabitant, key: string): Promise<void> {
  const { container } = inhabitant;
  assert.equal(await container.head(key, signal), null);
  for (const upload of await container.openUploads(key, signal)) {
    await container.removeUpload(upload, 0, signal);
    await container.removeUpload(upload, 0, signal);
  }
  await nothingLeft(inhabitant, key);
}

async function nothingLeft({ container, leftovers }: Inhabitant, key: string): Promise<void> {
  assert.equal(await container.head(key, signal), null);
  assert.deepEqual(
    (await leftovers()).filter((name) => name.startsWith(key)),
    [],
  );
}

/** By the native API, which shows the parts of unfinished uploads as well. */
async function nativeNames(swift: Swift, containers: readonly string[]): Promise<readonly string[]> {
  const answers = containers.map(async (name) => {
    const response = await swift.native.request("GET", `/${encodeURIComponent(name)}`);
    return response.ok ? (await response.text()).split("\n") : [];
  });
  return (await Promise.all(answers)).flat();
}

function slices(body: Buffer): readonly Buffer[] {
  return Array.from({ length: Math.ceil(body.length / 65_536) }, (_, at) =>
    body.subarray(at * 65_536, (at + 1) * 65_536),
  );
}

/** Gives so many bytes and then fails, or with null is cut off without an error. */
function failing(bytes: number, failure: Error | null): Readable {
  const body = idling(bytes);
  body.once("idle", () => setTimeout(() => body.destroy(failure ?? undefined), 200));
  return body;
}

/** Yields this many bytes, emits "idle", and then waits forever. */
function idling(bytes: number): Readable {
  const rest = [...slices(randomBytes(bytes))];
  return new Readable({
    read() {
      const next = rest.shift();
      if (next === undefined) this.emit("idle");
      else this.push(next);
    },
  });
}

async function collect(pieces: AsyncIterable<Buffer>, into: Buffer[]): Promise<void> {
  for await (const piece of pieces) into.push(Buffer.from(piece));
}

async function caught(promise: Promise<unknown>): Promise<unknown> {
  return promise.then(
    () => assert.fail("it should have failed"),
    (error: unknown) => error,
  );
}

async function rejects(promise: Promise<unknown>, code: FailureCode): Promise<void> {
  const error = await caught(promise);
  assert.ok(error instanceof BackupError, String(error));
  assert.equal(error.code, code, error.message);
}

function md5(...pieces: readonly Buffer[]): string {
  return createHash("md5").update(Buffer.concat(pieces)).digest("hex");
}
