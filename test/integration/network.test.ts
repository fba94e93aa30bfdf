// The way to a store: TLS and what can be wrong with it, and proxies, as the firms of users have them.

import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Readable } from "node:stream";
import { after, before, describe, test } from "node:test";
import { BackupError } from "../../src/errors.ts";
import { readProxies } from "../../src/config/proxies.ts";
import { openContainer, type ContainerOptions } from "../../src/swift/container.ts";
import { openNetwork } from "../../src/swift/http.ts";
import { cli } from "../support/cli.ts";
import { openForwardProxy, type ForwardProxyOptions } from "../support/forward-proxy.ts";
import { noSwift } from "../support/requirements.ts";
import { freePort, openSwift, type Swift } from "../support/swift.ts";
import { makeCertificate, openTlsProxy, type CertificateOptions, type TlsProxy } from "../support/tls.ts";

const { signal } = new AbortController();
const MiB = 2 ** 20;
const put = { partBytes: 5 * MiB, concurrency: 2, partsInMemory: 4, metadata: {} };

describe("the way to a store", { skip: noSwift() }, () => {
  let swift: Swift;
  let directory: string;
  let right: Omit<ContainerOptions, "endpoint">;
  before(async () => {
    [swift, directory] = await Promise.all([openSwift(), mkdtemp(join(tmpdir(), "network-test-"))]);
    await swift.createContainer("way");
    const credentials = { accessKeyId: swift.accessKey, secretAccessKey: swift.secretKey };
    right = { containerName: "way", region: null, credentials, userAgent: "test/1", connections: 4, retryForMs: 500 };
  });
  after(() => Promise.all([swift.close(), rm(directory, { recursive: true })]));

  async function failure(options: ContainerOptions): Promise<string> {
    const error: unknown = await openContainer(options, undefined, signal).then(
      () => assert.fail("it should have failed"),
      (thrown: unknown) => thrown,
    );
    assert.ok(error instanceof BackupError, String(error));
    return `${error.code} ${error.message}: ${error.hint ?? ""}`;
  }

  const certificates: readonly (readonly [name: string, certified: CertificateOptions, isTrusted: boolean, sentence: RegExp])[] = [
    ["another host's", { altName: "DNS:swift.example.org,DNS:s3.example.org" }, true, /^CONFIG the certificate of 127\.0\.0\.1:\d+ is for another host: swift\.example\.org, s3\.example\.org: use the name that the certificate has/],
    ["an expired one", { years: [2020, 2021] }, true, /^CONFIG .* has expired; this machine's clock says \d{4}-\d\d-\d\d: .*renew it; else set the clock/],
    ["one of the future, as for a clock in 1970", { years: [2090, 2091] }, true, /^CONFIG .* is not valid yet; this machine's clock says \d{4}-\d\d-\d\d: .*set the clock/],
    ["one of an authority that nobody knows", {}, false, /^CONFIG .* authority that is not known here \(DEPTH_ZERO_SELF_SIGNED_CERT\): .*OS_CACERT=FILE/],
  ]; // prettier-ignore
  for (const [name, certified, isTrusted, sentence] of certificates) {
    test(`has its own sentence for a certificate: ${name}`, async () => {
      const tls = await openTlsProxy(swift.endpoint, directory, certified);
      try {
        const network = await openNetwork(isTrusted ? [tls.authority] : [], readProxies({}));
        assert.match(await failure({ ...right, endpoint: tls.url, network }), sentence);
      } finally {
        await tls.close();
      }
    });
  }

  describe("through a proxy", () => {
    let tls: TlsProxy;
    before(async () => {
      tls = await openTlsProxy(swift.endpoint, directory);
    });
    after(() => tls.close());

    async function withProxy(
      options: ForwardProxyOptions,
      work: (proxy: Awaited<ReturnType<typeof openForwardProxy>>) => Promise<void>,
    ): Promise<void> {
      const proxy = await openForwardProxy(options);
      await work(proxy).finally(() => proxy.close());
    }

    test("stores and reads at http:// and at https://, with a login and without", async () => {
      for (const login of [undefined, "me:se%cret"]) {
        await withProxy(login === undefined ? {} : { login }, async ({ host, seen }) => {
          const variable = `http://${login === undefined ? "" : "me:se%25cret@"}${host}`;
          const network = await openNetwork(
            [tls.authority],
            readProxies({ http_proxy: variable, https_proxy: variable }),
          );
          for (const endpoint of [swift.endpoint, tls.url]) {
            const container = await openContainer({ ...right, endpoint, network }, undefined, signal);
            const key = `${new URL(endpoint).protocol} 1\\x2f2 ${login ?? ""}`;
            const body = Buffer.alloc(6 * MiB, key);
            await container.put(key, Readable.from([body], { objectMode: false }), put, signal);
            assert.deepEqual(await container.peek(key, 100, signal), body.subarray(0, 100));
            container.close();
          }
          const ofHttps = new Set(seen.filter((line) => line.startsWith("CONNECT")));
          assert.deepEqual([...ofHttps], [`CONNECT ${new URL(tls.url).host}`]);
          assert.ok(
            seen.some((line) => line.startsWith(`PUT ${swift.endpoint}/way/`)),
            seen.join("\n"),
          );
        });
      }
    });

    test("asks directly whom no_proxy names", async () => {
      await withProxy({}, async ({ host, seen }) => {
        const network = await openNetwork(
          [tls.authority],
          readProxies({ https_proxy: host, no_proxy: "example.org,127.0.0.1" }),
        );
        (await openContainer({ ...right, endpoint: tls.url, network }, undefined, signal)).close();
        assert.deepEqual(seen, []);
      });
    });

    test("asks a proxy that speaks TLS itself", async () => {
      const certified = await makeCertificate(directory);
      await withProxy({ tls: certified }, async ({ host, seen }) => {
        const network = await openNetwork(
          [tls.authority, certified.certificate],
          readProxies({ all_proxy: `https://${host}` }),
        );
        for (const endpoint of [swift.endpoint, tls.url])
          (await openContainer({ ...right, endpoint, network }, undefined, signal)).close();
        assert.deepEqual([...new Set(seen.map((line) => line.split(" ")[0]))], ["GET", "CONNECT"]);
      });
    });

    test("reports what is wrong with the proxy, not with the store", async () => {
      const nobody = `127.0.0.1:${await freePort()}`;
      const ask = async (proxy: string, endpoint: string): Promise<string> => {
        const network = await openNetwork([tls.authority], readProxies({ http_proxy: proxy, https_proxy: proxy }));
        return failure({ ...right, endpoint, network });
      };
      for (const endpoint of [swift.endpoint, tls.url]) {
        assert.match(
          await ask(nobody, endpoint),
          /^STORE_UNAVAILABLE nothing answers at the proxy 127\.0\.0\.1:\d+ \(https?_proxy\)/,
        );
        assert.match(
          await ask("no-such-host.invalid:1", endpoint),
          /^STORE_UNAVAILABLE the proxy's name cannot be resolved \(no-such-host/,
        );
        await withProxy({ login: "a:b" }, async ({ host }) => {
          const output = await ask(`http://a:wrong@${host}`, endpoint);
          assert.match(output, /^CONFIG the proxy 127\.0\.0\.1:\d+ \(https?_proxy\) requires a user and a password: /);
          assert.doesNotMatch(output, /wrong/);
        });
        await withProxy({ allowed: ["elsewhere"] }, async ({ host }) => {
          assert.match(await ask(host, endpoint), /^CONFIG .*the proxy 127\.0\.0\.1:\d+ \(https?_proxy\)/);
        });
      }
    });

    test("is reported by doctor, and also that HTTP_PROXY is not read", async () => {
      const doctor = async (env: Record<string, string>): Promise<string> => {
        const { stdout } = await cli(["doctor", "/proc", "--container-name", "way"], {
          env: { ...swift.environment, ...env },
        });
        return stdout;
      };
      await withProxy({}, async ({ host, seen }) => {
        const through = await doctor({ http_proxy: `http://me:secret@${host}` });
        assert.match(
          through,
          new RegExp(
            `^ok +endpoint +http://127\\.0\\.0\\.1:\\d+, Swift [\\d.]+, through the proxy ${host} \\(http_proxy\\)$`,
            "m",
          ),
        );
        assert.match(through, /^ok +rights/m);
        assert.doesNotMatch(through, /secret/);
        assert.ok(seen.length > 5);
        assert.match(
          await doctor({ HTTP_PROXY: `http://${host}` }),
          /^warning +endpoint +.* HTTP_PROXY is not read, .*: set http_proxy/m,
        );
      });
    });
  });
});
