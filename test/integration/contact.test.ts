// The first contact with a store: everything that can be wrong with the endpoint, the credentials and the container,
// reported before anything is sent.

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { once } from "node:events";
import { createServer, type Server } from "node:net";
import { Readable } from "node:stream";
import { after, afterEach, before, beforeEach, describe, test } from "node:test";
import { promisify } from "node:util";
import { BackupError, type FailureCode } from "../../src/errors.ts";
import { openContainer, type ContainerOptions } from "../../src/swift/container.ts";
import { openFaultProxy, type Fault, type FaultProxy } from "../support/fault-proxy.ts";
import { noSwift } from "../support/requirements.ts";
import { openSwift, type Swift } from "../support/swift.ts";

const { signal } = new AbortController();

describe("the first contact with a store", { skip: noSwift() }, () => {
  let swift: Swift;
  let proxy: FaultProxy;
  let right: ContainerOptions;

  before(async () => {
    swift = await openSwift();
    await swift.createContainer("contact");
    await swift.createContainer("Under_score");
  });
  after(() => swift.close());
  beforeEach(async () => {
    proxy = await openFaultProxy(swift.endpoint);
    const credentials = { accessKeyId: swift.accessKey, secretAccessKey: swift.secretKey };
    right = {
      containerName: "contact",
      endpoint: proxy.endpoint,
      region: null,
      credentials,
      userAgent: "test/1",
      retryForMs: 60_000,
      connections: 4,
      stallMs: 30_000,
    };
  });
  afterEach(() => proxy.close());

  test("opens what is there", async () => {
    const container = await openContainer(right, undefined, signal);
    assert.deepEqual(await container.list("", signal), []);
    container.close();
  });

  test("reports a missing container, with its name and place", async () => {
    const error = await failure({ ...right, containerName: "not-there" }, "CONTAINER_MISSING");
    assert.equal(error.exitCode, 10);
    assert.match(error.message, /'not-there' at 127\.0\.0\.1:\d+$/);
    assert.match(error.hint ?? "", /openstack container create not-there/);
    await failure(
      { ...right, credentials: { accessKeyId: swift.stranger.accessKey, secretAccessKey: swift.stranger.secretKey } },
      "CONTAINER_MISSING",
    );
  });

  test("explains what can be done about a name that the store does not accept", async () => {
    for (const containerName of [
      "Under_score",
      "UPPER",
      "ab",
      "a".repeat(64),
      "dash-",
      "1.2.3.4",
      "a..b",
      "x+segments",
      "ä b",
    ]) {
      const error = await failure({ ...right, containerName }, "CONFIG");
      assert.match(
        `${error.message}: ${error.hint ?? ""}`,
        /does not accept '.*' as a container name.*lower-case.*dns_compliant_bucket_names/,
      );
    }
    const { length } = proxy.seen;
    for (const containerName of ["a/b", ""]) await failure({ ...right, containerName }, "CONFIG");
    assert.equal(proxy.seen.length, length, "names that no container has are not asked for");
  });

  test("uses any name that the store accepts", async () => {
    const lenient = await openSwift({ limits: { dnsCompliantBucketNames: false } });
    try {
      for (const containerName of ["Under_score", "a..b", `UPPER-${"x".repeat(80)}-`]) {
        await lenient.createContainer(containerName);
        const container = await openContainer(
          { ...right, endpoint: lenient.endpoint, containerName },
          undefined,
          signal,
        );
        const options = { partBytes: 5 * 2 ** 20, concurrency: 1, partsInMemory: 2, metadata: {} };
        await container.put("small", Readable.from([Buffer.from("x")], { objectMode: false }), options, signal);
        await container.put(
          "large",
          Readable.from([Buffer.alloc(6 * 2 ** 20)], { objectMode: false }),
          options,
          signal,
        );
        assert.deepEqual(
          (await container.list("", signal)).map(({ key }) => key),
          ["large", "small"],
        );
        assert.equal((await container.peek("small", 1, signal)).toString(), "x");
        container.close();
      }
    } finally {
      await lenient.close();
    }
  });

  test("refuses an endpoint that is not a URL", async () => {
    for (const endpoint of ["", "localhost:8080", "ftp://host/", "https://user:secret@host/"]) {
      const error = await failure({ ...right, endpoint }, "CONFIG");
      assert.doesNotMatch(error.message + JSON.stringify(error.context), /secret/);
    }
  });

  test("reports whether the keys or the rights are wrong, and never the secret", async () => {
    const { accessKeyId, secretAccessKey } = { accessKeyId: swift.accessKey, secretAccessKey: "wrongsecret" };
    for (const credentials of [
      { accessKeyId, secretAccessKey },
      { accessKeyId: "nobody:x", secretAccessKey },
    ]) {
      const error = await failure({ ...right, credentials }, "ACCESS_DENIED");
      assert.match(error.message, /refuses these credentials/);
      assert.doesNotMatch(`${error.message} ${JSON.stringify(error)} ${String(error.cause)}`, /wrongsecret/);
    }
    const reader = { accessKeyId: swift.reader.accessKey, secretAccessKey: swift.reader.secretKey };
    assert.match((await failure({ ...right, credentials: reader }, "ACCESS_DENIED")).message, /no right/);
  });

  describe("keys that have worked in this run", () => {
    const refusal = (code: string): Fault => ({
      kind: "answer",
      status: 403,
      body: `<?xml version="1.0"?><Error><Code>${code}</Code></Error>`,
    });
    const isOfObjects = (_: string, path: string): boolean => path.startsWith("/contact");

    test("are retried when the store refuses them for a while, in every request", async () => {
      const container = await openContainer(right, undefined, signal);
      const body = Readable.from([Buffer.from("x")], { objectMode: false });
      const requests: readonly (() => Promise<unknown>)[] = [
        () => container.list("", signal),
        () => container.head("none", signal),
        () =>
          container.put(
            "flapping",
            body,
            { partBytes: 5 * 2 ** 20, concurrency: 1, partsInMemory: 2, metadata: {} },
            signal,
          ),
        () => container.peek("flapping", 1, signal),
        () => container.openUploads("flapping", signal),
        () => container.delete("flapping", signal),
      ];
      for (const request of requests) {
        proxy.plan({ when: isOfObjects, fault: refusal("SignatureDoesNotMatch"), times: 2 });
        await request();
      }
      // A HEAD is refused without a word.
      proxy.plan({ when: (method) => method === "HEAD", fault: { kind: "answer", status: 403 } });
      assert.equal(await container.head("none", signal), null);
      container.close();
    });

    test("are not reported as wrong when they are refused for longer: that may pass", async () => {
      const container = await openContainer({ ...right, retryForMs: 500 }, undefined, signal);
      proxy.plan({ when: isOfObjects, fault: refusal("SignatureDoesNotMatch"), times: "ever" });
      for (const request of [() => container.list("", signal), () => container.head("none", signal)]) {
        const error: unknown = await request().then(
          () => null,
          (thrown: unknown) => thrown,
        );
        assert.ok(error instanceof BackupError);
        assert.deepEqual([error.code, error.exitCode], ["STORE_UNAVAILABLE", 75]);
        assert.match(
          `${error.message}: ${error.hint ?? ""}`,
          /refuses credentials that it accepted before.*Keystone.*deleted/,
        );
      }
      container.close();
    });

    test("but lack a right are reported at once", { timeout: 50_000 }, async () => {
      const container = await openContainer(right, undefined, signal);
      proxy.plan({ when: (method) => method === "DELETE", fault: refusal("AccessDenied") });
      await assert.rejects(container.delete("none", signal), { code: "ACCESS_DENIED" });
      proxy.plan({ when: (method) => method === "HEAD", fault: { kind: "answer", status: 403 }, times: "ever" });
      await assert.rejects(container.head("none", signal), { code: "ACCESS_DENIED" });
      assert.equal(proxy.seen.filter((line) => line.startsWith("DELETE")).length, 1);
      container.close();
    });

    test("but were never right are reported at once", async () => {
      proxy.plan({ when: isOfObjects, fault: refusal("SignatureDoesNotMatch"), times: "ever" });
      await failure(right, "ACCESS_DENIED");
      assert.equal(proxy.seen.length, 1);
    });
  });

  test("names the store's region when another one is configured", async () => {
    const error = await failure({ ...right, region: "mars-1" }, "CONFIG");
    assert.match(error.message, /the store's region is 'us-east-1'/);
    assert.match(error.hint ?? "", /--region us-east-1/);
  });

  test("learns the region when none is configured", async () => {
    const isMalformed = { kind: "answer", status: 400, body: malformed("us-east-1") } as const;
    proxy.plan({ when: () => true, fault: isMalformed });
    (await openContainer(right, undefined, signal)).close();
    // The next request uses the region that was reported: the real store refuses this one.
    proxy.plan({ when: () => true, fault: { ...isMalformed, body: malformed("mars-1") } });
    assert.match((await failure(right, "CONFIG")).message, /the store's region is 'us-east-1'/);
  });

  test("reports how far the clock is off", async () => {
    const date = new Date(Date.now() - 2 * 3_600_000).toUTCString();
    const body = '<?xml version="1.0"?><Error><Code>RequestTimeTooSkewed</Code><Message>too large</Message></Error>';
    proxy.plan({ when: () => true, fault: { kind: "answer", status: 403, body, headers: { date } }, times: "ever" });
    assert.match((await failure(right, "CONFIG")).message, /clock is 120 minutes ahead of the store's/);
  });

  test("uses the store's clock when this machine's is off, and reports that", { timeout: 50_000 }, async (t) => {
    const now = Date.now.bind(Date);
    t.mock.method(Date, "now", () => now() + 20 * 60_000);
    const warnings: string[] = [];
    const log = { debug: () => undefined, warn: (_fields: object, message: string) => void warnings.push(message) };
    const container = await openContainer({ ...right, endpoint: swift.endpoint }, log, signal);
    // The SDK calls every refusal transient then: this one would be asked for again and again, for a minute.
    assert.equal(await container.head("not-there", signal), null);
    const body = Readable.from([Buffer.alloc(6 * 2 ** 20)], { objectMode: false });
    const put = { partBytes: 5 * 2 ** 20, concurrency: 2, partsInMemory: 4, metadata: {} };
    assert.equal((await container.put("late", body, put, signal)).parts, 2);
    container.close();
    assert.deepEqual(warnings, [
      "this machine's clock is 20 minutes ahead of the store's: set it right, by NTP for example",
    ]);
  });

  // A store that was reached before would be asked for ten minutes.
  test("soon gives up on a store that is unreachable", { timeout: 120_000 }, async () => {
    const [, port = ""] = /:(\d+)$/.exec(proxy.endpoint) ?? [];
    const cases = [
      ["http://127.0.0.1:1", /nothing answers at 127\.0\.0\.1:1/],
      ["http://no-such-host.invalid", /no-such-host\.invalid:80/],
    ] as const;
    for (const [endpoint, message] of cases) {
      const error = await failure({ ...right, endpoint, retryForMs: 600_000 }, "STORE_UNAVAILABLE");
      assert.equal(error.exitCode, 75);
      assert.match(error.message, message);
    }
    proxy.plan({ when: () => true, fault: { kind: "hang" }, times: "ever" });
    assert.match(
      (await failure({ ...right, stallMs: 1_000 }, "STORE_UNAVAILABLE")).message,
      new RegExp(`127\\.0\\.0\\.1:${port} did not answer in time`),
    );
  });

  test("stops when it is aborted", async () => {
    const stop = new AbortController();
    proxy.plan({ when: () => true, fault: { kind: "hang" }, then: () => stop.abort() });
    await assert.rejects(openContainer(right, undefined, stop.signal), { code: "ABORTED" });
  });

  test("recognises a server that is not an S3 store", async () => {
    const answers = [
      { status: 412, body: "Bad URL" },
      { status: 200, body: "<!doctype html><html><body><br>Welcome</body></html>" },
      { status: 200, body: "<html><body>Welcome</body></html>" },
      { status: 200, body: "" },
      { status: 404, body: "<html><h1>Not found</h1></html>" },
      { status: 401, body: "<html><h1>Unauthorized</h1></html>" },
    ];
    for (const answer of answers) {
      proxy.plan({ when: () => true, fault: { kind: "answer", by: "another", ...answer }, times: "ever" });
      assert.match((await failure(right, "CONFIG")).message, /does not answer like an S3 API/, answer.body);
      proxy.clear();
    }
    for (const [location, sentence] of [
      [
        "https://elsewhere/contact?list-type=2",
        /redirects to https:\/\/elsewhere, which speaks TLS: .*use https:\/\/elsewhere$/,
      ],
      ["/elsewhere", new RegExp(`redirects to ${proxy.endpoint}: `)],
    ] as const) {
      proxy.plan({ when: () => true, fault: { kind: "answer", status: 301, headers: { location } } });
      const { message, hint } = await failure(right, "CONFIG");
      assert.match(`${message}: ${hint ?? ""}`, sentence);
    }
    // The first answer was damaged on its way.
    proxy.plan({ when: () => true, fault: { kind: "noise" } });
    (await openContainer(right, undefined, signal)).close();
    const noHttp = await openTcp("SSH-2.0-OpenSSH_9.2\r\n");
    assert.match((await failure({ ...right, endpoint: noHttp.url("http") }, "CONFIG")).message, /does not speak HTTP/);
    assert.match((await failure({ ...right, endpoint: noHttp.url("https") }, "CONFIG")).message, /does not speak TLS/);
    noHttp.server.close();
  });

  test("takes a refusal that another server gives for nothing that the store says", async () => {
    const refusals = [403, 404, 412].map((status) => ({ kind: "answer", by: "another", status }) as const);
    for (const fault of refusals) {
      proxy.plan({ when: () => true, fault, times: 2 });
      (await openContainer(right, undefined, signal)).close();
    }
    const container = await openContainer({ ...right, retryForMs: 1_500 }, undefined, signal);
    const body = Readable.from([Buffer.from("x")], { objectMode: false });
    const options = { partBytes: 5 * 2 ** 20, concurrency: 1, partsInMemory: 2, metadata: {} };
    await container.put("there", body, options, signal);
    const requests: readonly (() => Promise<unknown>)[] = [
      () => container.head("there", signal),
      () => container.peek("there", 1, signal),
      () => container.list("", signal),
      () => container.delete("none", signal),
    ];
    for (const request of requests) {
      for (const fault of refusals) {
        proxy.plan({ when: (_, path) => path.startsWith("/contact"), fault });
        assert.notEqual(await request(), null);
      }
      proxy.plan({
        when: (_, path) => path.startsWith("/contact"),
        fault: { kind: "answer", by: "another", status: 404 },
        times: "ever",
      });
      await assert.rejects(request, {
        code: "STORE_UNAVAILABLE",
        message: `another server answers in place of ${new URL(proxy.endpoint).host} (status 404)`,
      });
      proxy.clear();
    }
    container.close();
  });

  test("does not mistake a damaged answer for another server: it asks again, and gives up as on an unreachable store", async () => {
    const isList = (_: string, path: string): boolean => path.includes("list-type=2");
    const [damagedXml, damagedName] = [
      { kind: "flip", atByte: 45 },
      { kind: "flip", atByte: 116 },
    ] as const;
    for (const fault of [damagedXml, damagedName]) {
      proxy.plan({ when: isList, fault });
      (await openContainer(right, undefined, signal)).close();
    }
    // As long as a run off a terminal waits for the store.
    proxy.plan({ when: isList, fault: damagedName, times: 5 });
    (await openContainer({ ...right, contactForMs: 20_000 }, undefined, signal)).close();
    // The id by which an S3 store is known can be what was damaged.
    proxy.plan({ when: isList, fault: { kind: "lie", headers: { "x-amz-request-id": "", "x-amz-id-2": "" } } });
    (await openContainer(right, undefined, signal)).close();
    for (const fault of [damagedXml, damagedName]) {
      const failing = await openFaultProxy(swift.endpoint);
      failing.plan({ when: isList, fault, times: "ever" });
      const error = await failure({ ...right, endpoint: failing.endpoint }, "STORE_UNAVAILABLE");
      assert.deepEqual([error.exitCode, /damaged on its way/.test(error.message)], [75, true]);
      await failing.close();
    }
  });

  test("uses S3's limits if the store hides its own, and those of a default Swift if it could not be asked", async () => {
    const isInfo = (_: string, path: string): boolean => path === "/info";
    for (const [status, parts] of [
      [404, 10_000],
      [503, 1000],
    ] as const) {
      proxy.plan({ when: isInfo, fault: { kind: "answer", status } });
      const container = await openContainer(right, undefined, signal);
      assert.equal(container.limits.partsPerUpload, parts);
      container.close();
    }
  });

  test("waits for nothing any more once it is closed", { timeout: 60_000 }, async () => {
    const container = await openContainer({ ...right, retryForMs: 600_000 }, undefined, signal);
    const headers = { "retry-after": "300" };
    proxy.plan({ when: (method) => method === "HEAD", fault: { kind: "answer", status: 503, headers }, times: "ever" });
    setTimeout(() => container.close(), 500);
    await assert.rejects(container.head("x", signal), { code: "STORE_UNAVAILABLE" });
  });

  test("writes nothing on stdout and stderr, and lets the process end", async () => {
    const options = { ...right, endpoint: swift.endpoint, stallMs: 60_000 };
    const script = `
      import { Readable } from "node:stream";
      import { openContainer } from ${JSON.stringify(new URL("../../src/swift/container.js", import.meta.url).href)};
      const { signal } = new AbortController();
      const container = await openContainer(${JSON.stringify(options)}, undefined, signal);
      await Promise.all(Array.from({ length: 24 }, (_, at) => container.head(String(at), signal)));
      const body = Readable.from(Array.from({ length: 65 }, () => Buffer.alloc(1024 ** 2, 1)));
      await container.put("quiet", body, { partBytes: 5 * 1024 ** 2, concurrency: 12, partsInMemory: 14, metadata: {} }, signal);
      container.close();
      // The store would keep idle connections for a minute. This timer keeps nothing.
      setTimeout(() => process.exit(9), 20_000).unref();
    `;
    const { stdout, stderr } = await promisify(execFile)(process.execPath, ["--input-type=module", "--eval", script], {
      timeout: 240_000,
    });
    assert.deepEqual([stdout, stderr], ["", ""]);
  });
});

async function failure(options: ContainerOptions, code: FailureCode): Promise<BackupError> {
  const error: unknown = await openContainer(options, undefined, signal).then(
    () => assert.fail("it should have failed"),
    (thrown: unknown) => thrown,
  );
  assert.ok(error instanceof BackupError, String(error));
  assert.equal(error.code, code, error.message);
  return error;
}

function malformed(region: string): string {
  return `<?xml version="1.0"?><Error><Code>AuthorizationHeaderMalformed</Code><Message>wrong</Message><Region>${region}</Region></Error>`;
}

/** A server that greets, and is no web server. */
async function openTcp(greeting: string): Promise<{ server: Server; url: (scheme: string) => string }> {
  const server = createServer((socket) => {
    socket.on("error", () => undefined).end(greeting);
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const address = server.address();
  assert.ok(typeof address === "object" && address !== null);
  return { server, url: (scheme) => `${scheme}://127.0.0.1:${String(address.port)}` };
}
