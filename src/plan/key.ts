// Snapshot ⇄ object key, and archive ⇄ metadata headers: the writer of each stands beside its reader, so that they
// cannot drift apart. The format is described in FORMAT.md; readers accept everything ever written.

import {
  copiedBy,
  encodings,
  parentIdentityOf,
  parseUuid,
  streamIdentity,
  type Archive,
  type ChainSize,
  type Difference,
  type Encoding,
  type Identity,
  type Key,
  type Lineage,
  type SendProto,
  type Uuid,
} from "./model.ts";

/** The facts about an object by which plan/ recognizes an archive. Metadata names are lower case, without prefix. */
export interface ObjectFacts {
  readonly key: string;
  readonly bytes: number;
  readonly metadata: Readonly<Record<string, string>>;
  readonly modified?: Date;
  readonly etag?: string;
}

/** The replacement for `/`, four characters: a key never contains a slash. */
const SLASH = "\\x2f";

/**
 * Swift names a part `<key>/<48 characters>/<number>` and allows 1024 bytes: 970 for an upload of 1000 parts, less the
 * suffix of a volume.
 */
const MAX_KEY_BYTES = 960;

/**
 * Characters that XML 1.0 has no way to write, not even escaped. An upload with one in its key makes s3api fail (500)
 * when it is begun, and may do so in every listing of uploads from then on (Swift 2.30).
 */
const NOT_IN_XML = /[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\u{10000}-\u{10ffff}]/u;

const utf8 = new TextEncoder();

/** The prefix of every key of a source's archives. */
export function keyPrefix(source: Uuid): string {
  return source + SLASH;
}

/**
 * The key of a snapshot's archive, or the reason why no key can express its path.
 * @param path - relative to the top of the filesystem, without a leading slash
 */
export function formatKey(source: Uuid, path: string): { readonly key: Key } | { readonly refused: string } {
  if (path.includes(SLASH))
    return { refused: `its path contains the characters ${SLASH}, which stand for a slash in keys` };
  if (path.includes("\0")) return { refused: "its path contains a NUL character" };
  if (!path.isWellFormed()) return { refused: "its path is not valid UTF-8" };
  if (NOT_IN_XML.test(path)) return { refused: "its path contains a control character that no S3 listing can carry" };
  if (path === "") return { refused: "it is the top of its filesystem and has no path" };
  const key = keyPrefix(source) + path.replaceAll("/", SLASH);
  const bytes = utf8.encode(key).length;
  if (bytes > MAX_KEY_BYTES)
    return { refused: `its key would have ${bytes} bytes, and Swift takes at most ${MAX_KEY_BYTES}` };
  return { key: key as Key };
}

/** Null for a name that is not an archive's. */
export function parseKey(text: string): { readonly key: Key; readonly source: Uuid; readonly path: string } | null {
  const source = parseUuid(text.slice(0, 36));
  if (source === null || !text.startsWith(keyPrefix(source)) || text.includes("/")) return null;
  const path = text.slice(36 + SLASH.length).replaceAll(SLASH, "/");
  return path === "" ? null : { key: text as Key, source, path };
}

/** The facts about an upload in addition to the snapshots themselves. */
export interface UploadFacts {
  readonly encoding: Encoding;
  readonly sendProto: SendProto;
  readonly partBytes: number;
  /** Null = one object. */
  readonly volumes: { readonly count: number; readonly bytes: number } | null;
  /** Name and version of the writer. */
  readonly tool: string;
  /** The chain of the archive that it builds on; null for a full one, and when unknown. */
  readonly parentChain?: Pick<ChainSize, "length" | "bytes"> | null;
}

/** Formats the metadata of an archive: names without `x-amz-meta-`, ASCII values of at most 256 bytes. */
export function formatMetadata(difference: Difference, facts: UploadFacts): Record<string, string> {
  const { snapshot } = difference;
  const identity = streamIdentity(snapshot);
  const copied = copiedBy(snapshot);
  const parent = parentIdentityOf(difference);
  const path = percentEncode(snapshot.path);
  return {
    "btrfs-format": "1",
    "btrfs-uuid": identity.uuid,
    "btrfs-ctransid": String(identity.ctransid),
    ...(copied === null ? {} : { "btrfs-stransid": String(copied.ctransid) }),
    ...(parent === null
      ? {}
      : { "btrfs-send-parent-uuid": parent.uuid, "btrfs-send-parent-ctransid": String(parent.ctransid) }),
    ...(snapshot.source === null ? {} : { "btrfs-source-uuid": snapshot.source }),
    "btrfs-otime": formatTime(snapshot.otime),
    "btrfs-otransid": String(snapshot.otransid),
    ...(path.length > 256 ? {} : { "btrfs-path": path }),
    "btrfs-encoding": facts.encoding,
    "btrfs-send-proto": String(facts.sendProto),
    "btrfs-part-size": String(facts.partBytes),
    ...(facts.volumes === null
      ? {}
      : { "btrfs-volumes": String(facts.volumes.count), "btrfs-bytes": String(facts.volumes.bytes) }),
    ...formatChain(difference, facts.parentChain ?? null),
    "btrfs-tool": facts.tool,
  };
}

/** The bytes are those of the archives before it: its own size is known only when it is stored, and its object has it. */
function formatChain({ sendParent }: Difference, chain: UploadFacts["parentChain"] | null): Record<string, string> {
  const before = sendParent === null ? { length: 0, bytes: 0 } : chain;
  if (before == null) return {};
  const { length, bytes } = before;
  return {
    "btrfs-chain-length": String(length + 1),
    ...(bytes === null ? {} : { "btrfs-chain-bytes": String(bytes) }),
  };
}

/**
 * Parses an object as an archive; null when its key is not an archive's. Missing or unreadable metadata leaves
 * `lineage` null: an archive of the Python tool, or one whose metadata was lost.
 */
export function parseArchive(object: ObjectFacts): Archive | null {
  const name = parseKey(object.key);
  if (name === null) return null;
  const { metadata } = object;
  const encoding = encodings.find((known) => known === metadata["btrfs-encoding"]);
  const lineage = parseLineage(metadata);
  const stransid = parseCount(metadata["btrfs-stransid"]);
  const bytes = object.bytes === 0 ? 0 : (parseCount(metadata["btrfs-bytes"]) ?? object.bytes);
  const length = parseCount(metadata["btrfs-chain-length"]);
  const before = parseCount(metadata["btrfs-chain-bytes"]);
  return {
    ...name,
    bytes,
    volumes: parseCount(metadata["btrfs-volumes"]),
    lineage,
    ...(lineage === null || stransid === null ? {} : { copyOf: { uuid: lineage.snapshot.uuid, ctransid: stransid } }),
    otime: parseTime(metadata["btrfs-otime"]),
    otransid: parseCount(metadata["btrfs-otransid"]),
    stored: object.modified === undefined ? null : BigInt(object.modified.getTime()) * 1_000_000n,
    encoding: encoding ?? null,
    partBytes: parseCount(metadata["btrfs-part-size"]),
    etag: object.etag ?? null,
    ...(length === null || length === 0
      ? {}
      : { chain: { length, bytes: before === null ? null : before + bytes, began: null } }),
  };
}

function parseLineage(metadata: ObjectFacts["metadata"]): Lineage | null {
  if (metadata["btrfs-format"] !== "1") return null;
  const snapshot = parseIdentity(metadata["btrfs-uuid"], metadata["btrfs-ctransid"]);
  if (snapshot === null) return null;
  if (metadata["btrfs-send-parent-uuid"] === undefined) return { snapshot, sendParent: null };
  const sendParent = parseIdentity(metadata["btrfs-send-parent-uuid"], metadata["btrfs-send-parent-ctransid"]);
  return sendParent === null ? null : { snapshot, sendParent };
}

function parseIdentity(uuidText: string | undefined, ctransidText: string | undefined): Identity | null {
  const uuid = parseUuid(uuidText ?? "");
  const ctransid = parseCount(ctransidText);
  return uuid === null || ctransid === null ? null : { uuid, ctransid };
}

function parseCount(text: string | undefined): number | null {
  if (text === undefined || !/^\d+$/.test(text)) return null;
  const value = Number(text);
  return Number.isSafeInteger(value) ? value : null;
}

/** ISO 8601 in UTC with nanoseconds: `2026-11-23T03:00:00.123456789Z`. */
export function formatTime(nanoseconds: bigint): string {
  const fraction = ((nanoseconds % 1_000_000_000n) + 1_000_000_000n) % 1_000_000_000n;
  const seconds = (nanoseconds - fraction) / 1_000_000_000n;
  const date = new Date(Number(seconds) * 1000).toISOString();
  return date.replace(/\.000Z$/, `.${String(fraction).padStart(9, "0")}Z`);
}

function parseTime(text: string | undefined): bigint | null {
  const match = /^(.+T\d\d:\d\d:\d\d)\.(\d{9})Z$/.exec(text ?? "");
  if (match === null) return null;
  const milliseconds = Date.parse(`${match[1] ?? ""}Z`);
  return Number.isNaN(milliseconds) ? null : BigInt(milliseconds) * 1_000_000n + BigInt(match[2] ?? "0");
}

/** Leaves printable ASCII except `%` unchanged; everything else, and a space at either end, becomes `%XX`. */
function percentEncode(text: string): string {
  const encode = (part: string): string =>
    Array.from(utf8.encode(part), (byte) => `%${byte.toString(16).toUpperCase().padStart(2, "0")}`).join("");
  return text.replace(/[^\x20-\x7e]|%|^ | $/gu, encode);
}
