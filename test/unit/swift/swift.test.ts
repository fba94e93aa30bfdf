// The pure parts of swift/: names, limits, ETags, retries, and the meaning of errors.

import assert from "node:assert/strict";
import { createHash, randomBytes } from "node:crypto";
import { describe, test } from "node:test";
import type { RetryErrorInfo, RetryStrategyV2 } from "@smithy/types";
import { BackupError } from "../../../src/errors.ts";
import { translate } from "../../../src/swift/errors.ts";
import { hasherFor, hashParts, hashObject, multipartEtag } from "../../../src/swift/etag.ts";
import { parseLimits, takesConditionalPut } from "../../../src/swift/server-info.ts";
import { judgeUpload } from "../../../src/swift/leftovers.ts";
import { checkContainerName } from "../../../src/swift/names.ts";
import { backoffMs } from "../../../src/retry.ts";
import { retryFor } from "../../../src/swift/retry-strategy.ts";

const GIB = 1024 ** 3;
const { signal } = new AbortController();

describe("container names", () => {
  for (const name of ["abc", "ab", "under_score", "Upper", "a..b", "10.0.0.1", "ä-b", "a".repeat(64)]) {
    test(`'${name}' is for the store to judge`, () => assert.doesNotThrow(() => checkContainerName(name)));
  }
  for (const name of ["", "a/b", "arn:aws:s3:::b"]) {
    test(`'${name}' cannot be requested`, () => assert.throws(() => checkContainerName(name), { code: "CONFIG" }));
  }
});

describe("limits", () => {
  const s3 = { partsPerUpload: 10_000, minPartBytes: 5 * 1024 ** 2, maxPartBytes: 5 * GIB };

  test("are those that a default Swift reports", () => {
    const info = {
      swift: { version: "2.30.1", max_file_size: 5368709122 },
      slo: { max_manifest_segments: 1000 },
      s3api: { max_upload_part_num: 1000, min_segment_size: 5242880 },
    };
    assert.deepEqual(parseLimits(JSON.stringify(info)), { ...s3, partsPerUpload: 1000 });
  });

  test("are the tighter ones of s3api and slo", () => {
    const info = {
      swift: { max_file_size: GIB },
      slo: { max_manifest_segments: 300 },
      s3api: { max_upload_part_num: 2000, min_segment_size: 8e6 },
    };
    assert.deepEqual(parseLimits(JSON.stringify(info)), { partsPerUpload: 300, minPartBytes: 8e6, maxPartBytes: GIB });
  });

  test("a Swift creates objects by a conditional PUT from 2.36 on", () => {
    for (const [version, takes] of [
      ["2.30.1", false],
      ["2.35.2", false],
      ["2.36.0", true],
      ["2.38.2.dev1", true],
      ["3.0", true],
      [236, false],
    ] as const) {
      assert.equal(takesConditionalPut(JSON.stringify({ swift: { version } })), takes, String(version));
    }
    for (const text of ["", "{}", "<html>"]) assert.equal(takesConditionalPut(text), false);
  });

  for (const text of [
    "",
    "<html>",
    "null",
    "[]",
    "{}",
    '{"s3api":null}',
    '{"s3api":{"max_upload_part_num":"many"}}',
    '{"slo":{"max_manifest_segments":-1}}',
  ]) {
    test(`are S3's own when the store answers ${JSON.stringify(text)}`, () => assert.deepEqual(parseLimits(text), s3));
  }
});

describe("ETags", () => {
  const md5 = (...pieces: readonly Buffer[]): Buffer => createHash("md5").update(Buffer.concat(pieces)).digest();

  test("of an object in one piece are its MD5", () => {
    const hasher = hashObject();
    hasher.update(Buffer.from("ab"));
    hasher.update(Buffer.from("c"));
    assert.equal(hasher.etag(), "900150983cd24fb0d6963f7d28e17f72");
  });

  for (const bytes of [1, 9, 10, 11, 19, 20, 21, 100]) {
    test(`of ${String(bytes)} bytes in parts of 10 do not depend on how they come`, () => {
      const body = randomBytes(bytes);
      const parts = Array.from({ length: Math.ceil(bytes / 10) }, (_, at) => md5(body.subarray(at * 10, at * 10 + 10)));
      const expected = `${md5(...parts).toString("hex")}-${String(parts.length)}`;
      for (const step of [1, 3, 10, 25, 1000]) {
        const hasher = hashParts(10);
        for (let at = 0; at < bytes; at += step) hasher.update(body.subarray(at, at + step));
        assert.equal(hasher.etag(), expected);
      }
    });
  }

  test("are recomputed only where that is possible", () => {
    const hex = "0123456789abcdef".repeat(2);
    assert.ok(hasherFor(hex, 10, null) !== null);
    assert.ok(hasherFor(`${hex}-2`, 20, 10) !== null);
    for (const [etag, bytes, partBytes] of [
      [`${hex}-2`, 20, null],
      [`${hex}-2`, 21, 10],
      [`${hex}-N`, 20, 10],
      ["", 20, 10],
    ] as const) {
      assert.equal(hasherFor(etag, bytes, partBytes), null);
    }
  });
});

describe("the time to retry", () => {
  const unavailable: RetryErrorInfo = { errorType: "TRANSIENT" };

  /** How often a request may be tried again when it fails at once every time. */
  async function countRetries(strategy: RetryStrategyV2, info: RetryErrorInfo): Promise<number> {
    let token = await strategy.acquireInitialRetryToken("");
    for (;;) {
      try {
        token = await strategy.refreshRetryTokenForRetry(token, info);
      } catch {
        return token.getRetryCount();
      }
    }
  }

  test("grows from a fifth of a second to ten seconds", () => {
    for (let round = 0; round < 50; round += 1) {
      assert.ok(backoffMs(1) >= 100 && backoffMs(1) <= 200);
      assert.ok(backoffMs(4) >= 800 && backoffMs(4) <= 1600);
      assert.ok(backoffMs(50) >= 5_000 && backoffMs(50) <= 10_000);
    }
  });

  test("ends after its time", async () => {
    const start = performance.now();
    const retries = await countRetries(retryFor({ forMs: 1_500, log: undefined, signal }), unavailable);
    // On a busy machine waits take longer, and there are fewer of them.
    assert.ok(retries >= 1 && retries <= 6, String(retries));
    assert.ok(performance.now() - start < 10_000);
  });

  test("is not used for refusals", async () => {
    const strategy = retryFor({ forMs: 60_000, log: undefined, signal });
    assert.equal(await countRetries(strategy, { errorType: "CLIENT_ERROR" }), 0);
    const error = Object.assign(new Error(), { name: "RequestTimeTooSkewed", cause: new Error() });
    assert.equal(await countRetries(strategy, { errorType: "CLIENT_ERROR", error }), 1);
    // So the SDK reports a missing object while the clock is off.
    const missing = {
      name: "NotFound",
      $metadata: { httpStatusCode: 404, clockSkewCorrected: true as const },
      cause: new Error(),
    };
    assert.equal(
      await countRetries(strategy, { errorType: "TRANSIENT", error: Object.assign(new Error(), missing) }),
      1,
    );
  });

  for (const [what, name, status] of [
    ["too late", "Unknown", 408],
    ["too early", "Unknown", 425],
    ["too many", "Unknown", 429],
    ["a body that came too slowly", "RequestTimeout", 400],
    ["a body that was changed on its way", "BadDigest", 400],
  ] as const) {
    test(`is used for ${what}`, async () => {
      const error = Object.assign(new Error(), { name, $metadata: { httpStatusCode: status }, cause: new Error() });
      const strategy = retryFor({ forMs: 1_000, log: undefined, signal });
      assert.ok((await countRetries(strategy, { errorType: "CLIENT_ERROR", error })) >= 1);
    });
  }

  test("does not wait longer than it has time when the store asks for more", async () => {
    const later = { errorType: "THROTTLING", retryAfterHint: new Date(Date.now() + 60_000) } as const;
    assert.equal(await countRetries(retryFor({ forMs: 1_000, log: undefined, signal }), later), 0);
  });

  test("ends with the signal, whatever it waits for", { timeout: 60_000 }, async () => {
    const stop = new AbortController();
    const later = { errorType: "THROTTLING", retryAfterHint: new Date(Date.now() + 600_000) } as const;
    const counting = countRetries(retryFor({ forMs: 1_000_000, log: undefined, signal: stop.signal }), later);
    setTimeout(() => stop.abort(), 100);
    assert.equal(await counting, 0);
  });

  test("warns once when failures last", async () => {
    const warnings: string[] = [];
    const log = { debug: () => undefined, warn: (_: object, message: string) => void warnings.push(message) };
    const strategy = retryFor({ forMs: 8_000, log, signal });
    await Promise.all([1, 2].map(async () => countRetries(strategy, unavailable)));
    assert.equal(warnings.length, 1);
  });
});

describe("errors", () => {
  const request = { endpoint: new URL("https://store.example"), container: "backups", key: "k", signal };
  const cases: readonly (readonly [string, object, string, RegExp])[] = [
    ["an expired certificate", { code: "CERT_HAS_EXPIRED" }, "CONFIG", /certificate of store\.example:443/],
    [
      "a certificate of one's own",
      { code: "DEPTH_ZERO_SELF_SIGNED_CERT" },
      "CONFIG",
      /authority that is not known here/,
    ],
    [
      "a certificate for another name",
      { code: "ERR_TLS_CERT_ALTNAME_INVALID", cert: { subjectaltname: "DNS:a, DNS:b" } },
      "CONFIG",
      /for another host: a, b$/,
    ],
    ["a revoked certificate", { code: "CERT_REVOKED" }, "CONFIG", /cannot be trusted \(CERT_REVOKED\)/],
    [
      "no common version of TLS",
      {
        code: "EPROTO",
        message: "0:error:0A00042E:SSL routines:ssl3_read_bytes:tlsv1 alert protocol version:../x.c:1:",
      },
      "CONFIG",
      /do not agree on TLS \(tlsv1 alert protocol version\)/,
    ],
    ["a reset", { code: "ECONNRESET", name: "TimeoutError" }, "STORE_UNAVAILABLE", /store\.example:443/],
    ["a lost network", { code: "ENETUNREACH" }, "STORE_UNAVAILABLE", /ENETUNREACH/],
    ["503", { name: "ServiceUnavailable", $metadata: { httpStatusCode: 503 } }, "STORE_UNAVAILABLE", /503/],
    ["429 without a body", { name: "Unknown", $metadata: { httpStatusCode: 429 } }, "STORE_UNAVAILABLE", /429/],
    ["408 without a body", { name: "Unknown", $metadata: { httpStatusCode: 408 } }, "STORE_UNAVAILABLE", /408/],
    ["408", { name: "ServiceUnavailable", $metadata: { httpStatusCode: 408 } }, "STORE_UNAVAILABLE", /408/],
    [
      "a body that came too slowly",
      { name: "RequestTimeout", $metadata: { httpStatusCode: 400 } },
      "STORE_UNAVAILABLE",
      /400 \(RequestTimeout\)/,
    ],
    [
      "a full quota",
      { name: "EntityTooLarge", message: "Upload exceeds quota." },
      "QUOTA_EXCEEDED",
      /a quota of the account or of container '.+' is used up/,
    ],
    [
      "a part that is too long",
      { name: "EntityTooLarge", message: "Your proposed upload exceeds the maximum allowed object size." },
      "STREAM_TOO_LONG",
      /maximum allowed object size/,
    ],
    ["no credentials", { name: "CredentialsProviderError" }, "CONFIG", /no credentials/],
    ["403 to a HEAD", { name: "Unknown", $metadata: { httpStatusCode: 403 } }, "ACCESS_DENIED", /'k'/],
    ["a missing key", { name: "NoSuchKey", $metadata: { httpStatusCode: 404 } }, "ARCHIVE_MISSING", /'k'/],
    [
      "a refusal nobody expected",
      { name: "NotImplemented", $metadata: { httpStatusCode: 501 } },
      "STORE_UNAVAILABLE",
      /501/,
    ],
    ["a bug", { name: "TypeError", message: "x is not a function" }, "INTERNAL", /x is not a function/],
  ];
  for (const [what, error, code, message] of cases) {
    test(`${what} is ${code}`, () => {
      const translated = translate(Object.assign(new Error(), error), request);
      assert.equal(translated.code, code);
      assert.match(translated.message, message);
    });
  }

  test("of the program pass unchanged, and whatever was stopped is ABORTED", () => {
    const ours = new BackupError("LOCKED", "x");
    assert.equal(translate(ours, request), ours);
    assert.equal(translate(new Error(), { ...request, signal: AbortSignal.abort() }).code, "ABORTED");
  });
});

describe("an open upload", () => {
  const [DAY, now] = [86_400_000, Date.parse("2026-11-27T12:00:00Z")];
  const md5 = (text: string): Buffer => createHash("md5").update(text).digest();
  const etagOf = (...parts: readonly string[]): string => multipartEtag(parts.map(md5));
  interface Case {
    readonly begun?: number;
    readonly newest?: number;
    readonly parts?: readonly string[];
    readonly etag?: string | null;
  }
  const judge = ({ begun = 3 * DAY, newest = 3 * DAY, parts = ["a", "b"], etag = null }: Case): string => {
    const upload = { key: "k", uploadId: "u", initiated: new Date(now - begun) };
    const stored = new Map(
      parts.map((text, index) => [index + 1, { bytes: text.length, etag: md5(text).toString("hex") }]),
    );
    const object = etag === null ? null : { etag };
    return judgeUpload(
      { upload, parts: stored, newest: parts.length === 0 ? null : new Date(now - newest), object },
      now,
      DAY,
    );
  };

  test("is left alone while it, or its newest part, is young, whatever is under its key", () => {
    for (const etag of [null, etagOf("a"), md5("x").toString("hex")]) {
      assert.deepEqual(
        [judge({ begun: DAY - 1, etag }), judge({ newest: DAY - 1, etag }), judge({ begun: -5_000, etag })],
        ["young", "young", "young"],
      );
    }
  });
  test("without parts is removed when it is old", () => {
    assert.deepEqual([judge({}), judge({ parts: [] })], ["removed", "removed"]);
  });
  test("whose parts are those of the object is that object's", () => {
    assert.deepEqual(
      [judge({ etag: etagOf("a", "b") }), judge({ etag: etagOf("a", "b"), begun: 90 * DAY, newest: 90 * DAY })],
      ["finished", "finished"],
    );
  });
  test("is removed beside an object that is proven to be another's", () => {
    for (const etag of [md5("x").toString("hex"), etagOf("a", "c"), etagOf("a")])
      assert.equal(judge({ etag }), "removed");
  });
  test("with fewer parts than the object may lack some in a listing that lags behind", () => {
    const etag = etagOf("a", "b", "c");
    assert.deepEqual(
      [judge({ etag }), judge({ parts: [], etag }), judge({ etag, begun: 8 * DAY, newest: 8 * DAY })],
      ["doubtful", "doubtful", "removed"],
    );
  });
  test("beside an object that was made natively proves nothing", () => {
    assert.equal(judge({ etag: `${md5("x").toString("hex")}-N`, begun: 90 * DAY, newest: 90 * DAY }), "doubtful");
  });
});
