// Finds out what the ETag of an archive's object proves about its bytes, and whether the object was copied with other
// tools.

import type { Examined } from "./verify.ts";

/** An object as far as its ETag is concerned. */
type Stored = Pick<Examined, "archive" | "etag" | "listedBytes">;

/**
 * True when the ETag can be recomputed from the stored bytes. It cannot for a native large object, nor for an object
 * that was copied in parts of another size. Volumes have checksums of their own.
 */
export function hasChecksum(examined: Stored): boolean {
  const { etag, archive } = examined;
  if (archive.volumes !== null) return true;
  if (isMd5(etag)) return !isDynamicLarge(examined);
  return partsOf(etag) !== null && !hasOtherParts(examined);
}

/**
 * True for an object that `swift upload` made of segments by their common prefix: a copy. Its ETag looks like an MD5 of
 * the content and is another; listings show it as empty.
 */
export function isDynamicLarge({ etag, archive, listedBytes }: Stored): boolean {
  return isMd5(etag) && archive.volumes === null && archive.bytes > 0 && listedBytes === 0;
}

function isMd5(etag: string): boolean {
  return /^[0-9a-f]{32}$/.test(etag);
}

/**
 * True for an object that is stored in another number of parts than it was sent in, or that has lost the metadata about
 * it: a copy, made with other tools.
 */
export function hasOtherParts({ etag, archive }: Pick<Examined, "etag" | "archive">): boolean {
  const { bytes, volumes, partBytes } = archive;
  const parts = partsOf(etag);
  return volumes === null && parts !== null && (partBytes === null || Math.ceil(bytes / partBytes) !== parts);
}

/** Null for an object in one piece, and for a native large object. */
function partsOf(etag: string): number | null {
  const parts = /^[0-9a-f]{32}-(\d+)$/.exec(etag)?.[1];
  return parts === undefined ? null : Number(parts);
}
