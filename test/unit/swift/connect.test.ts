// The first words with a store and with Keystone where the network comes up late.

import assert from "node:assert/strict";
import { createServer, type ServerResponse } from "node:http";
import { describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { readKeystoneLogin } from "../../../src/config/openstack.ts";
import { readProxies } from "../../../src/config/proxies.ts";
import { makeContact } from "../../../src/swift/connect.ts";
import { openNetwork } from "../../../src/swift/http.ts";
import { logIn } from "../../../src/swift/auth/keystone.ts";
import { freePort } from "../../support/swift.ts";

const signal = new AbortController().signal;
/** Longer than a first request is tried again where nobody asked for patience. */
const LATE_MS = 5_000;

/** A server that begins to listen only after a while. */
async function withLate(
  answer: (response: ServerResponse) => void,
  use: (url: string) => Promise<void>,
): Promise<void> {
  const port = await freePort();
  const server = createServer((request, response) => {
    request.resume();
    answer(response);
  });
  const using = use(`http://127.0.0.1:${port}`);
  using.catch(() => undefined);
  await sleep(LATE_MS);
  server.listen(port, "127.0.0.1");
  try {
    await using;
  } finally {
    server.closeAllConnections();
    server.close();
  }
}

describe("a network that comes up late", { concurrency: true }, () => {
  const lines: string[] = [];
  const log = {
    debug: () => undefined,
    warn: (fields: object, message: string) => void lines.push(`${message} ${JSON.stringify(fields)}`),
  };

  test("is waited for by the first request to the store, up to the limit; the log reports it once", async () => {
    const missing = "<?xml version='1.0'?><Error><Code>NoSuchBucket</Code></Error>";
    const options = {
      containerName: "backup", region: "us-east-1", credentials: { accessKeyId: "a", secretAccessKey: "b" },
      retryForMs: 60_000, contactForMs: 60_000, stallMs: 10_000, userAgent: "test/1", log, uploadBytesPerSecond: null,
    }; // prettier-ignore
    await withLate(
      (response) => response.writeHead(404, { "content-type": "application/xml" }).end(missing),
      (endpoint) => assert.rejects(makeContact({ ...options, endpoint }, signal), { code: "CONTAINER_MISSING" }),
    );
    assert.match(
      lines.filter((line) => line.includes("store")).join("\n"),
      /^waiting for the store, for up to 60 s \{"error":".*ECONNREFUSED.*","patienceMs":60000\}$/,
    );
  });

  test("is waited for by a login at Keystone; the log reports it once", async () => {
    const network = await openNetwork([], readProxies({}));
    await withLate(
      (response) => response.writeHead(401).end("{}"),
      (url) => {
        const login = readKeystoneLogin({ OS_AUTH_URL: `${url}/v3`, OS_USERNAME: "u", OS_PASSWORD: "p" });
        return assert.rejects(logIn(login, { ...network, retryForMs: 60_000, log }, signal), { code: "ACCESS_DENIED" });
      },
    );
    assert.match(
      lines.filter((line) => line.includes("Keystone")).join("\n"),
      /^waiting for Keystone, for up to 60 s \{"error":"Keystone cannot be reached: nothing answers at 127\.0\.0\.1:\d+","patienceMs":60000\}$/,
    );
  });
});
