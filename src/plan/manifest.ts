// The object under the key of an archive that needs several: a small JSON text, stored last, that lists the volumes of
// the body. It is the commit: volumes without one are leftovers.

import { BackupError } from "../errors.ts";
import { isCount, isRecord, parseJson } from "../json.ts";
import { sumBytes, type Key } from "./model.ts";

/** One object of an archive that needs several. */
export interface Volume {
  readonly key: string;
  readonly bytes: number;
  /** As stored: see `Container.head`. */
  readonly etag: string;
  /** SHA-256 of the volume's bytes, in hexadecimal. */
  readonly sha256: string;
  /** Where the parts of its multipart upload end. */
  readonly partBytes: number;
}

/** In order: the body is their concatenation. */
export type Manifest = readonly [Volume, ...Volume[]];

/** Readers refuse a longer one. */
export const MAX_MANIFEST_BYTES = 16 * 1024 * 1024;

const utf8 = new TextEncoder();

/** The objects beside an archive's own key: volumes, the proof of its bytes, its pin, and its replacement. */
const SIDE_OBJECT = /\/(\d{6}|proof|pin|replacement)$/;

/** The key of the nth volume of an archive, from 1. No archive's key has a slash. */
export function formatVolumeKey(key: Key, number: number): string {
  return `${key}/${String(number).padStart(6, "0")}`;
}

/** The number of a volume of an archive; null for any other key. */
export function volumeNumberOf(volumeKey: string): number | null {
  const number = /\/(\d{6})$/.exec(volumeKey)?.[1];
  return number === undefined ? null : Number(number);
}

/** The key of the archive that an object beside it belongs to; null for any other key. */
export function archiveKeyOf(sideKey: string): string | null {
  const match = SIDE_OBJECT.exec(sideKey);
  return match === null ? null : sideKey.slice(0, match.index);
}

/** @throws STREAM_TOO_LONG when readers would refuse its size; ARCHIVE_DAMAGED when they could not parse it */
export function formatManifest(volumes: Manifest, key: Key): string {
  const text = toText(volumes);
  if (byteLength(text) > MAX_MANIFEST_BYTES) throw tooManyVolumes(key);
  parseManifest(text, key);
  return text;
}

/** A safe number of volumes whose manifest stays within the limit. */
export function mostVolumes(key: Key): number {
  const longest: Volume = {
    key: formatVolumeKey(key, 999_999),
    bytes: Number.MAX_SAFE_INTEGER,
    etag: `${"0".repeat(32)}-10000`,
    sha256: "0".repeat(64),
    partBytes: Number.MAX_SAFE_INTEGER,
  };
  const one = byteLength(toText([longest]));
  return Math.floor((MAX_MANIFEST_BYTES - one) / (byteLength(toText([longest, longest])) - one));
}

export function tooManyVolumes(key: Key): BackupError {
  return new BackupError("STREAM_TOO_LONG", `${key} needs more volumes than a list of them can hold`, {
    hint: "use a larger --volume-size",
    context: { key },
  });
}

function toText(volumes: Manifest): string {
  return `${JSON.stringify({ format: 1, bytes: sumBytes(volumes), volumes }, null, 1)}\n`;
}

function byteLength(text: string): number {
  return utf8.encode(text).length;
}

/** @throws ARCHIVE_DAMAGED for anything that {@link formatManifest} did not write for this key */
export function parseManifest(text: string, key: Key): Manifest {
  const damaged = new BackupError("ARCHIVE_DAMAGED", `the list of volumes of ${key} is damaged`, { context: { key } });
  const parsed = parseJson(text);
  if (!isRecord(parsed) || parsed["format"] !== 1 || !Array.isArray(parsed["volumes"])) throw damaged;
  const given: readonly unknown[] = parsed["volumes"];
  const begins = firstNumberOf(given[0]);
  const volumes = given.map((each, index) => parseVolume(each, formatVolumeKey(key, begins + index)));
  const [first, ...rest] = volumes.flatMap((volume) => volume ?? []);
  const manifest = first === undefined || rest.length + 1 !== volumes.length ? null : ([first, ...rest] as const);
  if (manifest === null || sumBytes(manifest) !== parsed["bytes"]) throw damaged;
  return manifest;
}

/** So many bytes of a manifest name its first volume. */
export const MANIFEST_HEAD_BYTES = 4096;

/** The key of an archive's first volume, by the beginning of its manifest. */
export function firstVolumeIn(head: string, key: Key): string {
  const named = /"key":\s*("(?:[^"\\]|\\.)*")/.exec(head)?.[1];
  return formatVolumeKey(key, firstNumberOf({ key: named === undefined ? null : parseJson(named) }));
}

/** The volumes of an archive that replaces another one follow those of the other. */
function firstNumberOf(volume: unknown): number {
  const key = isRecord(volume) ? volume["key"] : null;
  return (typeof key === "string" ? volumeNumberOf(key) : null) ?? 1;
}

function parseVolume(value: unknown, expectedKey: string): Volume | null {
  if (!isRecord(value)) return null;
  const { key, bytes, etag, sha256, partBytes } = value;
  if (key !== expectedKey || !isCount(bytes, 1) || !isCount(partBytes, 1)) return null;
  if (typeof etag !== "string" || typeof sha256 !== "string" || !/^[0-9a-f]{64}$/.test(sha256)) return null;
  return { key: expectedKey, bytes, etag, sha256, partBytes };
}
