// The object `<key>/proof` beside an archive: a small JSON text with the MD5s of the parts as they were sent, and the
// archive's metadata. The ETag of an object in several parts depends on how it was uploaded: a copy made with other
// tools has another one, and may have lost its metadata. A restore never needs the proof.

import { isCount, isRecord, parseJson, textsOf } from "../json.ts";
import type { Key } from "./model.ts";

/** The MD5s of an object's bytes, as they were sent. */
export interface PartDigests {
  readonly bytes: number;
  /** The size of all parts but the last. */
  readonly partBytes: number;
  /** One for each part, in hexadecimal. */
  readonly md5s: readonly string[];
}

export interface Proof extends PartDigests {
  /** The SHA-256 of the object's first {@link HEAD_BYTES}, in hexadecimal. */
  readonly head: string;
  /** The metadata of the archive's object, by the names that {@link import("./key.ts").formatMetadata} returns. */
  readonly metadata: Readonly<Record<string, string>>;
}

/**
 * The beginning of an object tells it from any other that was ever stored under its key, and survives every copy: it
 * holds the identity of the snapshot, or what age made by chance.
 */
export const HEAD_BYTES = 512;

/** Larger than a proof of 10 000 parts. */
export const MAX_PROOF_BYTES = 1024 * 1024;

export function formatProofKey(key: Key | string): string {
  return `${key}/proof`;
}

export function formatProof({ bytes, partBytes, md5s, head, metadata }: Proof): string {
  return `${JSON.stringify({ format: 1, bytes, partBytes, md5s, head, metadata }, null, 1)}\n`;
}

/** Null for anything that {@link formatProof} did not write: then there is no proof. */
export function parseProof(text: string): Proof | null {
  const parsed = parseJson(text);
  if (!isRecord(parsed) || parsed["format"] !== 1) return null;
  const { bytes, partBytes, md5s, head, metadata } = parsed;
  if (!isCount(bytes, 1) || !isCount(partBytes, 1) || !Array.isArray(md5s) || !isRecord(metadata)) return null;
  if (md5s.length !== Math.ceil(bytes / partBytes) || !md5s.every(isMd5)) return null;
  if (typeof head !== "string" || !/^[0-9a-f]{64}$/.test(head)) return null;
  return { bytes, partBytes, md5s, head, metadata: textsOf(metadata) };
}

function isMd5(value: unknown): value is string {
  return typeof value === "string" && /^[0-9a-f]{32}$/.test(value);
}
