// Archives whose objects were copied: the ETag is that of another upload, and the metadata may be gone.

import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { Readable } from "node:stream";
import { describe, test } from "node:test";
import { BackupError } from "../../../src/errors.ts";
import { concatenated, openObjects, assertComplete } from "../../../src/operations/archive-body.ts";
import { readArchive } from "../../../src/operations/inventory.ts";
import { readProof } from "../../../src/operations/proof.ts";
import { storeArchive } from "../../../src/operations/write-archive.ts";
import { survey } from "../../../src/operations/survey.ts";
import { readArchivesThrough } from "../../../src/operations/verify.ts";
import { PLAIN } from "../../../src/plan/encoding.ts";
import { formatVolumeKey } from "../../../src/plan/manifest.ts";
import { streamIdentity, type UploadStep } from "../../../src/plan/model.ts";
import { formatProof, formatProofKey, parseProof } from "../../../src/plan/proof.ts";
import { allLeftovers } from "../../../src/plan/leftovers.ts";
import { openCheckpoints } from "../../../src/state/checkpoints.ts";
import { contentCheck, hashParts } from "../../../src/swift/etag.ts";
import { keyOf, snapshot } from "../../support/builders.ts";
import { memoryContainer, type MemoryContainer } from "../../support/memory-container.ts";
import { readAll } from "../../support/pieces.ts";
import { startOfStream } from "../../support/stream-commands.ts";
import type { ObjectToRead } from "../../../src/operations/store-ports.ts";
import type { Storing } from "../../../src/operations/object-to-store.ts";

const { signal } = new AbortController();
const key = keyOf("snapshots/1");
const step: UploadStep = { do: "upload", key, snapshot: snapshot(1), sendParent: null };
const PART_BYTES = 200;
const body = Buffer.from(Array.from({ length: 950 }, (_, at) => at % 251));

const md5 = (bytes: Buffer): string => createHash("md5").update(bytes).digest("hex");

/** The ETag that a body has when it goes up in parts of another size. */
function etagIn(partBytes: number, bytes: Buffer): string {
  const hasher = hashParts(partBytes);
  hasher.update(bytes);
  return hasher.etag();
}

async function store(
  container: MemoryContainer,
  changes: Partial<Storing> & { volumeBytes?: number } = {},
  content = body,
): Promise<void> {
  const layout = { partBytes: PART_BYTES, concurrency: 2, partsInMemory: 3, volumeBytes: changes.volumeBytes ?? null };
  const encoder = { cost: PLAIN, fingerprint: null, programs: [] };
  const checkpoints = await openCheckpoints(null, "");
  const facts = { sendProto: 2, tool: "t/1" } as const;
  const storing = {
    step,
    layout,
    facts,
    encoder,
    checkpoints,
    spoolDirectory: null,
    trusted: 0,
    openParts: null,
    onEncoded: () => undefined,
    onProgress: () => undefined,
  };
  await storeArchive(Readable.from([content], { objectMode: false }), { ...storing, ...changes }, container, signal);
}

/** Makes of an object what a copy makes of it. */
function copied(
  container: MemoryContainer,
  at: string,
  partBytes: number,
  changes: { body?: Buffer; keepsMetadata?: boolean } = {},
): void {
  const object = container.objects.get(at) ?? assert.fail(at);
  const bytes = changes.body ?? object.body;
  const metadata = changes.keepsMetadata === false ? {} : object.metadata;
  container.objects.set(at, { ...object, metadata, body: bytes, bytes: bytes.length, etag: etagIn(partBytes, bytes) });
}

async function read(container: MemoryContainer): Promise<Buffer> {
  const archive = (await readArchive(key, { container, identities: [] }, signal)) ?? assert.fail("no archive");
  return await readAll(concatenated(await openObjects(archive, container, signal)));
}

const AGE: Storing["encoder"] = { cost: { encoding: "age", headerBytes: 0 }, fingerprint: null, programs: [] };

/** The same stream as age makes it of one and the same snapshot: each time with other keys, and as long. */
function encrypted(seed: number): Buffer<ArrayBuffer> {
  const head = Buffer.from("age-encryption.org/v1\n-> X25519 ");
  return Buffer.concat([head, body.map((byte) => byte ^ seed)]).subarray(0, body.length);
}

/** The stale proof of an archive that was deleted, beside another one of the same snapshot. */
async function resent(
  first: Buffer<ArrayBuffer>,
  second: Buffer<ArrayBuffer>,
  changes: Partial<Storing> = {},
): Promise<MemoryContainer> {
  const container = memoryContainer();
  await store(container, changes, first);
  const stale = container.objects.get(formatProofKey(key)) ?? assert.fail();
  container.objects.clear();
  await store(container, changes, second);
  container.objects.set(formatProofKey(key), stale);
  return container;
}

async function proofIn(container: MemoryContainer): Promise<unknown> {
  return await readProof(container.objects.get(key) ?? assert.fail(), container, signal);
}

const isDamage = (error: unknown): boolean => error instanceof BackupError && error.code === "ARCHIVE_DAMAGED";

describe("a proof", () => {
  const proof = {
    bytes: 25,
    partBytes: 10,
    md5s: ["a", "b", "c"].map((letter) => letter.repeat(32)),
    head: "d".repeat(64),
    metadata: { "btrfs-format": "1" },
  };
  test("is read as it was written, and anything else is none", () => {
    assert.deepEqual(parseProof(formatProof(proof)), proof);
    for (const other of [
      "",
      "{",
      "null",
      "[]",
      "{}",
      formatProof({ ...proof, bytes: 31 }),
      formatProof({ ...proof, md5s: ["x"] }),
      formatProof({ ...proof, head: "d" }),
    ]) {
      assert.equal(parseProof(other), null, other);
    }
  });
  test("is stored with every archive, and describes it", async () => {
    for (const volumeBytes of [undefined, 400]) {
      const container = memoryContainer();
      await store(container, volumeBytes === undefined ? {} : { volumeBytes });
      const stored = container.objects.get(key) ?? assert.fail();
      const found =
        parseProof(container.objects.get(formatProofKey(key))?.body.toString() ?? "") ?? assert.fail("no proof");
      assert.deepEqual([found.bytes, found.metadata], [stored.bytes, stored.metadata]);
      assert.equal(found.md5s[0], md5(stored.body.subarray(0, PART_BYTES)));
    }
  });
  test("replaces that of an archive that was under the key before", async () => {
    const container = memoryContainer();
    await container.put(
      formatProofKey(key),
      Readable.from([Buffer.from("old")]),
      { partBytes: 10, concurrency: 1, partsInMemory: 2, metadata: {} },
      signal,
    );
    await store(container);
    assert.notEqual(parseProof(container.objects.get(formatProofKey(key))?.body.toString() ?? ""), null);
  });
  test("of an archive that is gone is deleted before another one is stored, and judges no copy of that", async () => {
    const container = memoryContainer();
    await store(container);
    const other = Buffer.from(body).reverse();
    const { put } = container;
    // As a run that is killed as soon as the archive is stored.
    const away = (): Promise<never> => Promise.reject(new BackupError("STORE_UNAVAILABLE", "away"));
    const failing: MemoryContainer = {
      ...container,
      list: away,
      put: (at, ...rest) => (at === formatProofKey(key) ? away() : put(at, ...rest)),
    };
    container.objects.delete(key);
    await store(failing, {}, other);
    assert.deepEqual([...container.objects.keys()], [key]);
    copied(container, key, 300);
    assert.ok((await read(container)).equals(other));
  });
  for (const [kind, bytes] of [
    ["as long", encrypted(2)],
    ["shorter", encrypted(2).subarray(0, 850)],
  ] as const) {
    test(`of an archive that was encrypted again, ${kind} and with the same metadata, does not count for this one`, async () => {
      const container = await resent(encrypted(1), bytes, { encoder: AGE });
      assert.equal(await proofIn(container), null);
      const { findings, copied: called } = await survey({ container, identities: [] }, [], signal);
      assert.deepEqual([...called], []);
      assert.ok(findings.every(({ message }) => !/were sent/.test(message)));
      copied(container, key, 300);
      assert.ok((await read(container)).equals(bytes));
      copied(container, key, 300, { keepsMetadata: false });
      const bare = (await readArchive(key, { container, identities: [] }, signal)) ?? assert.fail();
      assert.equal(bare.lineage, null, "nobody knows whose stream it holds");
    });
  }
  test("that another version of the program has made counts: an upload keeps its first metadata", async () => {
    const container = memoryContainer();
    await store(container, { facts: { sendProto: 2, tool: "t/2" } });
    const object = container.objects.get(key) ?? assert.fail();
    container.objects.set(key, { ...object, metadata: { ...object.metadata, "btrfs-tool": "t/1" } });
    assert.notEqual(await proofIn(container), null);
    copied(container, key, 220, { body: Buffer.from(body).fill(7, 700, 702) });
    await assert.rejects(read(container), isDamage);
  });
  test("that cannot be stored does not fail the run", async () => {
    const container = memoryContainer();
    const { put } = container;
    const failing: MemoryContainer = {
      ...container,
      put: (at, ...rest) =>
        at === formatProofKey(key) ? Promise.reject(new BackupError("STORE_UNAVAILABLE", "away")) : put(at, ...rest),
    };
    await store(failing);
    assert.deepEqual([...container.objects.keys()], [key]);
    assert.ok((await read(container)).equals(body));
  });
  test("without its archive is a leftover", () => {
    assert.deepEqual(allLeftovers([formatProofKey(key)], []).volumes, [formatProofKey(key)]);
    assert.deepEqual(allLeftovers([key, formatProofKey(key)], []).volumes, []);
  });
});

describe("the check whether bytes are those that were stored", () => {
  const digests = {
    bytes: body.length,
    partBytes: PART_BYTES,
    md5s: Array.from({ length: 5 }, (_, at) => md5(body.subarray(PART_BYTES * at, PART_BYTES * (at + 1)))),
  };
  const stale = { ...digests, md5s: digests.md5s.toReversed() };
  const found = (
    object: Partial<ObjectToRead>,
    bytes = body,
    partBytes: number | null = PART_BYTES,
  ): string | null | undefined => {
    const check = contentCheck(
      { key, bytes: body.length, modified: new Date(0), metadata: {}, etag: "", ...object },
      partBytes,
    );
    check?.update(bytes);
    return check?.mismatch();
  };
  const other = Buffer.from(body).fill(7, 700, 702);

  test("is the ETag, or the MD5s of the parts as they were sent", () => {
    const own = etagIn(PART_BYTES, body);
    const [copy, sameCount] = [etagIn(300, body), `${"f".repeat(32)}-5`];
    assert.equal(found({ etag: own }), null);
    assert.equal(found({ etag: own, digests }), null);
    assert.equal(found({ etag: own, digests }, body, null), null, "borders are in the proof too");
    assert.equal(found({ etag: own, digests: stale }), null, "a proof of something else says nothing");
    for (const etag of [copy, sameCount, "e".repeat(32)]) {
      assert.equal(found({ etag, digests }), null, etag);
      assert.notEqual(found({ etag, digests }, other), null, etag);
      assert.notEqual(found({ etag, digests: stale }), null, etag);
    }
    assert.equal(found({ etag: copy }), undefined, "nothing can show it");
    assert.notEqual(found({ etag: own }, other), null);
    assert.notEqual(found({ etag: own, digests }, other), null);
    assert.equal(found({ etag: "e".repeat(32), digests: "by the reader" }), undefined);
  });
});

describe("an archive that was copied with other parts", () => {
  // Five parts of 200 bytes become four of 300, or five of 220.
  for (const [name, partBytes] of [
    ["fewer", 300],
    ["as many", 220],
  ] as const) {
    test(`${name}: is read, and is not damaged; what differs in it is`, async () => {
      const container = memoryContainer();
      await store(container);
      copied(container, key, partBytes);
      assert.ok((await read(container)).equals(body));
      copied(container, key, partBytes, { body: Buffer.from(body).fill(7, 700, 702) });
      await assert.rejects(read(container), isDamage);
    });
  }
  test("is no finding at first sight; cut short, it is damage", async () => {
    const container = memoryContainer();
    await store(container);
    copied(container, key, 300);
    const reading = { container, identities: [] };
    const seen = await survey(reading, [], signal);
    assert.deepEqual([...seen.copied], [key]);
    // The stored bytes are no send stream; its parts and size are right.
    assert.ok(
      seen.findings.every(({ message }) => !/parts|bytes/.test(message)),
      JSON.stringify(seen.findings),
    );
    copied(container, key, 300, { body: body.subarray(0, 600) });
    const { findings } = await survey(reading, [], signal);
    assert.match(findings.map(({ message }) => message).join(), /600 bytes.*950/);
  });
  test("without its proof is still read", async () => {
    const container = memoryContainer();
    await store(container);
    container.objects.delete(formatProofKey(key));
    copied(container, key, 300);
    assert.ok((await read(container)).equals(body));
  });
  test("in volumes: SHA-256 decides", async () => {
    const container = memoryContainer();
    await store(container, { volumeBytes: 400 });
    const volume = formatVolumeKey(key, 2);
    copied(container, volume, 150);
    assert.ok((await read(container)).equals(body));
    const archive = (await readArchive(key, { container, identities: [] }, signal)) ?? assert.fail();
    assert.equal(await assertComplete(archive, container, signal), true);
    copied(container, volume, 150, { body: Buffer.alloc(400, 3) });
    await assert.rejects(read(container), isDamage);
    copied(container, volume, 150, { body: Buffer.alloc(399, 3) });
    await assert.rejects(assertComplete(archive, container, signal), isDamage);
  });
  test("in volumes, without metadata: the list of volumes is known by its content", async () => {
    const container = memoryContainer();
    await store(container, { volumeBytes: 400 });
    const before = (await readArchive(key, { container, identities: [] }, signal)) ?? assert.fail();
    copied(container, key, 10_000, { keepsMetadata: false });
    const archive = (await readArchive(key, { container, identities: [] }, signal)) ?? assert.fail();
    assert.deepEqual({ ...archive, stored: null, etag: null }, { ...before, stored: null, etag: null });
    container.objects.delete(formatProofKey(key));
    const bare = (await readArchive(key, { container, identities: [] }, signal)) ?? assert.fail();
    assert.deepEqual([bare.volumes, bare.bytes], [3, body.length]);
    assert.ok((await readAll(concatenated(await openObjects(bare, container, signal)))).equals(body));
  });
  test("encrypted, without metadata: the proof shows whose stream it holds", async () => {
    const container = memoryContainer();
    await store(container, { encoder: AGE }, encrypted(1));
    const before = (await readArchive(key, { container, identities: [] }, signal)) ?? assert.fail();
    copied(container, key, 300, { keepsMetadata: false });
    const archive = (await readArchive(key, { container, identities: [] }, signal)) ?? assert.fail();
    assert.deepEqual([archive.lineage, archive.encoding, archive.otime], [before.lineage, "age", before.otime]);
  });
  test("without metadata: the proof shows when the snapshot was taken", async () => {
    const container = memoryContainer();
    await store(container, {}, Buffer.concat([startOfStream(streamIdentity(step.snapshot), "1"), body]));
    const before = (await readArchive(key, { container, identities: [] }, signal)) ?? assert.fail();
    copied(container, key, 300, { keepsMetadata: false });
    const { otime, otransid } = (await readArchive(key, { container, identities: [] }, signal)) ?? assert.fail();
    assert.deepEqual([otime, otransid], [before.otime, before.otransid]);
  });
  test("in encrypted volumes, without metadata and proof: encrypted, and not damaged", async () => {
    const container = memoryContainer();
    await store(container, { encoder: AGE, volumeBytes: 400 }, encrypted(1));
    copied(container, key, 10_000, { keepsMetadata: false });
    container.objects.delete(formatProofKey(key));
    const archive = (await readArchive(key, { container, identities: [] }, signal)) ?? assert.fail();
    assert.deepEqual([archive.encoding, archive.volumes], ["age", 3]);
    const { findings } = await survey({ container, identities: [] }, [], signal);
    assert.deepEqual(
      findings.map(({ code }) => code),
      ["NOT_READABLE"],
    );
  });
  test("is read by verify and checked by its proof", async () => {
    const container = memoryContainer();
    await store(container);
    copied(container, key, 300);
    const reading = { container, identities: [] };
    const { archives, withoutChecksum } = await survey(reading, [], signal);
    assert.equal(withoutChecksum.size, 0);
    const findings = await readArchivesThrough(archives, { archives, reading, onBytes: () => undefined }, signal);
    assert.doesNotMatch(JSON.stringify(findings), /in the store/);
  });
});
