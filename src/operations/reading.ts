// From the body of an archive to the send stream that it is.

import { Readable } from "node:stream";
import { finished } from "node:stream/promises";
import { BackupError } from "../errors.ts";
import type { Archive } from "../plan/model.ts";
import { decrypted } from "../stream/age.ts";
import { observe } from "../stream/observe.ts";
import { openBody } from "./body.ts";
import type { Container } from "./edges.ts";

/** Where archives are read from, and what opens those that are encrypted. */
export interface Reading {
  readonly container: Container;
  /** Files with age identities. */
  readonly identities: readonly string[];
}

/**
 * The send stream that an archive holds, decoded but not checked.
 * @param onBytes - called with the stored bytes read so far
 * @throws as {@link openBody}, and IDENTITY_REFUSED, CONFIG
 */
export async function openStream(
  { container, identities }: Reading,
  archive: Archive,
  onBytes: (bytes: number) => void,
  signal: AbortSignal,
): Promise<Readable> {
  refuseUndecodable(archive, identities);
  const body = await openBody(archive, container, signal);
  let read = 0;
  observe(body, (piece) => {
    read += piece.length;
    onBytes(read);
  });
  return isEncrypted(archive) ? decrypted(body, { identities, subject: subjectOf(archive) }, signal) : body;
}

/** The first bytes of the send stream in an archive of which only the first bytes are at hand; empty when they say nothing. */
export async function decodeHead(
  head: Buffer,
  archive: Archive,
  identities: readonly string[],
  signal: AbortSignal,
): Promise<Buffer> {
  const stream = decrypted(Readable.from([head]), { identities, subject: subjectOf(archive) }, signal);
  const chunks: Buffer[] = [];
  // Taken as it comes: what a stream still holds when it fails is lost.
  stream.on("data", (chunk: Buffer) => chunks.push(chunk));
  try {
    await finished(stream);
  } catch (error) {
    // What is cut does not end well; and what no identity opens tells nothing here, which is said where it matters.
    const told = error instanceof BackupError && (error.code === "ARCHIVE_DAMAGED" || error.code === "IDENTITY_REFUSED");
    if (!told) throw error;
  }
  return Buffer.concat(chunks);
}

/** @throws IDENTITY_REFUSED, CONFIG when this version or this command line cannot decode it */
export function refuseUndecodable(archive: Archive, identities: readonly string[]): void {
  const { encoding, key, path } = archive;
  if (encoding === "zstd" || encoding === "zstd+age") {
    throw new BackupError("CONFIG", `the archive of ${path} is encoded with ${encoding}, which this version cannot decode`, {
      hint: "download it and pipe it through `age -d` or `zstd -d` into `btrfs receive -C`",
      context: { key },
    });
  }
  if (isEncrypted(archive) && identities.length === 0) throw identityMissing(archive, identities);
}

/** What to say when none of the identities that were given opens an archive. */
export function identityMissing({ key, path }: Archive, identities: readonly string[]): BackupError {
  const reason = identities.length === 0 ? "is encrypted" : "is encrypted for somebody else: no identity opens it";
  return new BackupError("IDENTITY_REFUSED", `the archive of ${path} ${reason}`, {
    hint: "say --identity FILE with the key it was encrypted for",
    context: { key },
  });
}

/** How messages name an archive. */
export function subjectOf({ path }: Archive): string {
  return `the archive of ${path}`;
}

/** True when this version can decode it with what it was given. */
export function isDecodable(archive: Archive, identities: readonly string[]): boolean {
  try {
    refuseUndecodable(archive, identities);
    return true;
  } catch {
    return false;
  }
}

function isEncrypted({ encoding }: Archive): boolean {
  return encoding === "age" || encoding === "zstd+age";
}
