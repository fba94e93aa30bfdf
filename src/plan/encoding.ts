// Decides the encoding around a send stream, and how many bytes that encoding takes at most.

import type { Encoding } from "./model.ts";

/** How the streams of a run are to be encoded. */
export interface EncodingOptions {
  /** For whom: names, and files of names, as age takes them. Null = not encrypted. */
  readonly recipients: { readonly names: readonly string[]; readonly files: readonly string[] } | null;
  /** Null = not compressed. */
  readonly zstdLevel: number | null;
  readonly intent: EncryptionIntent;
}

/** The overhead of an encoding. */
export interface EncodingCost {
  readonly encoding: Encoding;
  /** Size of the header that age writes for the recipients; 0 without age. */
  readonly headerBytes: number;
}

/** Whether a run encrypts; "undecided": no recipient is named, and nobody has declined encryption. */
export type EncryptionIntent = "encrypt" | "declined" | "undecided";

/** The change that a run would make to the encryption of a subvolume's archives. */
export type EncryptionChange = "none" | "begun" | "dropped";

export const PLAIN: EncodingCost = { encoding: "identity", headerBytes: 0 };

/** Below this saving, a stream is left uncompressed. */
const LEAST_GAIN = 0.02;

/** age writes a nonce, and a tag with each 64 KiB. Plugins may write a longer header another time. */
const AGE_CHUNK_BYTES = 64 * 1024;
const AGE_TAG_BYTES = 16;
const AGE_NONCE_BYTES = 16;
const HEADER_MARGIN_BYTES = 512;

/** @param sample - the beginning of the stream, and its compressed size; null when nobody tried */
export function planEncoding(
  { encrypt, compress }: { readonly encrypt: boolean; readonly compress: boolean },
  sample: { readonly bytes: number; readonly compressedBytes: number } | null,
): Encoding {
  const shrinks = sample === null || sample.compressedBytes <= sample.bytes * (1 - LEAST_GAIN);
  if (compress && shrinks) return encrypt ? "zstd+age" : "zstd";
  return encrypt ? "age" : "identity";
}

export function isEncrypted(encoding: Encoding | null): boolean {
  return encoding === "age" || encoding === "zstd+age";
}

/** @param newest - the encoding of the subvolume's newest archives; null = unknown */
export function encryptionChange(intent: EncryptionIntent, newest: readonly (Encoding | null)[]): EncryptionChange {
  if (newest.some(isEncrypted)) return intent === "undecided" ? "dropped" : "none";
  const isReadable = newest.some((encoding) => encoding !== null);
  return intent === "encrypt" && isReadable ? "begun" : "none";
}

export function isCompressed(encoding: Encoding | null): boolean {
  return encoding === "zstd" || encoding === "zstd+age";
}

/** The upper bound of a stream's encoded size: exact for age but for the margin, and the bound that zstd guarantees. */
export function encodedBound(bytes: number, { encoding, headerBytes }: EncodingCost): number {
  const compressed = isCompressed(encoding) ? bytes + Math.ceil(bytes / 256) + 1024 : bytes;
  if (!isEncrypted(encoding)) return compressed;
  const chunks = Math.max(1, Math.ceil(compressed / AGE_CHUNK_BYTES));
  return headerBytes + HEADER_MARGIN_BYTES + AGE_NONCE_BYTES + compressed + chunks * AGE_TAG_BYTES;
}

/** The longest piece of a stream that surely fits this many bytes once it is encoded; at least 1. */
export function plainCapacity(bytes: number, cost: EncodingCost): number {
  let [fits, tooMany] = [1, bytes + 1];
  while (tooMany - fits > 1) {
    const middle = Math.floor((fits + tooMany) / 2);
    if (encodedBound(middle, cost) <= bytes) fits = middle;
    else tooMany = middle;
  }
  return fits;
}
