// Which proxy is used for whom: curl's rules.

import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { chooseProxy, describeProxy, readProxies } from "../../../src/config/proxies.ts";
import type { Environment } from "../../../src/config/openstack.ts";

const chosen = (env: Environment, server: string): string | null => {
  const proxy = chooseProxy(readProxies(env), new URL(server));
  return proxy === null ? null : describeProxy(proxy);
};

describe("proxies", () => {
  const cases: readonly (readonly [env: Environment, server: string, proxy: string | null])[] = [
    [{}, "https://s", null],
    [{ https_proxy: "http://p:3128" }, "https://s", "p:3128 (https_proxy)"],
    [{ HTTPS_PROXY: "http://p:3128/" }, "https://s", "p:3128 (HTTPS_PROXY)"],
    [{ https_proxy: "http://a:1", HTTPS_PROXY: "http://b:2" }, "https://s", "a:1 (https_proxy)"],
    [{ https_proxy: "", HTTPS_PROXY: "http://b:2" }, "https://s", null],
    [{ https_proxy: "http://p:3128" }, "http://s", null],
    [{ http_proxy: "http://p:3128" }, "http://s", "p:3128 (http_proxy)"],
    [{ http_proxy: "http://p:3128" }, "https://s", null],
    [{ HTTP_PROXY: "http://p:3128" }, "http://s", null],
    [{ all_proxy: "http://p:3128" }, "http://s", "p:3128 (all_proxy)"],
    [{ ALL_PROXY: "http://p:3128", https_proxy: "q:1" }, "https://s", "q:1 (https_proxy)"],
    [{ https_proxy: "p" }, "https://s", "p:1080 (https_proxy)"],
    [{ https_proxy: "http://p:80" }, "https://s", "p:80 (https_proxy)"],
    [{ https_proxy: "https://p" }, "https://s", "p:443 (https_proxy)"],
    [{ https_proxy: "http://me:secret@p:3128" }, "https://s", "p:3128 (https_proxy)"],
  ];
  for (const [env, server, proxy] of cases) {
    test(`${JSON.stringify(env)} for ${server}: ${String(proxy)}`, () => assert.equal(chosen(env, server), proxy));
  }

  const excepted: readonly (readonly [list: string, server: string, isExcepted: boolean])[] = [
    ["*", "https://s.example.org", true],
    ["example.org", "https://s.example.org", true],
    [".example.org", "https://S.Example.org:8443", true],
    ["example.org", "https://example.org.", true],
    ["example.org", "https://badexample.org", false],
    ["localhost,127.0.0.1", "https://127.0.0.1:8080", true],
    ["localhost 127.0.0.1", "https://127.0.0.2", false],
    ["10.0.0.0/8", "https://10.1.2.3", true],
    ["10.0.0.0/8", "https://11.1.2.3", false],
    ["10.0.0.0/33", "https://10.0.0.0", false],
    ["0.0.1", "https://127.0.0.1", false],
    ["fe80::/10", "https://[fe80::1]", true],
    ["[::1]", "https://[::1]:8080", true],
    ["::1", "https://127.0.0.1", false],
    ["other.org", "https://s", false],
    ["", "https://s", false],
  ];
  for (const [no_proxy, server, isExcepted] of excepted) {
    test(`no_proxy=${no_proxy} ${isExcepted ? "excepts" : "does not except"} ${server}`, () => {
      for (const name of ["no_proxy", "NO_PROXY"])
        assert.equal(chosen({ https_proxy: "http://p:1", [name]: no_proxy }, server) === null, isExcepted);
    });
  }

  test("refuses an invalid proxy, and never prints its password", () => {
    for (const https_proxy of ["socks5://me:secret@p:1080", "http://", "ftp://me:secret@p"]) {
      assert.throws(
        () => readProxies({ https_proxy }),
        (error: unknown) => {
          assert.ok(error instanceof Error);
          assert.doesNotMatch(JSON.stringify(error) + error.message, /secret/);
          return /^https_proxy is not a proxy of the form/.test(error.message);
        },
      );
    }
  });

  test("knows that HTTP_PROXY alone is not read", () => {
    assert.equal(readProxies({ HTTP_PROXY: "http://p:1" }).ignoresUpperCase, true);
    assert.equal(readProxies({ HTTP_PROXY: "http://p:1", http_proxy: "http://p:1" }).ignoresUpperCase, false);
  });
});
