// Archives in several volumes, on a store in memory.

import assert from "node:assert/strict";
import { mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Readable } from "node:stream";
import { describe, test } from "node:test";
import fc from "fast-check";
import { BackupError } from "../../../src/errors.ts";
import { concatenated, openObjects, assertComplete } from "../../../src/operations/archive-body.ts";
import { readArchive } from "../../../src/operations/inventory.ts";
import { storeArchive } from "../../../src/operations/write-archive.ts";
import { findLeftovers, findRemovable, deleteLeftovers } from "../../../src/operations/leftovers.ts";
import { PLAIN } from "../../../src/plan/encoding.ts";
import {
  archiveKeyOf,
  formatManifest,
  formatVolumeKey,
  MAX_MANIFEST_BYTES,
  mostVolumes,
  parseManifest,
} from "../../../src/plan/manifest.ts";
import type { UploadStep } from "../../../src/plan/model.ts";
import { formatProofKey } from "../../../src/plan/proof.ts";
import { allLeftovers, leftoversOfSource, sourcesOf } from "../../../src/plan/leftovers.ts";
import { openCheckpoints } from "../../../src/state/checkpoints.ts";
import { slices } from "../../../src/stream/split.ts";
import { archiveOf, inventory, keyOf, snapshot, source, uuid } from "../../support/builders.ts";
import { memoryContainer, type MemoryContainer } from "../../support/memory-container.ts";
import { readAll } from "../../support/pieces.ts";

const { signal } = new AbortController();
const key = keyOf("snapshots/1");
const step: UploadStep = { do: "upload", key, snapshot: snapshot(1), sendParent: null };

function streamOf(body: Buffer, pieceBytes = 7): Readable {
  const pieces = Array.from({ length: Math.ceil(body.length / pieceBytes) }, (_, index) =>
    body.subarray(index * pieceBytes, (index + 1) * pieceBytes),
  );
  return Readable.from(pieces, { objectMode: false });
}

function bodyOf(bytes: number): Buffer {
  return Buffer.from(Array.from({ length: bytes }, (_, index) => index % 251));
}

/** Fails when more than two volumes of it are there. */
function broken(): Readable {
  const pieces = async function* (): AsyncGenerator<Buffer> {
    yield await Promise.resolve(bodyOf(90));
    throw new BackupError("SEND_FAILED", "dead");
  };
  return Readable.from(pieces(), { objectMode: false });
}

async function store(
  container: MemoryContainer,
  body: Readable,
  changes: { volumeBytes?: number | null; partBytes?: number; trusted?: number; encryptedNotes?: string } = {},
): ReturnType<typeof storeArchive> {
  const layout = {
    partBytes: changes.partBytes ?? 10,
    concurrency: 2,
    partsInMemory: 3,
    volumeBytes: changes.volumeBytes === undefined ? 40 : changes.volumeBytes,
  };
  const facts = { sendProto: 2, tool: "t/1" } as const;
  const notes = changes.encryptedNotes ?? null;
  const encoder = {
    cost: notes === null ? PLAIN : { encoding: "age" as const, headerBytes: 0 },
    fingerprint: null,
    programs: [],
  };
  const checkpoints = await openCheckpoints(notes, "");
  const storing = {
    step,
    layout,
    facts,
    encoder,
    checkpoints,
    spoolDirectory: null,
    openParts: null,
    trusted: changes.trusted ?? Infinity,
    onEncoded: () => undefined,
    onProgress: () => undefined,
  };
  return await storeArchive(body, storing, container, signal);
}

/** The keys of all objects but proofs. */
function keysOf({ objects }: MemoryContainer): string[] {
  return [...objects.keys()].filter((name) => name !== formatProofKey(key));
}

async function read(container: MemoryContainer): Promise<Buffer> {
  const archive = (await readArchive(key, { container, identities: [] }, signal)) ?? assert.fail();
  return await readAll(concatenated(await openObjects(archive, container, signal)));
}

const refused = (error: unknown): boolean => error instanceof BackupError && error.code === "RESUME_REFUSED";
const damaged = (error: unknown): boolean => error instanceof BackupError && error.code === "ARCHIVE_DAMAGED";

describe("slices of a stream", () => {
  test("together are the stream, whatever its pieces, and all but the last have the size", async () => {
    const sizes = fc.record({
      bytes: fc.nat(200),
      slice: fc.integer({ min: 1, max: 90 }),
      piece: fc.integer({ min: 1, max: 90 }),
    });
    await fc.assert(
      fc.asyncProperty(sizes, async ({ bytes, slice, piece }) => {
        const found: Buffer[] = [];
        for await (const part of slices(streamOf(bodyOf(bytes), piece), slice))
          found.push(Buffer.concat((await part.toArray()) as Buffer[]));
        assert.deepEqual(Buffer.concat(found), bodyOf(bytes));
        assert.ok(
          found.every(
            ({ length }, index) => length === slice || (index === found.length - 1 && length > 0 && length < slice),
          ),
        );
      }),
    );
  });
  test("fail with what the stream fails with", async () => {
    const failure = new BackupError("SEND_FAILED", "dead");
    const source = Readable.from(
      (async function* () {
        yield await Promise.resolve(Buffer.alloc(15));
        throw failure;
      })(),
      { objectMode: false },
    );
    await assert.rejects(async () => {
      for await (const slice of slices(source, 10)) await slice.toArray();
    }, failure);
    assert.equal(source.destroyed, true);
  });
});

describe("an archive in volumes", () => {
  test("is read back as it was, its manifest stored last", async () => {
    const container = memoryContainer();
    const stored = await store(container, streamOf(bodyOf(101)));
    assert.deepEqual(keysOf(container), [1, 2, 3].map((n) => formatVolumeKey(key, n)).concat(key));
    assert.deepEqual(await read(container), bodyOf(101));
    assert.deepEqual([stored.bytes, stored.resumedBytes], [101, 0]);
    const archive = await readArchive(key, { container, identities: [] }, signal);
    assert.deepEqual([archive?.bytes, archive?.volumes], [101, 3]);
  });

  test("whose stream fails has no manifest, and the next run resumes it", async () => {
    const container = memoryContainer();
    await assert.rejects(
      store(container, broken()),
      (error) => error instanceof BackupError && error.code === "SEND_FAILED",
    );
    assert.deepEqual(
      keysOf(container),
      [1, 2].map((n) => formatVolumeKey(key, n)),
    );
    const { resumedBytes } = await store(container, streamOf(bodyOf(101)));
    assert.equal(resumedBytes, 80);
    assert.deepEqual(await read(container), bodyOf(101));
  });

  test("that was not finished leaves nothing beside the one object that replaces it", async () => {
    const container = memoryContainer();
    await assert.rejects(store(container, broken()));
    await store(container, streamOf(bodyOf(30)), { volumeBytes: null });
    assert.deepEqual(keysOf(container), [key]);
  });

  test("that is encrypted is resumed in parts of another size, and read back as it was", async () => {
    const encryptedNotes = await mkdtemp(join(tmpdir(), "notes-"));
    try {
      const container = memoryContainer();
      await assert.rejects(store(container, broken(), { partBytes: 24, encryptedNotes }), /dead/);
      const { resumedBytes } = await store(container, streamOf(bodyOf(101)), { partBytes: 32, encryptedNotes });
      assert.equal(resumedBytes, 80);
      assert.deepEqual(await read(container), bodyOf(101));
    } finally {
      await rm(encryptedNotes, { recursive: true });
    }
  });

  test("of which another run removes a volume in the meantime is not committed", async () => {
    const container = memoryContainer();
    const put: typeof container.put = async (name, ...rest) => {
      const stored = await container.put(name, ...rest);
      if (name === formatVolumeKey(key, 3)) container.objects.delete(formatVolumeKey(key, 1));
      return stored;
    };
    await assert.rejects(store({ ...container, put }, streamOf(bodyOf(101))), damaged);
    assert.equal(container.objects.has(key), false);
    await store(container, streamOf(bodyOf(101)));
    assert.deepEqual(await read(container), bodyOf(101));
  });

  test("is begun again when the stored volumes are of something else", async () => {
    const container = memoryContainer();
    await store(container, streamOf(Buffer.alloc(200, 1)));
    container.objects.delete(key);
    await assert.rejects(store(container, streamOf(bodyOf(101))), refused);
    assert.equal(container.objects.has(key), false);
    await store(container, streamOf(bodyOf(101)), { trusted: 0 });
    assert.deepEqual(await read(container), bodyOf(101));
    assert.equal(keysOf(container).length, 4);
  });

  test("that is there already, listed or not, is left alone with all its volumes", async () => {
    const container = memoryContainer();
    await store(container, streamOf(bodyOf(101)));
    const list = container.list;
    const lagging = {
      ...container,
      list: async (prefix: string) => (await list(prefix, signal)).filter((object) => object.key !== key),
    };
    await assert.rejects(store(lagging, streamOf(bodyOf(101)), { trusted: 0 }), { code: "ALREADY_ARCHIVED" });
    const leftovers = await findLeftovers("", lagging, signal);
    assert.equal(leftovers.volumes.length, 3 + 1, "with the proof");
    assert.deepEqual((await findRemovable(leftovers, 0, lagging, signal)).volumes, []);
    assert.deepEqual((await deleteLeftovers(leftovers, 0, lagging, signal)).removed.volumes, []);
    assert.deepEqual(await read(container), bodyOf(101));
    container.objects.delete(key);
    assert.equal((await deleteLeftovers(leftovers, 0, container, signal)).removed.volumes.length, 3 + 1);
    assert.equal(container.objects.size, 0);
  });

  test("is resumed up to the volume that changed; only those from there on are replaced", async () => {
    const container = memoryContainer();
    await store(container, streamOf(bodyOf(101)));
    container.objects.delete(key);
    const before = [1, 2, 3].map((n) => container.objects.get(formatVolumeKey(key, n)));
    const changed = Buffer.from(bodyOf(101));
    changed[50] = 255;
    const refusal = await store(container, streamOf(changed)).catch((error: unknown) => error);
    assert.ok(refusal instanceof BackupError && refusal.context["volume"] === 2);
    const { resumedBytes } = await store(container, streamOf(changed), { trusted: 1 });
    assert.equal(resumedBytes, 40);
    assert.equal(container.objects.get(formatVolumeKey(key, 1)), before[0]);
    assert.notEqual(container.objects.get(formatVolumeKey(key, 2))?.etag, before[1]?.etag);
    assert.deepEqual(await read(container), changed);
  });

  test("that is encrypted sends again the one volume whose checkpoint is lost or torn, and no other", async () => {
    const encryptedNotes = await mkdtemp(join(tmpdir(), "notes-"));
    try {
      const container = memoryContainer();
      await assert.rejects(store(container, broken(), { encryptedNotes }), /dead/);
      const [file = ""] = await readdir(encryptedNotes);
      const lines = (await readFile(join(encryptedNotes, file), "utf8")).split("\n").filter((line) => line !== "");
      assert.equal(lines.length, 2);
      await writeFile(join(encryptedNotes, file), `${lines[0]?.slice(0, 40) ?? ""}\n${lines[1] ?? ""}\n`);
      const { resumedBytes } = await store(container, streamOf(bodyOf(101)), { encryptedNotes });
      assert.equal(resumedBytes, 40);
      assert.deepEqual(await read(container), bodyOf(101));
    } finally {
      await rm(encryptedNotes, { recursive: true });
    }
  });

  test("that another machine commits in the meantime keeps every volume", async () => {
    const container = memoryContainer();
    await store(container, streamOf(bodyOf(200)));
    const theirs = container.objects.get(key);
    container.objects.delete(key);
    if (theirs === undefined) return assert.fail();
    const put: typeof container.put = async (name, ...rest) => {
      container.objects.set(key, theirs);
      return await container.put(name, ...rest);
    };
    await assert.rejects(store({ ...container, put }, streamOf(bodyOf(90)), { trusted: 0 }), {
      code: "ALREADY_ARCHIVED",
    });
    const deleted: string[] = [];
    const remove: typeof container.delete = async (name, ...rest) => {
      deleted.push(name);
      await container.delete(name, ...rest);
    };
    container.objects.delete(key);
    await store(container, streamOf(bodyOf(200)), { trusted: 0 });
    await assert.rejects(store({ ...container, delete: remove }, streamOf(bodyOf(90)), { trusted: 0 }), {
      code: "ALREADY_ARCHIVED",
    });
    assert.deepEqual(deleted, []);
    assert.deepEqual(await read(container), bodyOf(200));
  });

  test("that is not finished is no leftover while it is young", async () => {
    const container = memoryContainer();
    await assert.rejects(store(container, broken()));
    const leftovers = await findLeftovers("", container, signal);
    assert.equal(leftovers.volumes.length, 2);
    assert.deepEqual((await findRemovable(leftovers, 3_600_000, container, signal)).volumes, []);
    assert.deepEqual((await deleteLeftovers(leftovers, 3_600_000, container, signal)).removed.volumes, []);
    const later = { ...container, now: () => Date.now() + 3_700_000 };
    assert.equal((await findRemovable(leftovers, 3_600_000, later, signal)).volumes.length, 2);
    assert.equal(container.objects.size, 2, "looking removes nothing");
    assert.equal((await deleteLeftovers(leftovers, 3_600_000, later, signal)).removed.volumes.length, 2);
  });

  test("leaves no volume of a longer one before it", async () => {
    const container = memoryContainer();
    await store(container, streamOf(bodyOf(200)));
    container.objects.delete(key);
    await assert.rejects(store(container, streamOf(bodyOf(90))), refused);
    await store(container, streamOf(bodyOf(80)));
    assert.equal(keysOf(container).length, 3);
    assert.deepEqual(await read(container), bodyOf(80));
  });

  test("whose volumes were copied elsewhere, in other parts, is still read: their bytes decide", async () => {
    const container = memoryContainer();
    await store(container, streamOf(bodyOf(101)));
    for (const n of [1, 2, 3]) {
      const [name, copied] = [
        formatVolumeKey(key, n),
        container.objects.get(formatVolumeKey(key, n))?.body ?? assert.fail(),
      ];
      container.objects.delete(name);
      await container.put(
        name,
        streamOf(copied),
        { partBytes: 16, concurrency: 1, partsInMemory: 2, metadata: {} },
        signal,
      );
    }
    const archive = await readArchive(key, { container, identities: [] }, signal);
    if (archive === null) return assert.fail();
    await assertComplete(archive, container, signal);
    assert.deepEqual(await read(container), bodyOf(101));
    container.objects.get(formatVolumeKey(key, 2))?.body.fill(9, 3, 4);
    await assert.rejects(read(container), damaged);
    container.objects.delete(formatVolumeKey(key, 3));
    await assert.rejects(assertComplete(archive, container, signal), damaged);
  });

  for (const [name, harm] of [
    ["a missing volume", (objects) => objects.delete(formatVolumeKey(key, 2))],
    [
      "a changed volume",
      (objects) => {
        objects.get(formatVolumeKey(key, 2))?.body.fill(9, 3, 4);
      },
    ],
    [
      "swapped volumes",
      (objects) => {
        const [first, second] = [1, 2].map((n) => objects.get(formatVolumeKey(key, n)) ?? assert.fail());
        if (first === undefined || second === undefined) return;
        objects.set(first.key, { ...second, key: first.key });
        objects.set(second.key, { ...first, key: second.key });
      },
    ],
    [
      "a changed manifest",
      (objects) => {
        objects.get(key)?.body.write("2", 20);
      },
    ],
  ] as [string, (objects: MemoryContainer["objects"]) => unknown][]) {
    test(`with ${name} is damaged`, async () => {
      const container = memoryContainer();
      await store(container, streamOf(bodyOf(101)));
      harm(container.objects);
      await assert.rejects(read(container), damaged);
    });
  }
});

describe("a manifest", () => {
  const volume = (n: number): Parameters<typeof formatManifest>[0][0] => ({
    key: formatVolumeKey(key, n),
    bytes: 10 * n,
    etag: "e",
    sha256: "0".repeat(64),
    partBytes: 5,
  });
  test("is read back as it was written", () => {
    assert.deepEqual(parseManifest(formatManifest([volume(1), volume(2)], key), key), [volume(1), volume(2)]);
  });
  test("that is anything else is damaged", () => {
    const good = formatManifest([volume(1), volume(2)], key);
    const others = [
      "",
      "{}",
      "[]",
      "null",
      good.slice(0, -9),
      good.replace('"format": 1', '"format": 2'),
      good.replace('"bytes": 30', '"bytes": 31'),
      good.replace(/000001"([^]*)000002"/, '000002"$1000001"'),
      good.replace("0000", "000g"),
      JSON.stringify({ format: 1, bytes: 0, volumes: [] }),
    ];
    for (const other of others) assert.throws(() => parseManifest(other, key), damaged, other);
  });
  test("holds as many volumes as are planned, whatever their names, and one that no reader accepts is never written", () => {
    assert.ok(mostVolumes(keyOf("s")) > 30_000);
    for (const name of ["snapshots/".repeat(60), "\u{1f389}".repeat(200)]) {
      const archive = keyOf(name);
      const most = mostVolumes(archive);
      const volumes = Array.from({ length: Math.ceil(most * 1.2) }, (_, index) => ({
        ...volume(1),
        key: formatVolumeKey(archive, index + 1),
        bytes: 5 * 2 ** 40,
        etag: `${"f".repeat(32)}-10000`,
        partBytes: 2 ** 30,
      }));
      const [first, ...rest] = volumes;
      if (first === undefined) return assert.fail();
      const text = formatManifest([first, ...rest.slice(0, most - 1)], archive);
      assert.ok(
        Buffer.byteLength(text) > MAX_MANIFEST_BYTES * 0.9 && parseManifest(text, archive).length === most,
        name,
      );
      assert.throws(() => formatManifest([first, ...rest], archive), { code: "STREAM_TOO_LONG" });
    }
  });
  test("volume keys name their archive, and no archive's key is mistaken for one", () => {
    assert.equal(archiveKeyOf(formatVolumeKey(key, 12)), key);
    for (const other of [key, `${key}/12`, `${key}/0000012`, `${key}/x`]) assert.equal(archiveKeyOf(other), null);
  });
});

test("leftovers are what no run will resume; objects of others are not touched", () => {
  const [sent, complete, gone] = [1, 2, 3].map((n) => snapshot(n));
  if (sent === undefined || complete === undefined || gone === undefined) return assert.fail();
  const keys = [sent, complete, gone].map(({ path }) => keyOf(path));
  const volumes = keys.map((each) => formatVolumeKey(each, 1));
  const foreign = ["photo.jpg", keyOf("snapshots/1", uuid(5)), source.uuid, `${source.uuid}/000001`];
  const uploads = [...keys, ...volumes, ...foreign].map((each) => ({ key: each }));
  const world = { ...inventory([sent], [[complete, archiveOf(complete, null)]]), volumes: [...volumes, ...foreign] };
  const remove = leftoversOfSource(world, uploads, new Set([keyOf(sent.path)]));
  assert.deepEqual(
    remove.uploads.map((upload) => upload.key),
    [keys[1], keys[2], volumes[1], volumes[2]],
  );
  assert.deepEqual(remove.volumes, [volumes[2]]);

  const cleared = allLeftovers([keys[1] ?? "", ...volumes, ...foreign], uploads);
  assert.deepEqual(cleared.volumes, [volumes[0], volumes[2]]);
  assert.deepEqual(
    cleared.uploads.map((upload) => upload.key),
    [...keys, ...volumes, foreign[1]],
  );
  assert.deepEqual(sourcesOf(cleared), [source.uuid, uuid(5)]);
});
