// Opens the send stream that an archive holds.

import { Readable } from "node:stream";
import { BackupError, toError } from "../errors.ts";
import { isEncrypted } from "../plan/encoding.ts";
import type { Archive, Encoding } from "../plan/model.ts";
import { openPieces, through, type Pieces } from "../stream/pieces.ts";
import { concatenated, isOne, openObjects, type ArchiveObjects } from "./archive-body.ts";
import { decoded, encodingOf, type Layer } from "./decode.ts";
import type { Catalogue, Container } from "./store-ports.ts";
import type { Finding } from "../plan/finding.ts";

/** Where archives are read from, and what opens those that are encrypted. */
export interface Reading {
  readonly container: Container;
  /** Files with age identities. */
  readonly identities: readonly string[];
  /** Absent: the store is asked for everything. */
  readonly catalogue?: Catalogue | null;
  /** Called with messages for people. */
  readonly onFinding?: (finding: Finding) => void;
}

/** The beginning of the content of an archive. */
export interface DecodedHead {
  readonly bytes: Buffer;
  /** The encoding around it, as far as it could be taken off. */
  readonly encoding: Encoding;
  /** True when it is encrypted, and none of the identities that were given opens it. */
  readonly isRefused: boolean;
}

/** At most this much of a decoded beginning is kept: gigabytes of zeros compress to nearly nothing. */
const KEPT_BYTES = 64 * 1024;

/**
 * The send stream that an archive holds, decoded but not checked.
 * @param onBytes - called with the stored bytes read so far
 * @throws (as the stream's error, too) as {@link openObjects}, and IDENTITY_REFUSED, CONFIG
 */
export async function openStream(
  { container, identities }: Reading,
  archive: Archive,
  onBytes: (bytes: number) => void,
  signal: AbortSignal,
): Promise<Pieces> {
  assertDecodable(archive, identities);
  // Also ends what waits between two volumes.
  const stop = new AbortController();
  const until = AbortSignal.any([signal, stop.signal]);
  try {
    const objects = counted(await openObjects(archive, container, until), onBytes);
    const pieces = await decoded(objects, { identities, subject: subjectOf(archive) }, until);
    const destroy = (): void => {
      stop.abort();
      pieces.destroy();
    };
    return { [Symbol.asyncIterator]: () => pieces[Symbol.asyncIterator](), destroy };
  } catch (error) {
    stop.abort();
    throw error;
  }
}

/** The stored bytes of an archive. @param onBytes - called with those read so far @throws as {@link openObjects} */
export function openStored(
  { container }: Reading,
  archive: Archive,
  onBytes: (bytes: number) => void,
  signal: AbortSignal,
): Pieces {
  return openPieces(async function* (stop) {
    yield* concatenated(counted(await openObjects(archive, container, stop), onBytes));
  }, signal);
}

function counted(objects: ArchiveObjects, onBytes: (bytes: number) => void): ArchiveObjects {
  let read = 0;
  const count = (object: Pieces): Pieces =>
    through(object, async function* (pieces) {
      for await (const piece of pieces) {
        onBytes((read += piece.length));
        yield piece;
      }
    });
  return isOne(objects) ? [count(objects[0])] : mapped(objects, count);
}

/**
 * The first bytes of the send stream in an archive of which only the first bytes are at hand; empty when they cannot be
 * decoded.
 */
export async function decodeHead(
  head: Buffer,
  archive: Archive,
  identities: readonly string[],
  signal: AbortSignal,
): Promise<DecodedHead> {
  const layers: Layer[] = [];
  const onLayer = (layer: Layer): void => void layers.push(layer);
  const decoding = { identities, subject: subjectOf(archive), isCutOff: true, onLayer };
  const { bytes, error } = await decoded([Readable.from([head], { objectMode: false })], decoding, signal).then(
    takeBeginning,
    (thrown: unknown) => ({ bytes: Buffer.alloc(0), error: toError(thrown) }),
  );
  // A stream that is cut off does not end well. An archive that no identity opens shows nothing here; that is reported
  // where it matters.
  const code = error instanceof BackupError ? error.code : null;
  if (error !== null && code !== "ARCHIVE_DAMAGED" && code !== "IDENTITY_REFUSED") throw error;
  return { bytes, encoding: encodingOf(layers), isRefused: code === "IDENTITY_REFUSED" };
}

async function* mapped(objects: AsyncIterable<Pieces>, each: (object: Pieces) => Pieces): AsyncGenerator<Pieces> {
  for await (const object of objects) yield each(object);
}

/** The first bytes of a stream, which is then stopped, and the error if it failed before that. */
async function takeBeginning(stream: Pieces): Promise<{ readonly bytes: Buffer; readonly error: Error | null }> {
  const begun: Buffer[] = [];
  let length = 0;
  const beginning = (): Buffer => Buffer.concat(begun).subarray(0, KEPT_BYTES);
  try {
    for await (const piece of stream) {
      begun.push(Buffer.from(piece.subarray(0, KEPT_BYTES)));
      length += piece.length;
      if (length >= KEPT_BYTES) break;
    }
    return { bytes: beginning(), error: null };
  } catch (error) {
    return { bytes: beginning(), error: toError(error) };
  } finally {
    stream.destroy();
  }
}

/** @throws IDENTITY_REFUSED when this command line cannot decode it */
export function assertDecodable(archive: Archive, identities: readonly string[]): void {
  if (isEncrypted(archive.encoding) && identities.length === 0) throw identityMissing(archive, identities);
}

/** The error when none of the given identities opens an archive. */
export function identityMissing({ key, path }: Archive, identities: readonly string[]): BackupError {
  const reason = identities.length === 0 ? "is encrypted" : "is encrypted for somebody else: no identity opens it";
  return new BackupError("IDENTITY_REFUSED", `the archive of ${path} ${reason}`, {
    hint: "use --identity FILE with the key it was encrypted for",
    context: { key },
  });
}

/** How messages name an archive. */
export function subjectOf({ path }: Archive): string {
  return `the archive of ${path}`;
}

/** True when the given identities can decode it. */
export function isDecodable(archive: Archive, identities: readonly string[]): boolean {
  try {
    assertDecodable(archive, identities);
    return true;
  } catch {
    return false;
  }
}
