// A container in memory: the port's second inhabitant, held to the same contract suite as the real one.

import { createHash } from "node:crypto";
import { addAbortSignal, type Readable } from "node:stream";
import { abortedError, BackupError } from "../../src/errors.ts";
import { verified } from "../../src/swift/download.ts";
import { bodyMatches, contentCheck, digestsEtags, hashParts } from "../../src/swift/etag.ts";
import { openPieces } from "../../src/stream/pieces.ts";
import { s3Limits } from "../../src/swift/server-info.ts";
import { checkKey, checkMetadata } from "../../src/swift/names.ts";
import type { Container, ObjectDetails, PutOptions, Stored, StoredObject } from "../../src/operations/store-ports.ts";

const CHUNK_BYTES = 64 * 1024;

/** The object under a key. After a change of `body`, the store has lost what it was given. */
export interface MemoryObject extends ObjectDetails {
  readonly body: Buffer;
}

export interface MemoryContainer extends Container {
  readonly objects: Map<string, MemoryObject>;
}

export interface MemoryOptions {
  readonly name?: string;
  readonly limits?: Container["limits"];
}

/** An empty container that is as good as a real one, until the process ends. */
export function memoryContainer({ name = "memory", limits = s3Limits }: MemoryOptions = {}): MemoryContainer {
  const objects = new Map<string, MemoryObject>();

  function find(key: string): MemoryObject {
    const object = objects.get(key);
    if (object === undefined)
      throw new BackupError("ARCHIVE_MISSING", `there is no object '${key}' in container '${name}'`);
    return object;
  }

  /** In memory that is used again, as that of a real one is. */
  async function* read(asked: ObjectDetails, signal: AbortSignal): AsyncGenerator<Buffer> {
    const memory = Buffer.alloc(CHUNK_BYTES);
    const { body, etag } = find(asked.key);
    if (etag !== asked.etag) throw new BackupError("ARCHIVE_DAMAGED", `'${asked.key}' was changed while it was read`);
    for (let at = 0; at < body.length; at += CHUNK_BYTES) {
      if (signal.aborted) throw abortedError(signal);
      yield await Promise.resolve(memory.subarray(0, body.copy(memory, 0, at)));
    }
  }

  async function put(key: string, body: Readable, options: PutOptions, signal: AbortSignal) {
    try {
      checkKey(key);
      checkMetadata(options.metadata);
      assertAbsent(objects, key);
      const bytes = await readBody(body, options, limits, signal);
      assertAbsent(objects, key);
      const stored = describe(bytes, options.partBytes);
      objects.set(key, { key, body: bytes, modified: new Date(), metadata: options.metadata, ...stored });
      return stored;
    } finally {
      body.destroy();
    }
  }

  return {
    name,
    limits,
    objects,
    list: async (prefix, signal) => answer(signal, () => listed([...objects.values()], prefix)),
    head: async (key, signal) => answer(signal, () => withoutBody(objects.get(key))),
    peek: async (key, length, signal) => answer(signal, () => find(key).body.subarray(0, length)),
    get: (object, partBytes, signal) =>
      openPieces((stop) => verified(read(object, stop), object, contentCheck(object, partBytes)), signal),
    put,
    isSentAs: (etag, digests) => digestsEtags(digests).includes(etag),
    matches: async (object, partBytes, body) => bodyMatches(object, partBytes, body),
    findOpenParts: async () => Promise.resolve(null),
    uploadRate: () => null,
    openUploads: async () => Promise.resolve([]),
    removeUpload: async () => Promise.resolve("removed"),
    now: () => Date.now(),
    delete: async (key, signal) => answer(signal, () => void objects.delete(key)),
    close: () => undefined,
  };
}

async function answer<Value>(signal: AbortSignal, make: () => Value): Promise<Value> {
  if (signal.aborted) throw abortedError(signal);
  return Promise.resolve(make());
}

function listed(objects: readonly MemoryObject[], prefix: string): readonly StoredObject[] {
  return objects
    .filter(({ key }) => key.startsWith(prefix))
    .toSorted((a, b) => Buffer.compare(Buffer.from(a.key), Buffer.from(b.key)))
    .map(({ key, bytes, modified, etag }) => ({ key, bytes, modified, etag }));
}

function withoutBody(object: MemoryObject | undefined): ObjectDetails | null {
  if (object === undefined) return null;
  const { key, bytes, modified, etag, metadata } = object;
  return { key, bytes, modified, etag, metadata };
}

function assertAbsent(objects: ReadonlyMap<string, MemoryObject>, key: string): void {
  if (objects.has(key)) throw new BackupError("ALREADY_ARCHIVED", `'${key}' is already in the container`);
}

async function readBody(
  body: Readable,
  { partBytes, onProgress }: PutOptions,
  limits: Container["limits"],
  signal: AbortSignal,
): Promise<Buffer> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  try {
    for await (const chunk of addAbortSignal(signal, body)) {
      if (!Buffer.isBuffer(chunk)) throw new BackupError("INTERNAL", "a body is not made of bytes");
      chunks.push(chunk);
      bytes += chunk.length;
      if (bytes > partBytes * limits.partsPerUpload) throw new BackupError("STREAM_TOO_LONG", "a body is too long");
    }
  } catch (error) {
    throw signal.aborted ? abortedError(signal) : error;
  }
  if (bytes === 0) throw new BackupError("INTERNAL", "there is nothing to store");
  onProgress?.({ stored: bytes, resumed: 0, inFlight: 0 });
  return Buffer.concat(chunks);
}

/** As a Swift before 2.36 stores what it must not overwrite: by a multipart upload, of one part too. */
function describe(body: Buffer, partBytes: number): Stored {
  const hasher = hashParts(partBytes);
  hasher.update(body);
  const parts = Math.max(1, Math.ceil(body.length / partBytes));
  const md5s = Array.from({ length: parts }, (_, at) => md5Of(body.subarray(at * partBytes, (at + 1) * partBytes)));
  return { bytes: body.length, etag: hasher.etag(), parts, md5s, resumedBytes: 0 };
}

function md5Of(part: Buffer): Buffer {
  return createHash("md5").update(part).digest();
}
