// From flags and environment to the description of a store, and from words to values.

import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { readStoreConfig } from "../../../src/config/store.ts";
import { joinLegacyFlags } from "../../../src/commands/python-flags.ts";
import { BackupError } from "../../../src/errors.ts";
import { parseBoolean, parseChoice, parseCount, parseDuration, parseSize } from "../../../src/config/parse.ts";

const none = { containerName: undefined, endpoint: undefined, region: undefined, createCredentials: true };
const keys = { AWS_ACCESS_KEY_ID: "id", AWS_SECRET_ACCESS_KEY: "secret" };

function failsWith(code: string, message?: RegExp): (error: unknown) => boolean {
  return (error) => {
    assert.ok(error instanceof BackupError);
    assert.equal(error.code, code);
    if (message !== undefined) assert.match(`${error.message} ${error.hint ?? ""}`, message);
    return true;
  };
}

describe("the store", () => {
  const named = { ...none, containerName: "backup" };

  test("flags win over the environment, and an empty variable counts as unset", () => {
    const env = { ...keys, AWS_ENDPOINT_URL_S3: "http://env:1", AWS_REGION: "", AWS_DEFAULT_REGION: "here" };
    assert.deepEqual(readStoreConfig({ ...named, endpoint: "https://flag:2/" }, env), {
      containerName: "backup",
      endpoint: "https://flag:2",
      region: null,
      likelyRegion: "here",
      source: {
        kind: "keys",
        keys: { accessKeyId: "id", secretAccessKey: "secret" },
        variables: "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
        passedOver: false,
      },
      aws: { profile: null, configFile: null, keysFile: null },
      keystone: null,
      createCredentials: true,
      authorities: [],
      proxies: { http: null, https: null, except: [], ignoresUpperCase: false },
      nowhereHint: "use --endpoint URL, set AWS_ENDPOINT_URL_S3, or set OS_* for a login at Keystone",
    });
    assert.equal(readStoreConfig({ ...named, region: "there" }, env).region, "there");
    assert.equal(readStoreConfig(named, env).endpoint, "http://env:1");
  });

  test("without keys, the AWS files are used", () => {
    assert.deepEqual(readStoreConfig(named, { AWS_ENDPOINT_URL: "http://h" }).source, { kind: "profile" });
    const files = { AWS_PROFILE: "p", AWS_CONFIG_FILE: "/c", AWS_SHARED_CREDENTIALS_FILE: "/k" };
    assert.deepEqual(readStoreConfig(named, files).aws, { profile: "p", configFile: "/c", keysFile: "/k" });
  });

  test("under sudo, the hint explains that it hides variables", () => {
    assert.match(
      readStoreConfig(named, { SUDO_USER: "me" }).nowhereHint,
      /sudo hides variables unless it is called with -E/,
    );
  });

  test("what is missing is reported with what to do", () => {
    assert.throws(() => readStoreConfig(none, {}), failsWith("USAGE", /--container-name/));
    const half = { AWS_ENDPOINT_URL_S3: "http://h", AWS_ACCESS_KEY_ID: "id" };
    assert.throws(() => readStoreConfig(named, half), failsWith("CONFIG", /only one/));
  });

  test("an endpoint that is not a URL is refused, and one with a password is not repeated", () => {
    for (const endpoint of ["host:80", "ftp://h", "nonsense"]) {
      assert.throws(() => readStoreConfig({ ...named, endpoint }, keys), failsWith("CONFIG"));
    }
    assert.throws(
      () => readStoreConfig({ ...named, endpoint: "https://me:hunter2@host" }, keys),
      (error) => error instanceof BackupError && !JSON.stringify([error.message, error.context]).includes("hunter2"),
    );
  });
});

describe("words", () => {
  test("sizes are powers of 1024 however they are written", () => {
    for (const text of ["512Mi", "512MiB", "512M", "512m", "0.5G", "524288k", "536870912", "536870912B"]) {
      assert.equal(parseSize(text, "--memory"), 512 * 2 ** 20, text);
    }
    for (const text of ["", "0", "-1", "1X", "Mi", "1e9", "9999999T"]) {
      assert.throws(() => parseSize(text, "--memory"), failsWith("USAGE"), text);
    }
  });
  test("durations are in seconds, minutes or hours", () => {
    const durations = ["90", "90s", "1.5m", "2h", "0"].map((text) => parseDuration(text, "--retry-for"));
    assert.deepEqual(durations, [90_000, 90_000, 90_000, 7_200_000, 0]);
    for (const text of ["", "x", "-1", "5d", "1h30m"]) {
      assert.throws(() => parseDuration(text, "--retry-for"), failsWith("USAGE"), text);
    }
  });
  test("counts, choices and booleans refuse what they are not", () => {
    assert.equal(parseCount("4", "-n", 64), 4);
    for (const text of ["0", "65", "4.5", "x", ""]) assert.throws(() => parseCount(text, "-n", 64), failsWith("USAGE"));
    assert.equal(parseChoice("json", "--log-format", ["text", "json"]), "json");
    assert.throws(() => parseChoice("xml", "--log-format", ["text", "json"]), failsWith("USAGE", /text, json/));
    for (const word of [true, "true", "YES", "on", "1"]) assert.equal(parseBoolean(word, "--syslog"), true);
    for (const word of [false, "false", "No", "off", "0", ""]) assert.equal(parseBoolean(word, "--syslog"), false);
    assert.throws(() => parseBoolean("maybe", "--syslog"), failsWith("USAGE"));
  });
});

describe("command lines of the Python tool", () => {
  for (const [given, expected] of [
    ["--syslog /home", "--syslog /home"],
    ["--syslog false /home", "--syslog=false /home"],
    ["/home --syslog", "/home --syslog"],
    ["--container c /home", "--container-name c /home"],
    ["--container=c --work /tmp --dry", "--container-name=c --work-dir /tmp --dry-run"],
    ["--age=age1x", "--age-recipient=age1x"],
    ["-v --json -- --syslog false --container", "-v --json -- --syslog false --container"],
    ["list --container-name c", "list --container-name c"],
    ["--concurrency 3 --yes", "--concurrency 3 --yes"],
  ] as const) {
    test(`${given} is ${expected}`, () => {
      assert.deepEqual(joinLegacyFlags(given.split(" ")), expected.split(" "));
    });
  }
});
