// Uploads on which something goes wrong between us and a real Swift, or inside it.

import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { Readable } from "node:stream";
import { after, afterEach, before, beforeEach, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { BackupError, type FailureCode } from "../../src/errors.ts";
import { openContainer } from "../../src/swift/container.ts";
import { openFaultProxy, type FaultProxy } from "../support/fault-proxy.ts";
import { noSwift } from "../support/requirements.ts";
import { openSwift, type Swift, type SwiftServer } from "../support/swift.ts";
import type { Container, PutOptions, UploadProgress } from "../../src/operations/store-ports.ts";

const MIB = 1024 ** 2;
const { signal } = new AbortController();
const options: PutOptions = { partBytes: 5 * MIB, concurrency: 2, partsInMemory: 4, metadata: {} };
const isPart = (method: string, path: string): boolean => method === "PUT" && path.includes("partNumber=");
const isCreate = (method: string, path: string): boolean => method === "POST" && path.includes("?uploads");
const isComplete = (method: string, path: string): boolean => method === "POST" && path.includes("uploadId=");
const isAbort = (method: string, path: string): boolean => method === "DELETE" && path.includes("uploadId=");

describe("uploads with faults", { skip: noSwift() }, () => {
  let swift: Swift;
  let proxy: FaultProxy;
  let container: Container;
  let lines: string[];

  before(async () => {
    swift = await openSwift();
    await swift.createContainer("faults");
  });
  after(() => swift.close());
  beforeEach(async () => {
    proxy = await openFaultProxy(swift.endpoint);
    lines = [];
    container = await open(proxy.endpoint, 3_000);
  });
  afterEach(async () => {
    container.close();
    await proxy.close();
  });

  async function open(
    endpoint: string,
    retryForMs: number,
    { uploadBytesPerSecond = null, stallMs = 20_000 }: { uploadBytesPerSecond?: number | null; stallMs?: number } = {},
  ): Promise<Container> {
    const credentials = { accessKeyId: swift.accessKey, secretAccessKey: swift.secretKey };
    const log = { debug: () => undefined, warn: (_: object, message: string) => void lines.push(message) };
    const settings = {
      containerName: "faults",
      endpoint,
      region: null,
      credentials,
      userAgent: "test/1",
      connections: 4,
      retryForMs,
      stallMs,
      uploadBytesPerSecond,
    };
    return openContainer(settings, log, signal);
  }

  async function leftovers(key: string): Promise<readonly string[]> {
    const answers = ["faults", "faults%2Bsegments"].map(async (name) => {
      const response = await swift.native.request("GET", `/${name}`);
      return response.ok ? (await response.text()).split("\n") : [];
    });
    return (await Promise.all(answers)).flat().filter((name) => name.startsWith(key));
  }

  async function assertStored(key: string, body: Buffer): Promise<void> {
    assert.ok((await swift.native.getObject("faults", key)).equals(body));
  }

  test("continues when parts are refused, lost or damaged on the way", async () => {
    const body = randomBytes(22 * MIB);
    proxy.plan({ when: isPart, fault: { kind: "answer", status: 503, headers: { "retry-after": "1" } } });
    proxy.plan({ when: isPart, fault: { kind: "lose-answer" } });
    proxy.plan({ when: isPart, fault: { kind: "garble" } });
    proxy.plan({ when: isCreate, fault: { kind: "answer", status: 500 } });
    proxy.plan({ when: isPart, fault: { kind: "hang" } });
    const patient = await open(proxy.endpoint, 120_000, { stallMs: 2_000 });
    const stored = await patient.put("refused", streamed(body), options, signal);
    patient.close();
    assert.equal(stored.parts, 5);
    await assertStored("refused", body);
  });

  test("counts bytes as the network accepts them, and again those that have to be sent again", async () => {
    proxy.plan({ when: isPart, fault: { kind: "garble" } });
    const seen: UploadProgress[] = [];
    const body = randomBytes(6 * MIB);
    const onProgress = (progress: UploadProgress): void => void seen.push(progress);
    const stored = await container.put("counted", streamed(body), { ...options, onProgress }, signal);
    const moved = seen.map((each) => each.stored + each.inFlight);
    const beforeStored = moved.slice(
      0,
      seen.findIndex((each) => each.stored > 0),
    );
    assert.ok(new Set(beforeStored).size > 4, beforeStored.join());
    assert.ok(Math.max(...moved) <= body.length);
    assert.ok(moved.some((bytes, at) => bytes < (moved[at - 1] ?? 0)));
    assert.deepEqual(seen.at(-1), { stored: stored.bytes, resumed: 0, inFlight: 0 });
  });

  test("sends one part at a time on a slow line, and all that is allowed on a fast one", async () => {
    for (const [uploadBytesPerSecond, most] of [
      [MIB / 2, 1],
      [null, 2],
    ] as const) {
      const line = await open(proxy.endpoint, 3_000, { uploadBytesPerSecond });
      let together = 0;
      const enough = new AbortController();
      const onProgress = ({ stored, inFlight }: UploadProgress): void => {
        together = Math.max(together, proxy.underway());
        if (most === 1 && stored + inFlight > MIB / 2) enough.abort();
      };
      const sized = { ...options, partBytes: 8 * MIB, onProgress };
      const sent = line.put(`line ${most}`, streamed(randomBytes(25 * MIB)), sized, enough.signal);
      if (most === 1) await rejects(sent, "ABORTED");
      else await sent;
      line.close();
      assert.equal(together, most);
    }
  });

  test("notices that a small body was damaged on the way", async () => {
    proxy.plan({ when: isPart, fault: { kind: "garble" } });
    await container.put("garbled", streamed(Buffer.from("small")), options, signal);
    await assertStored("garbled", Buffer.from("small"));
  });

  test("waits as long as a busy store asks for", async () => {
    for (const status of [503, 429, 408]) {
      proxy.plan({ when: isPart, fault: { kind: "answer", status, headers: { "retry-after": "1" } } });
      const start = performance.now();
      await container.put(`waited-${status}`, streamed(Buffer.from("x")), options, signal);
      // Of its own accord, it waits for a fifth of a second.
      assert.ok(performance.now() - start > 900, `${status}`);
    }
  });

  test("goes on when an answer is no HTTP any more", async () => {
    const body = randomBytes(7 * MIB);
    proxy.plan({ when: isPart, fault: { kind: "noise" } });
    await container.put("noise", streamed(body), options, signal);
    await assertStored("noise", body);
    proxy.plan({ when: isPart, fault: { kind: "noise" }, times: "ever" });
    await rejects(container.put("nothing but noise", streamed(body), options, signal), "STORE_UNAVAILABLE");
    proxy.clear();
  });

  test("completes again when the store could not check a part for a moment", async () => {
    const body = randomBytes(7 * MIB);
    const refusal =
      "<?xml version='1.0'?><Error><Code>InvalidRequest</Code>" +
      "<Message>/faults%2Bsegments/looked/1: 503 Service Unavailable</Message></Error>";
    proxy.plan({ when: isComplete, fault: { kind: "answer", status: 400, body: refusal } });
    await container.put("looked", streamed(body), options, signal);
    await assertStored("looked", body);
    proxy.plan({ when: isComplete, fault: { kind: "answer", status: 400, body: refusal }, times: "ever" });
    await rejects(container.put("never looked", streamed(body), options, signal), "STORE_UNAVAILABLE");
    assert.equal((await leftovers("never looked")).length, 3);
  });

  test("has succeeded when only the answer to the completion was lost", async () => {
    const body = randomBytes(7 * MIB);
    proxy.plan({ when: isComplete, fault: { kind: "lose-answer" } });
    const stored = await container.put("lost", streamed(body), options, signal);
    assert.deepEqual([stored.bytes, stored.parts], [body.length, 2]);
    await assertStored("lost", body);
    assert.deepEqual(
      proxy.seen.filter((line) => line.startsWith("DELETE")),
      [],
    );
  });

  test("has succeeded when all answers to the completion were lost", async () => {
    const body = randomBytes(7 * MIB);
    proxy.plan({ when: isComplete, fault: { kind: "lose-answer" } });
    proxy.plan({ when: isComplete, fault: { kind: "answer", status: 500 }, times: "ever" });
    await container.put("all lost", streamed(body), options, signal);
    await assertStored("all lost", body);
  });

  test("has succeeded when all answers to a small upload were lost", async () => {
    proxy.plan({ when: isComplete, fault: { kind: "lose-answer" } });
    proxy.plan({ when: isComplete, fault: { kind: "answer", status: 500 }, times: "ever" });
    await container.put("small lost", streamed(Buffer.from("small")), options, signal);
    await assertStored("small lost", Buffer.from("small"));
  });

  test("does not take the parts away from a completion that may be going on", async () => {
    proxy.plan({ when: isComplete, fault: { kind: "answer", status: 500 }, times: "ever" });
    const body = randomBytes(7 * MIB);
    await rejects(container.put("unknown", streamed(body), options, signal), "STORE_UNAVAILABLE");
    assert.deepEqual(
      proxy.seen.filter((line) => line.startsWith("DELETE")),
      [],
    );
    assert.match(lines.join(), /whether an upload was completed is unknown/);
    assert.equal((await leftovers("unknown")).length, 3);
  });

  test("leaves nothing behind when the completion is refused", async () => {
    proxy.plan({ when: isComplete, fault: { kind: "answer", status: 400, body: errorBody("InvalidPart") } });
    await rejects(container.put("invalid", streamed(randomBytes(7 * MIB)), options, signal), "INTERNAL");
    assert.deepEqual(await leftovers("invalid"), []);
  });

  test("does not overwrite what another run has stored in the meantime", async () => {
    const other = Buffer.from("by another");
    const intrude = (key: string) => void swift.native.putObject("faults", key, other);
    proxy.plan({ when: isPart, fault: { kind: "answer", status: 503 }, then: () => intrude("raced") });
    await rejects(container.put("raced", streamed(randomBytes(7 * MIB)), options, signal), "ALREADY_ARCHIVED");
    await assertStored("raced", other);
    assert.deepEqual(await leftovers("raced/"), []);
    const slow = Readable.from(
      (async function* () {
        yield Buffer.from("ours");
        await sleep(300);
        await swift.native.putObject("faults", "raced small", other);
      })(),
    );
    await rejects(container.put("raced small", slow, options, signal), "ALREADY_ARCHIVED");
    await assertStored("raced small", other);
  });

  test("removes an object that the store has not kept as it was sent", async () => {
    const lie = { kind: "lie", headers: { etag: '"00000000000000000000000000000000"' } } as const;
    proxy.plan({ when: isPart, fault: lie });
    await rejects(container.put("lied part", streamed(randomBytes(7 * MIB)), options, signal), "ARCHIVE_DAMAGED");
    assert.deepEqual(await leftovers("lied part"), []);

    proxy.plan({ when: isPart, fault: lie });
    await rejects(container.put("lied small", streamed(Buffer.from("small")), options, signal), "ARCHIVE_DAMAGED");
    assert.deepEqual(await leftovers("lied small"), []);
  });

  test("does not delete what it did not store", async () => {
    const isLaterHead = (method: string, path: string): boolean =>
      method === "HEAD" &&
      path.includes("foreign") &&
      proxy.seen.some((line) => line.startsWith("PUT /faults/foreign"));
    proxy.plan({ when: isLaterHead, fault: { kind: "lie", headers: { etag: '"11111111111111111111111111111111"' } } });
    await rejects(container.put("foreign", streamed(Buffer.from("x")), options, signal), "ALREADY_ARCHIVED");
    assert.deepEqual((await leftovers("foreign")).length, 2);
  });

  test("reports which parts stay when an upload cannot be aborted", async () => {
    const lie = { kind: "lie", headers: { etag: '"00000000000000000000000000000000"' } } as const;
    proxy.plan({ when: isPart, fault: lie });
    proxy.plan({ when: isAbort, fault: { kind: "answer", status: 500 }, times: "ever" });
    await rejects(container.put("stays", streamed(randomBytes(17 * MIB)), options, signal), "ARCHIVE_DAMAGED");
    assert.match(lines.join(), /could not be aborted/);
  });

  test("keeps every stored part after a refusal that says nothing against them", async () => {
    const body = randomBytes(17 * MIB);
    for (const [status, code, failure] of [
      [403, "AccessDenied", "ACCESS_DENIED"],
      [400, "EntityTooLarge", "STREAM_TOO_LONG"],
    ] as const) {
      const key = `kept ${code}`;
      const isThird = (method: string, path: string): boolean => isPart(method, path) && path.includes("partNumber=3");
      const isOther = (method: string, path: string): boolean => isPart(method, path) && !isThird(method, path);
      proxy.plan({ when: isThird, fault: { kind: "answer", status, body: errorBody(code) } });
      await rejects(container.put(key, streamed(body), { ...options, concurrency: 1 }, signal), failure);
      assert.equal(
        proxy.seen.filter((line) => isOther(line.split(" ")[0] ?? "", line) && line.includes(code)).length,
        2,
      );
      assert.equal((await leftovers(key)).length, status === 403 ? 3 : 0);
    }
    const { resumedBytes } = await container.put(
      "kept AccessDenied",
      streamed(body),
      { ...options, resume: true },
      signal,
    );
    assert.equal(resumedBytes, 10 * MIB);
    await assertStored("kept AccessDenied", body);
  });

  test("leaves nothing of a failed body that cannot be resumed", async () => {
    const failing = Readable.from(
      (async function* () {
        yield randomBytes(12 * MIB);
        await sleep(200);
        throw new BackupError("SEND_FAILED", "planned");
      })(),
    );
    await rejects(container.put("useless", failing, { ...options, resumable: false }, signal), "SEND_FAILED");
    assert.deepEqual(await leftovers("useless"), []);
  });

  test("reports what is left when a quota is used up, and resumes it when there is room again", async () => {
    await swift.native.request("POST", "/faults", { headers: { "x-container-meta-quota-count": "1" } });
    const body = randomBytes(12 * MIB);
    try {
      for (const resumable of [true, false]) {
        const failure: unknown = await container
          .put(`full ${String(resumable)}`, streamed(body), { ...options, resumable }, signal)
          .catch((error: unknown) => error);
        assert.ok(failure instanceof BackupError && failure.code === "QUOTA_EXCEEDED", String(failure));
        assert.equal(failure.exitCode, 3);
        assert.match(
          failure.hint ?? "",
          resumable ? /stays in the store, and the next run resumes it/ : /nothing of it stays/,
        );
        assert.equal((await leftovers(`full ${String(resumable)}`)).length, resumable ? 4 : 0);
      }
    } finally {
      await swift.native.request("POST", "/faults", { headers: { "x-container-meta-quota-count": "" } });
    }
    const { resumedBytes } = await container.put("full true", streamed(body), { ...options, resume: true }, signal);
    assert.equal(resumedBytes, body.length);
    await assertStored("full true", body);
  });

  test("makes the store forget an upload whose completion it did not finish", async () => {
    const [key, body] = ["half forgotten", randomBytes(7 * MIB)];
    const broughtBack: Promise<void>[] = [];
    const bringBackMarker = async (): Promise<void> => {
      while ((await swift.native.request("HEAD", `/faults/half%20forgotten`)).status !== 200) await sleep(20);
      const uploadId =
        /uploadId=([^& ]+)/.exec(
          proxy.seen.find((line) => line.startsWith("POST") && line.includes("uploadId=")) ?? "",
        )?.[1] ?? "";
      // Its own answer may still be on the way to the marker.
      while ((await leftovers(key)).includes(`${key}/${uploadId}`)) await sleep(20);
      const headers = { "x-object-meta-kind": "archive", "content-type": "application/directory" };
      await swift.native.request("PUT", `/faults%2Bsegments/half%20forgotten/${uploadId}`, {
        body: Buffer.alloc(0),
        headers,
      });
    };
    let isBack = (): void => undefined;
    const until = new Promise<void>((resolve) => (isBack = resolve));
    proxy.plan({
      when: isComplete,
      fault: { kind: "lose-answer" },
      then: () => void broughtBack.push(bringBackMarker().finally(isBack)),
    });
    proxy.plan({ when: isComplete, fault: { kind: "hold", until } });
    await container.put(key, streamed(body), { ...options, metadata: { kind: "archive" } }, signal);
    await Promise.all(broughtBack);
    assert.deepEqual(await container.openUploads(key, signal), []);
    assert.deepEqual((await container.head(key, signal))?.metadata, { kind: "archive" });
    await assertStored(key, body);
  });

  test("never takes an upload away from an object that may be made of it", async () => {
    const [key, body] = ["twice", randomBytes(12 * MIB)];
    await container.put(key, streamed(body), options, signal);
    const part = (await leftovers(`${key}/`)).find((name) => name.endsWith("/1")) ?? "";
    const own = part.slice(key.length + 1, -2);
    const segment = (path: string, bytes: Buffer) =>
      swift.native.request("PUT", `/faults%2Bsegments/${key}/${path}`, { body: bytes });
    await segment(own, Buffer.alloc(0));
    await segment("another-upload", Buffer.alloc(0));
    for (const number of [1, 2, 3])
      await segment(`another-upload/${String(number)}`, Buffer.from(`part ${String(number)}`));
    await segment("short-upload", Buffer.alloc(0));
    await segment("short-upload/1", Buffer.from("part 1"));
    const fates = async (olderThanMs: number): Promise<Record<string, string>> => {
      const uploads = await container.openUploads(key, signal);
      const removed = uploads.map(
        async (upload) => [upload.uploadId, await container.removeUpload(upload, olderThanMs, signal)] as const,
      );
      return Object.fromEntries(await Promise.all(removed));
    };
    assert.deepEqual(await fates(60_000), { [own]: "young", "another-upload": "young", "short-upload": "young" });
    assert.deepEqual(await fates(0), { [own]: "finished", "another-upload": "removed", "short-upload": "removed" });
    await assertStored(key, body);
    // Nor is a 404 the last word, where a listing names the object.
    proxy.plan({ when: (method) => method === "HEAD", fault: { kind: "answer", status: 404 } });
    assert.deepEqual(await fates(0), { [own]: "doubtful" });
    // A HEAD that fails is not a 404.
    proxy.plan({ when: (method) => method === "HEAD", fault: { kind: "answer", status: 500 }, times: "ever" });
    const [left] = await container.openUploads(key, signal);
    if (left === undefined) return assert.fail();
    await rejects(container.removeUpload(left, 0, signal), "STORE_UNAVAILABLE");
    await assertStored(key, body);
  });

  test("reads the end of an object that appears while its upload is removed, and reports that it is broken", async () => {
    const key = "appearing";
    let confirm = (): void => undefined;
    const bothStored = new Promise<void>((resolve) => (confirm = resolve));
    const onProgress = ({ stored }: UploadProgress): void => {
      if (stored === 10 * MIB) confirm();
    };
    const failing = Readable.from(
      (async function* () {
        yield randomBytes(12 * MIB);
        await bothStored;
        throw new BackupError("SEND_FAILED", "planned");
      })(),
    );
    await rejects(container.put(key, failing, { ...options, onProgress }, signal), "SEND_FAILED");
    const [upload] = await container.openUploads(key, signal);
    if (upload === undefined) return assert.fail();
    const manifest = [1, 2].map((number) => ({ path: `/faults+segments/${key}/${upload.uploadId}/${String(number)}` }));
    const complete = () =>
      swift.native.request("PUT", `/faults/${key}?multipart-manifest=put`, {
        body: Buffer.from(JSON.stringify(manifest)),
      });
    const completed: Promise<Response>[] = [];
    let release = (): void => undefined;
    const until = new Promise<void>((resolve) => (release = resolve));
    // After the last request before the abort, and before the store carries it out.
    proxy.plan({
      when: isAbort,
      fault: { kind: "hold", until },
      then: () => void completed.push(complete().finally(release)),
    });
    assert.equal(await container.removeUpload(upload, 0, signal), "broken");
    assert.deepEqual(
      (await Promise.all(completed)).map(({ status }) => status),
      [201],
    );
  });

  // Nothing but the stop ends what hangs here.
  const forever = (): Promise<Container> => open(proxy.endpoint, 600_000, { stallMs: 600_000 });

  test("stops at once when the store does not answer", { timeout: 60_000 }, async () => {
    const patient = await forever();
    for (const [name, when] of [
      ["parts", isPart],
      ["create", isCreate],
      ["complete", isComplete],
    ] as const) {
      const stop = new AbortController();
      proxy.plan({ when, fault: { kind: "hang" }, then: () => void setTimeout(() => stop.abort(), 100) });
      await rejects(patient.put(`hung ${name}`, streamed(randomBytes(7 * MIB)), options, stop.signal), "ABORTED");
      assert.equal(await container.head(`hung ${name}`, signal), null);
    }
    patient.close();
    // The upload itself: while nothing moves, no second part is sent.
    assert.deepEqual((await leftovers("hung parts")).length, 1);
  });

  test("knows which upload it has begun when it is stopped", async () => {
    // The last answer is waited for a second at the most: it is on its way here, however busy the store is.
    const late = { kind: "delay", ms: 100 } as const;
    const stop = new AbortController();
    proxy.plan({ when: isCreate, fault: late, answered: () => stop.abort() });
    await rejects(container.put("late create", streamed(randomBytes(7 * MIB)), options, stop.signal), "ABORTED");
    assert.deepEqual((await container.openUploads("late create", signal)).length, 1);

    const [body, another] = [randomBytes(7 * MIB), new AbortController()];
    proxy.plan({ when: isComplete, fault: late, answered: () => another.abort() });
    await rejects(container.put("late complete", streamed(body), options, another.signal), "ABORTED");
    await assertStored("late complete", body);
  });

  test("stops at once when everything hangs", { timeout: 60_000 }, async () => {
    const stop = new AbortController();
    const patient = await open(proxy.endpoint, 600_000, { stallMs: 2_000 });
    proxy.plan({ when: isPart, fault: { kind: "hang" } });
    proxy.plan({ when: isPart, fault: { kind: "hang" }, then: () => void setTimeout(() => stop.abort(), 100) });
    proxy.plan({ when: isPart, fault: { kind: "hang" }, times: "ever" });
    await rejects(patient.put("hung all", streamed(randomBytes(12 * MIB)), options, stop.signal), "ABORTED");
    patient.close();
    proxy.clear();
  });

  test("gives up when the store is unreachable for longer than the retry limit", { timeout: 60_000 }, async () => {
    proxy.plan({ when: isPart, fault: { kind: "answer", status: 503 }, times: "ever" });
    const body = streamed(randomBytes(17 * MIB));
    await rejects(container.put("away", body, options, signal), "STORE_UNAVAILABLE");
    assert.ok(body.destroyed);
    assert.equal(await container.head("away", signal), null);
  });

  test("creates a small object in another way if the store does not accept a conditional PUT after all", async () => {
    const isInfo = (_: string, path: string): boolean => path === "/info";
    proxy.plan({
      when: isInfo,
      fault: { kind: "answer", status: 200, body: JSON.stringify({ swift: { version: "2.38.2" } }) },
    });
    const misled = await open(proxy.endpoint, 3_000);
    for (const key of ["conditional 1", "conditional 2"]) {
      await misled.put(key, streamed(Buffer.from(key)), options, signal);
      await assertStored(key, Buffer.from(key));
    }
    misled.close();
    const puts = proxy.seen.filter(
      (line) => line.startsWith("PUT /faults/conditional") && !line.includes("partNumber="),
    );
    assert.equal(puts.length, 1);
  });

  test("refuses to send more parts than the store accepts", async () => {
    const small = await openSwift({ limits: { maxUploadPartNum: 2, maxManifestSegments: 2 } });
    try {
      await small.createContainer("faults");
      const credentials = { accessKeyId: small.accessKey, secretAccessKey: small.secretKey };
      const settings = {
        containerName: "faults",
        endpoint: small.endpoint,
        region: null,
        credentials,
        userAgent: "test/1",
        retryForMs: 60_000,
        connections: 4,
      };
      const tight = await openContainer(settings, undefined, signal);
      assert.equal(tight.limits.partsPerUpload, 2);
      await rejects(tight.put("long", streamed(randomBytes(12 * MIB)), options, signal), "STREAM_TOO_LONG");
      assert.equal(await tight.head("long", signal), null);
      assert.deepEqual(await tight.openUploads("long", signal), []);
      tight.close();
    } finally {
      await small.close();
    }
  });

  for (const server of ["proxy", "object"] as const) {
    test(`outlasts a crash of the ${server} server`, async () => {
      const direct = await open(swift.endpoint, 60_000);
      const body = randomBytes(32 * MIB);
      const crash = crashAfter(swift, server, 2_000);
      const stored = await direct.put(`crash ${server}`, slow(body, 12 * MIB, crash.start), options, signal);
      await crash.over();
      assert.equal(stored.parts, 7);
      await assertStored(`crash ${server}`, body);
      direct.close();
    });
  }
});

/** A server that is gone for a while, as soon as it is started. */
function crashAfter(
  swift: Swift,
  server: SwiftServer,
  awayMs: number,
): { start: () => void; over: () => Promise<void> } {
  let crash: Promise<void> | undefined;
  const happen = async (): Promise<void> => {
    await swift.stop(server);
    await sleep(awayMs);
    await swift.start(server);
  };
  return {
    start: () => void (crash ??= happen()),
    async over() {
      assert.ok(crash !== undefined, "there was no crash");
      await crash;
    },
  };
}

function streamed(body: Buffer): Readable {
  return slow(body, Infinity, () => undefined);
}

/** Calls `then` when so many bytes were read. */
function slow(body: Buffer, bytes: number, then: () => void): Readable {
  let at = 0;
  return new Readable({
    read() {
      if (at >= bytes) then();
      this.push(at < body.length ? body.subarray(at, at + 65_536) : null);
      at += 65_536;
    },
  });
}

function errorBody(code: string): string {
  return `<?xml version="1.0" encoding="UTF-8"?><Error><Code>${code}</Code><Message>planned</Message></Error>`;
}

async function rejects(promise: Promise<unknown>, code: FailureCode): Promise<void> {
  const error: unknown = await promise.then(
    () => assert.fail("it should have failed"),
    (failure: unknown) => failure,
  );
  assert.ok(error instanceof BackupError, String(error));
  assert.equal(error.code, code, error.message);
}
