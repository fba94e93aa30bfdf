// Uploads that were interrupted and resumed, in a real Swift.

import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { writeFileSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Readable } from "node:stream";
import { after, before, describe, test } from "node:test";
import { BackupError } from "../../src/errors.ts";
import { readFrom } from "../../src/stream/child-output.ts";
import { openContainer } from "../../src/swift/container.ts";
import { noSwift } from "../support/requirements.ts";
import { openSwift, type Swift } from "../support/swift.ts";
import type { Container, PutOptions, Stored, UploadProgress } from "../../src/operations/store-ports.ts";

const MIB = 1024 ** 2;
const { signal } = new AbortController();
const options: PutOptions = { partBytes: 5 * MIB, concurrency: 2, partsInMemory: 4, metadata: { "btrfs-format": "1" } };

describe("an interrupted upload", { skip: noSwift() }, () => {
  let swift: Swift;
  let container: Container;
  before(async () => {
    swift = await openSwift();
    await swift.createContainer("resumed");
    const credentials = { accessKeyId: swift.accessKey, secretAccessKey: swift.secretKey };
    const where = { containerName: "resumed", endpoint: swift.endpoint, region: null, credentials };
    container = await openContainer(
      { ...where, userAgent: "test/1", connections: 4, retryForMs: 5_000 },
      undefined,
      signal,
    );
  });
  after(async () => {
    container.close();
    await swift.close();
  });

  /** Stores the complete parts of so many bytes of a body, and then fails. */
  async function interrupt(key: string, body: Buffer, bytes: number, more: Partial<PutOptions> = {}): Promise<void> {
    const failure = new BackupError("SEND_FAILED", "interrupted");
    const partBytes = more.partBytes ?? options.partBytes;
    const complete = Math.ceil(bytes / partBytes - 1) * partBytes;
    let confirm = (): void => undefined;
    const confirmed = new Promise<void>((resolve) => (confirm = resolve));
    const onProgress = ({ stored }: UploadProgress): void => {
      if (stored === complete) confirm();
    };
    async function* broken(): AsyncGenerator<Buffer> {
      yield* pieces(body.subarray(0, bytes));
      await confirmed;
      throw failure;
    }
    const stream = Readable.from(broken(), { objectMode: false });
    await assert.rejects(container.put(key, stream, { ...options, ...more, onProgress }, signal), failure);
    assert.equal(await container.head(key, signal), null);
  }

  async function resume(key: string, body: Buffer, more: Partial<PutOptions> = {}): Promise<Stored> {
    return await container.put(key, streamed(body), { ...options, resume: true, ...more }, signal);
  }

  /** @param left - so many other uploads of the key stay, as they are young */
  async function assertStored(key: string, body: Buffer, left = 0): Promise<void> {
    const isBody = async (): Promise<boolean> => (await swift.native.getObject("resumed", key)).equals(body);
    assert.ok(await isBody());
    const uploads = await container.openUploads(key, signal);
    assert.equal(uploads.length, left);
    for (const upload of uploads) {
      assert.equal(await container.removeUpload(upload, 60_000, signal), "young");
      assert.equal(await container.removeUpload(upload, 0, signal), "removed");
    }
    assert.ok(await isBody());
    const segments = (await (await swift.native.request("GET", "/resumed%2Bsegments")).text()).split("\n");
    const ours = segments.filter((name) => name.startsWith(`${key}/`));
    assert.equal(ours.length, Math.ceil(body.length / options.partBytes));
  }

  test("is resumed: stored parts are not sent again, and the object is the same", async () => {
    const body = randomBytes(28 * MIB);
    await interrupt("plain", body, 17 * MIB);
    const { resumedBytes, parts } = await resume("plain", body);
    assert.deepEqual([resumedBytes, parts], [15 * MIB, 6]);
    await assertStored("plain", body);
    assert.equal((await container.head("plain", signal))?.metadata["btrfs-format"], "1");
  });

  test("of a program that fails is resumed, too", async (t) => {
    const directory = await mkdtemp(join(tmpdir(), "resume-"));
    t.after(() => rm(directory, { recursive: true }));
    for (let attempt = 0; attempt < 5; attempt += 1) {
      const key = `program-${attempt}`;
      const failure = (): BackupError => new BackupError("SEND_FAILED", "interrupted");
      const stored = join(directory, key);
      const script = `head -c ${12 * MIB} /dev/zero; until [ -e ${stored} ]; do sleep 0.1; done; exit 3`;
      const body = readFrom({ program: "sh", args: ["-c", script], failure }, signal);
      const onProgress = (progress: UploadProgress): void => {
        if (progress.stored > 0) writeFileSync(stored, "");
      };
      await assert.rejects(container.put(key, body, { ...options, onProgress }, signal), { code: "SEND_FAILED" });
      assert.equal((await container.openUploads(key, signal)).length, 1);
      const { resumedBytes } = await resume(key, Buffer.alloc(12 * MIB));
      assert.ok(resumedBytes > 0);
    }
  });

  test("that changed after its beginning is refused, and nothing of it is replaced: it may be completed at this moment", async () => {
    const before = randomBytes(28 * MIB);
    const body = Buffer.from(before);
    body[11 * MIB] = 255 - (body[11 * MIB] ?? 0);
    await interrupt("changed", before, 22 * MIB);
    await assert.rejects(
      resume("changed", body),
      (error) => error instanceof BackupError && error.code === "RESUME_REFUSED",
    );
    await resume("changed", body, { resume: false });
    await assertStored("changed", body, 1);
  });

  test("that lacks a part in the middle gets that one, and not those after it", async () => {
    const body = randomBytes(28 * MIB);
    await interrupt("gap", body, 22 * MIB);
    const uploadId = (await container.openUploads("gap", signal))[0]?.uploadId ?? "";
    await swift.native.request("DELETE", `/resumed%2Bsegments/gap/${uploadId}/2`);
    const { resumedBytes } = await resume("gap", body);
    assert.equal(resumedBytes, 15 * MIB);
    await assertStored("gap", body);
  });

  test("that begins otherwise is left alone, and a new one is begun", async () => {
    const body = randomBytes(17 * MIB);
    await interrupt("otherwise", randomBytes(17 * MIB), 12 * MIB);
    assert.equal((await resume("otherwise", body)).resumedBytes, 0);
    await assertStored("otherwise", body, 1);
  });

  test("that was longer is refused: its last parts would stay in the store forever", async () => {
    const body = randomBytes(28 * MIB);
    await interrupt("longer", body, 27 * MIB);
    const shorter = body.subarray(0, 12 * MIB);
    await assert.rejects(
      resume("longer", shorter),
      (error) => error instanceof BackupError && error.code === "RESUME_REFUSED",
    );
    await resume("longer", shorter, { resume: false });
    await assertStored("longer", shorter, 1);
  });

  test("shows the size of its parts once it has two of them", async () => {
    const body = randomBytes(18 * MIB);
    assert.equal(await container.findOpenParts("shown", signal), null);
    await interrupt("shown", body, 6 * MIB);
    assert.deepEqual(await container.findOpenParts("shown", signal), { partBytes: null });
    await interrupt("shown", body, 13 * MIB, { partBytes: 6 * MIB });
    await interrupt("shown-other", body, 17 * MIB);
    assert.deepEqual(await container.findOpenParts("shown", signal), { partBytes: 6 * MIB });
    for (const upload of await container.openUploads("shown", signal)) await container.removeUpload(upload, 0, signal);
  });

  test("that an earlier version of the program began is resumed", async () => {
    const body = randomBytes(12 * MIB);
    await interrupt("upgraded", body, 11 * MIB, { metadata: { "btrfs-tool": "1" } });
    const { resumedBytes } = await resume("upgraded", body, { metadata: { "btrfs-tool": "2" } });
    assert.equal(resumedBytes, 10 * MIB);
    await assertStored("upgraded", body);
  });

  test("in parts of another size is left alone", async () => {
    const body = randomBytes(17 * MIB);
    await interrupt("sizes", body, 15 * MIB, { partBytes: 6 * MIB });
    const { resumedBytes } = await resume("sizes", body);
    assert.equal(resumedBytes, 0);
    await assertStored("sizes", body, 1);
  });

  test("of which there are several: the one that got furthest is resumed, the others are left alone", async () => {
    const body = randomBytes(22 * MIB);
    for (const bytes of [11, 17, 6]) await interrupt("several", body, bytes * MIB);
    assert.equal((await container.openUploads("several", signal)).length, 3);
    const { resumedBytes } = await resume("several", body);
    assert.equal(resumedBytes, 15 * MIB);
    await assertStored("several", body, 2);
  });

  test("whose key is the beginning of another's is distinguished from it", async () => {
    const body = randomBytes(12 * MIB);
    await interrupt("key", body, 11 * MIB);
    await interrupt("key-2", body, 11 * MIB);
    const uploads = await container.openUploads("key", signal);
    assert.deepEqual(uploads.map(({ key }) => key).toSorted(), ["key", "key-2"]);
    for (const upload of uploads) await container.removeUpload(upload, 0, signal);
  });

  test("is found among more than one page of them", async () => {
    const keys = Array.from({ length: 7 }, (_, at) => `page\\x2f${String(at)} ü`);
    for (const key of keys) await interrupt(key, randomBytes(6 * MIB), 6 * MIB);
    const found = await container.openUploads("page", signal);
    assert.deepEqual(found.map(({ key }) => key).toSorted(), keys);
    for (const upload of found) await container.removeUpload(upload, 0, signal);
    assert.deepEqual(await container.openUploads("page", signal), []);
  });
});

function streamed(body: Buffer): Readable {
  return Readable.from(pieces(body), { objectMode: false });
}

async function* pieces(body: Buffer): AsyncGenerator<Buffer> {
  for (let at = 0; at < body.length; at += 65_536) yield await Promise.resolve(body.subarray(at, at + 65_536));
}
