// ETags as Swift's s3api makes them, to compare the bytes sent or read with those stored.

import { createHash } from "node:crypto";
import type { ObjectToRead } from "../operations/store-ports.ts";

type Digests = Exclude<NonNullable<ObjectToRead["digests"]>, string>;

/** An ETag in the making, fed with the body in pieces of any size. */
export interface EtagHasher {
  /** The size of the parts whose MD5s make it; null when it is made of the entire body. */
  readonly partBytes: number | null;
  update(chunk: Buffer): void;
  /** Ends the hashing. */
  etag(): string;
}

/** The ETag of an object that went up in one PUT: the MD5 of its bytes. */
export function hashObject(): EtagHasher {
  const hash = createHash("md5");
  return { partBytes: null, update: (chunk) => void hash.update(chunk), etag: () => hash.digest("hex") };
}

/** The ETag of a multipart object whose parts, all but the last, have `partBytes`. */
export function hashParts(partBytes: number): EtagHasher {
  const md5s: Buffer[] = [];
  let hash = createHash("md5");
  let room = partBytes;

  function update(chunk: Buffer): void {
    let rest = chunk;
    while (rest.length > 0) {
      // A part is closed only when a byte after it has come, so that the last one is never empty.
      if (room === 0) {
        md5s.push(hash.digest());
        hash = createHash("md5");
        room = partBytes;
      }
      const piece = rest.subarray(0, room);
      hash.update(piece);
      room -= piece.length;
      rest = rest.subarray(piece.length);
    }
  }
  return { partBytes, update, etag: () => multipartEtag([...md5s, hash.digest()]) };
}

/** Checks whether the bytes read are those stored. */
export interface ContentCheck {
  /** The size of the parts whose MD5s are all that it needs; null when it needs more. */
  readonly partBytes: number | null;
  update(chunk: Buffer): void;
  /**
   * Ends the check: null when all is well, else the ETag that was found.
   * @param md5s - those of the parts, where they were computed elsewhere and `update` was not called
   */
  mismatch(md5s?: readonly Buffer[]): string | null;
}

/**
 * Checks whether the bytes of an object are those that were stored. It uses the object's ETag where that can be
 * recomputed, or the MD5s of the parts as they were sent. An object that was copied in other parts has another ETag,
 * and proves itself by those MD5s. MD5s that an earlier object has left behind prove nothing against an ETag that is
 * right. Null when there is nothing to check with.
 */
export function contentCheck({ etag, bytes, digests }: ObjectToRead, partBytes: number | null): ContentCheck | null {
  if (digests === "by the reader") return null;
  const isAsSent = digests != null && digestsEtags(digests).includes(etag);
  // An object that was not copied needs one of the two.
  const ofEtag = hasherFor(etag, bytes, isAsSent ? digests.partBytes : partBytes);
  const ofParts = digests == null || isAsSent ? null : hashParts(digests.partBytes);
  if (ofEtag === null && ofParts === null) return null;
  return {
    partBytes: ofEtag === null || ofParts === null ? ((ofEtag ?? ofParts)?.partBytes ?? null) : null,
    update(chunk) {
      ofEtag?.update(chunk);
      ofParts?.update(chunk);
    },
    mismatch(md5s) {
      const etagOf = (hasher: EtagHasher | null): string | null =>
        hasher === null ? null : md5s === undefined ? hasher.etag() : multipartEtag(md5s);
      const found = etagOf(ofEtag);
      if (found === etag) return null;
      const parts = etagOf(ofParts);
      return parts !== null && digests != null && parts === partsEtag(digests) ? null : (found ?? parts);
    },
  };
}

/** The ETags that an object sent in these parts can have: one part can be an object in one piece, too. */
export function digestsEtags(digests: Digests): readonly string[] {
  const [only, ...more] = digests.md5s;
  return only !== undefined && more.length === 0 ? [only, partsEtag(digests)] : [partsEtag(digests)];
}

function partsEtag({ md5s }: Digests): string {
  return multipartEtag(md5s.map((md5) => Buffer.from(md5, "hex")));
}

/** Reads a body to its end; true when it has the size and the ETag of an object whose parts have `partBytes`. */
export async function bodyMatches(
  { etag, bytes }: { readonly etag: string; readonly bytes: number },
  partBytes: number,
  body: AsyncIterable<Buffer>,
): Promise<boolean> {
  const hasher = hasherFor(etag, bytes, partBytes);
  let read = 0;
  for await (const chunk of body) {
    read += chunk.length;
    hasher?.update(chunk);
  }
  return hasher !== null && read === bytes && hasher.etag() === etag;
}

/** As S3 has ETags in headers and listings: in quotes. */
export function unquoted(etag: string | undefined): string {
  return (etag ?? "").replaceAll('"', "");
}

/** S3's ETag of a multipart object, which Swift's s3api computes in the same way: MD5 of the parts' MD5s, `-`, their number. */
export function multipartEtag(md5s: readonly Buffer[]): string {
  return `${createHash("md5").update(Buffer.concat(md5s)).digest("hex")}-${String(md5s.length)}`;
}

/**
 * Recomputes this ETag from the body. Null when that cannot be done: the parts' borders are unknown or do not fit the
 * number of parts, or it is the ETag of a large object that was made natively (`<md5>-N` with the letter N).
 */
export function hasherFor(etag: string, bytes: number, partBytes: number | null): EtagHasher | null {
  if (/^[0-9a-f]{32}$/.test(etag)) return hashObject();
  const parts = /^[0-9a-f]{32}-([1-9]\d*)$/.exec(etag)?.[1];
  if (parts === "1") return hashParts(Math.max(1, bytes));
  if (parts === undefined || partBytes === null) return null;
  return Math.ceil(bytes / partBytes) === Number(parts) ? hashParts(partBytes) : null;
}
