// The object `<key>/proof` beside an archive: a small JSON text with the MD5s of the parts as they were sent, and the
// archive's metadata. The ETag of an object in several parts says how it was uploaded, not what it holds: a copy made with
// other tools has another one, and may have lost its metadata. A restore never needs it.

import { isCount, isRecord, parseJson } from "./manifest.ts";
import type { Key } from "./model.ts";

/** What the stored bytes of an object were when they were sent. */
export interface PartDigests {
  readonly bytes: number;
  /** Where the parts end, all but the last. */
  readonly partBytes: number;
  /** Of each part, in hexadecimal. */
  readonly md5s: readonly string[];
}

export interface Proof extends PartDigests {
  /** Of the archive's object, by the names that {@link import("./key.ts").formatMetadata} gives. */
  readonly metadata: Readonly<Record<string, string>>;
}

/** Longer than one of 10 000 parts. */
export const MAX_PROOF_BYTES = 1024 * 1024;

export function formatProofKey(key: Key | string): string {
  return `${key}/proof`;
}

export function formatProof({ bytes, partBytes, md5s, metadata }: Proof): string {
  return `${JSON.stringify({ format: 1, bytes, partBytes, md5s, metadata }, null, 1)}\n`;
}

/** False when it was left by an archive of other metadata. A copy may have lost its metadata, in whole or in part. */
export function isProofOf(proof: Proof, metadata: Readonly<Record<string, string>>): boolean {
  return Object.entries(proof.metadata).every(([name, value]) => (metadata[name] ?? value) === value);
}

/** Null for anything that {@link formatProof} has not written: then there is no proof. */
export function parseProof(text: string): Proof | null {
  const parsed = parseJson(text);
  if (!isRecord(parsed) || parsed["format"] !== 1) return null;
  const { bytes, partBytes, md5s, metadata } = parsed;
  if (!isCount(bytes) || !isCount(partBytes) || !Array.isArray(md5s) || !isRecord(metadata)) return null;
  if (md5s.length !== Math.ceil(bytes / partBytes) || !md5s.every(isMd5)) return null;
  const texts = Object.entries(metadata).flatMap(([name, value]) =>
    typeof value === "string" ? [[name, value] as const] : [],
  );
  return { bytes, partBytes, md5s, metadata: Object.fromEntries(texts) };
}

function isMd5(value: unknown): value is string {
  return typeof value === "string" && /^[0-9a-f]{32}$/.test(value);
}
