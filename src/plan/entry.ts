// The entries of a snapshot's tree: what kind they are, when they were changed, how two of them differ, as programs and
// people write it.

import { formatTime } from "./key.ts";

/** A time of a file, which can be further away than any date. */
export interface FileTime {
  readonly seconds: number;
  readonly nanoseconds: number;
}

/** The attributes of a file. */
export interface Inode {
  /** With the type, as stat(2) has it. */
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly links: number;
  readonly size: number;
  readonly device: number;
  readonly atime: FileTime;
  readonly mtime: FileTime;
  readonly ctime: FileTime;
  /** Null where the stream does not have it. */
  readonly otime: FileTime | null;
}

/** A path in a snapshot. */
export interface Named {
  /** Relative to the snapshot, whose root is empty. */
  readonly path: string;
  /** In bytes, where it is not UTF-8; else null. */
  readonly rawPath: Uint8Array | null;
}

export interface Entry extends Inode, Named {
  /** The same for all names of one file. */
  readonly id: number;
  /** Of a symbolic link; else null. */
  readonly target: string | null;
  readonly rawTarget?: Uint8Array | null;
}

/** A path at which two trees differ; null = there is nothing. */
export interface Change extends Named {
  readonly before: Inode | null;
  readonly after: Inode | null;
  readonly type: boolean;
  readonly content: boolean;
  readonly metadata: boolean;
}

export const entryKinds = {
  0o010000: "fifo",
  0o020000: "character",
  0o040000: "directory",
  0o060000: "block",
  0o100000: "file",
  0o120000: "symlink",
  0o140000: "socket",
} as const;

export type EntryKind = (typeof entryKinds)[keyof typeof entryKinds];

const letters: Readonly<Record<EntryKind, string>> = {
  fifo: "p",
  character: "c",
  directory: "d",
  block: "b",
  file: "-",
  symlink: "l",
  socket: "s",
};

export function kindOf({ mode }: Pick<Inode, "mode">): EntryKind {
  const kinds: Readonly<Record<number, EntryKind>> = entryKinds;
  return kinds[mode & 0o170000] ?? "file";
}

export function isDevice(inode: Pick<Inode, "mode">): boolean {
  return ["character", "block"].includes(kindOf(inode));
}

/** As `ls -l` writes it: `drwxr-xr-x`. */
export function formatMode(inode: Pick<Inode, "mode">): string {
  const { mode } = inode;
  const triple = (shift: number, special: number, letter: string): string => {
    const bits = mode >> shift;
    const executable = (bits & 1) !== 0;
    const last = (mode & special) === 0 ? (executable ? "x" : "-") : executable ? letter : letter.toUpperCase();
    return `${(bits & 4) === 0 ? "-" : "r"}${(bits & 2) === 0 ? "-" : "w"}${last}`;
  };
  return letters[kindOf(inode)] + triple(6, 0o4000, "s") + triple(3, 0o2000, "s") + triple(0, 0o1000, "t");
}

/** Major and minor number, as Linux joins them. */
export function splitDevice(device: number): { readonly major: number; readonly minor: number } {
  return { major: (device >>> 8) & 0xfff, minor: (device & 0xff) | ((device >>> 12) & 0xfff00) };
}

/** The days that a date can be away from 1970. */
const FARTHEST_SECONDS = 8_640_000_000_000;

export function toNanoseconds({ seconds, nanoseconds }: FileTime): bigint {
  return BigInt(seconds) * 1_000_000_000n + BigInt(nanoseconds);
}

/** ISO 8601 to the nanosecond; null where no date is so far away. */
export function formatFileTime(time: FileTime): string | null {
  return Math.abs(time.seconds) >= FARTHEST_SECONDS ? null : formatTime(toNanoseconds(time));
}

/** The path from the root of the snapshot; bytes that are not UTF-8 as `\xNN`. */
export function displayPath({ path, rawPath }: Named): string {
  return `/${displayBytes(path, rawPath)}`;
}

/** A text, or where it is only an approximation, its bytes: those that are not ASCII as `\xNN`. */
export function displayBytes(text: string, raw: Uint8Array | null): string {
  if (raw === null) return text;
  const show = (byte: number): string =>
    byte < 0x80 ? String.fromCharCode(byte) : `\\x${byte.toString(16).padStart(2, "0")}`;
  return Array.from(raw, show).join("");
}

/** restic's signs: `+` added, `-` removed, `T` another type, `M` another content, `U` other attributes. */
export type Mark = "+" | "-" | "T" | "M" | "U";

export function markOf({ before, after, type, content }: Change): Mark {
  if (before === null) return "+";
  if (after === null) return "-";
  if (type) return "T";
  return content ? "M" : "U";
}

/** Counts of a comparison. */
export interface ChangeCounts {
  readonly added: number;
  readonly removed: number;
  /** Those with another type or content. */
  readonly changed: number;
  /** Those with other attributes only. */
  readonly metadata: number;
  /** Bytes of the files that were added or changed, as they are after it. */
  readonly bytesAdded: number;
  /** Bytes of the files that were removed or changed, as they were before it. */
  readonly bytesRemoved: number;
}

export const noChanges: ChangeCounts = {
  added: 0,
  removed: 0,
  changed: 0,
  metadata: 0,
  bytesAdded: 0,
  bytesRemoved: 0,
};

export function countChange(counts: ChangeCounts, change: Change): ChangeCounts {
  const mark = markOf(change);
  const sizeOf = (inode: Inode | null): number =>
    mark === "U" || inode === null || kindOf(inode) !== "file" ? 0 : inode.size;
  const { added, removed, changed, metadata, bytesAdded, bytesRemoved } = counts;
  return {
    added: added + Number(mark === "+"),
    removed: removed + Number(mark === "-"),
    changed: changed + Number(mark === "T" || mark === "M"),
    metadata: metadata + Number(mark === "U"),
    bytesAdded: bytesAdded + sizeOf(change.after),
    bytesRemoved: bytesRemoved + sizeOf(change.before),
  };
}
