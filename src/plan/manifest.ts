// The object under the key of an archive that needs several: a small JSON text, stored last, that says which volumes make
// the body. It is the commit: volumes without one are leftovers.

import { BackupError } from "../errors.ts";
import type { Key } from "./model.ts";

/** One object of an archive that needs several. */
export interface Volume {
  readonly key: string;
  readonly bytes: number;
  /** As stored: see `Container.head`. */
  readonly etag: string;
  /** Of the volume's bytes, in hexadecimal. */
  readonly sha256: string;
  /** Where the parts of its multipart upload end. */
  readonly partBytes: number;
}

/** In order: the body is their concatenation. */
export type Manifest = readonly [Volume, ...Volume[]];

/** Longer than a manifest of 10 000 volumes. */
export const MAX_MANIFEST_BYTES = 16 * 1024 * 1024;

const VOLUME = /\/(\d{6})$/;

/** The key of the nth volume of an archive, from 1. No archive's key has a slash. */
export function formatVolumeKey(key: Key, number: number): string {
  return `${key}/${String(number).padStart(6, "0")}`;
}

/** The key of the archive that a volume belongs to; null for a key that is no volume's. */
export function archiveKeyOf(volumeKey: string): string | null {
  const match = VOLUME.exec(volumeKey);
  return match === null ? null : volumeKey.slice(0, match.index);
}

export function formatManifest(volumes: Manifest): string {
  const bytes = volumes.reduce((sum, volume) => sum + volume.bytes, 0);
  return `${JSON.stringify({ format: 1, bytes, volumes }, null, 1)}\n`;
}

/** @throws ARCHIVE_DAMAGED for anything that {@link formatManifest} did not write for this key */
export function parseManifest(text: string, key: Key): Manifest {
  const damaged = new BackupError("ARCHIVE_DAMAGED", `the list of volumes of ${key} is damaged`, { context: { key } });
  const parsed = parseJson(text);
  if (!isRecord(parsed) || parsed["format"] !== 1 || !Array.isArray(parsed["volumes"])) throw damaged;
  const volumes = parsed["volumes"].map((each: unknown, index) => parseVolume(each, formatVolumeKey(key, index + 1)));
  const [first, ...rest] = volumes.flatMap((volume) => volume ?? []);
  const whole = first === undefined ? 0 : rest.reduce((sum, volume) => sum + volume.bytes, first.bytes);
  if (first === undefined || rest.length + 1 !== volumes.length || whole !== parsed["bytes"]) throw damaged;
  return [first, ...rest];
}

function parseVolume(value: unknown, expectedKey: string): Volume | null {
  if (!isRecord(value)) return null;
  const { key, bytes, etag, sha256, partBytes } = value;
  if (key !== expectedKey || !isCount(bytes) || !isCount(partBytes)) return null;
  if (typeof etag !== "string" || typeof sha256 !== "string" || !/^[0-9a-f]{64}$/.test(sha256)) return null;
  return { key: expectedKey, bytes, etag, sha256, partBytes };
}

function isCount(value: unknown): value is number {
  return Number.isSafeInteger(value) && typeof value === "number" && value > 0;
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null;
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}
