// The record of an upload: its parts, those of an earlier run, failures, and progress.

import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { Readable } from "node:stream";
import { describe, test } from "node:test";
import type { Store } from "../../../../src/swift/context.ts";
import { openParallelism } from "../../../../src/swift/upload/parallelism.ts";
import type { Part } from "../../../../src/swift/upload/part-buffers.ts";
import { UploadSession } from "../../../../src/swift/upload/session.ts";
import type { UploadProgress } from "../../../../src/operations/store-ports.ts";

const { signal } = new AbortController();
const md5 = (data: Buffer): Buffer => createHash("md5").update(data).digest();
const part = (number: number, text: string): Part => ({
  number, data: Buffer.from(text), isLast: false, release: () => undefined,
}); // prettier-ignore

function open(progress: UploadProgress[] = []): UploadSession {
  const limits = { partsPerUpload: 3, minPartBytes: 1, maxPartBytes: 100 };
  // The part of a store that a session uses.
  const store = { limits, parallelism: openParallelism(() => 0) } as unknown as Store;
  const onProgress = (each: UploadProgress): void => void progress.push(each);
  const options = { partBytes: 4, concurrency: 1, partsInMemory: 2, metadata: { name: "value" }, onProgress };
  return new UploadSession(store, { key: "k", body: Readable.from([]), options }, signal);
}

/** An open upload of an earlier run with these parts. */
function resumable(...texts: readonly string[]): Parameters<UploadSession["resume"]>[0] {
  const parts = texts.map((text, at) => [at + 1, { bytes: text.length, etag: md5(Buffer.from(text)).toString("hex") }] as const);
  return { upload: { key: "k", uploadId: "u", initiated: new Date(0) }, parts: new Map(parts), newest: null };
} // prettier-ignore

function send(session: UploadSession, each: Part): boolean {
  session.countPart(each);
  const isThere = session.isAlreadyUploaded(each, md5(each.data));
  session.recordStored(each.data);
  return isThere;
}

describe("the record of an upload", () => {
  test("completes its parts in order, in whatever order their MD5s came", () => {
    const session = open();
    session.beginMultipart("u");
    for (const each of [part(2, "b"), part(1, "aaaa")]) send(session, each);
    assert.equal(session.isCommitting, false);
    const { uploadId, parts } = session.commit();
    assert.equal(session.isCommitting, true);
    assert.equal(uploadId, "u");
    assert.deepEqual(parts, [
      { PartNumber: 1, ETag: `"${md5(Buffer.from("aaaa")).toString("hex")}"` },
      { PartNumber: 2, ETag: `"${md5(Buffer.from("b")).toString("hex")}"` },
    ]);
    const etag = `${md5(Buffer.concat([md5(Buffer.from("aaaa")), md5(Buffer.from("b"))])).toString("hex")}-2`;
    assert.equal(session.expectedEtag(), etag);
    const { md5s, ...rest } = session.receipt();
    assert.deepEqual(rest, { bytes: 5, etag, parts: 2, resumedBytes: 0 });
    assert.equal(md5s.length, 2);
    const found = { key: "k", bytes: 5, etag, modified: new Date(0), metadata: { name: "value" } };
    assert.ok(session.isWhatWasSent(found));
    for (const other of [null, { ...found, bytes: 6 }, { ...found, etag: "x" }, { ...found, metadata: {} }])
      assert.equal(session.isWhatWasSent(other), false);
  });

  test("counts a part of an earlier run as sent, and refuses another one of the same number", () => {
    const progress: UploadProgress[] = [];
    const session = open(progress);
    session.resume(resumable("aaaa", "bbbb"));
    session.beginMultipart("u");
    assert.equal(send(session, part(1, "aaaa")), true);
    assert.deepEqual(progress, [{ stored: 4, resumed: 4, inFlight: 0 }]);
    assert.throws(() => send(session, part(2, "cccc")), { code: "RESUME_REFUSED" });
    assert.equal(send(session, part(3, "dddd")), false);
    assert.equal(session.receipt().resumedBytes, 4);
  });

  test("refuses to complete an upload when the store has more parts of it than this body", () => {
    const session = open();
    session.resume(resumable("aaaa", "bbbb"));
    session.beginMultipart("u");
    send(session, part(1, "aaaa"));
    assert.throws(() => session.commit(), { code: "RESUME_REFUSED" });
    assert.equal(session.isCommitting, false);
  });

  test("refuses more parts than the store takes", () => {
    assert.throws(() => open().countPart(part(4, "aaaa")), { code: "STREAM_TOO_LONG" });
  });

  test("forgets a PUT that the store does not know", () => {
    const session = open();
    session.commitByPut(part(1, "aaaa"), md5(Buffer.from("aaaa")));
    assert.deepEqual([session.isCommitting, session.receipt().bytes], [true, 4]);
    assert.equal(session.expectedEtag(), md5(Buffer.from("aaaa")).toString("hex"));
    session.withdrawPut();
    assert.deepEqual([session.isCommitting, session.receipt().bytes, session.receipt().parts], [false, 0, 0]);
  });

  test("keeps the first failure, and stops its requests and its body", () => {
    const session = open();
    session.fail({ error: new Error("first"), ofBody: false });
    session.fail({ error: new Error("second"), ofBody: true });
    assert.throws(() => session.throwIfFailed(), /first/);
    assert.deepEqual([session.failure?.ofBody, session.stopped.aborted, session.body.destroyed], [false, true, true]);
  });

  test("reports what the network has taken until it is confirmed, and less when a request begins again", () => {
    const progress: UploadProgress[] = [];
    const session = open(progress);
    const { data } = part(1, "aaaa");
    for (const bytes of [0, 3, 0, 4]) session.recordSent(data, bytes);
    assert.equal(session.holdsParts, false);
    session.recordStored(data);
    assert.deepEqual(progress.map(({ stored, inFlight }) => [stored, inFlight]), [[0, 3], [0, 0], [0, 4], [4, 0]]);
    assert.equal(session.holdsParts, true);
  }); // prettier-ignore
});
