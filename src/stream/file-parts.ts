// The bytes of one file in a send stream: where they are, and where they go.

import type { RawExtent } from "../addon/tree.ts";

/** Bytes that are in the stream as they are. */
export interface PlainPart {
  readonly kind: "plain";
  /** Where they begin and end in the stream. */
  readonly start: number;
  readonly end: number;
  readonly extent: RawExtent;
}

/** Compressed data, of which any number of ranges go somewhere in the file. */
export interface EncodedPart {
  readonly kind: "encoded";
  readonly start: number;
  readonly end: number;
  readonly decoded: number;
  readonly compression: number;
  /** `skip`: position of the first byte in what is decoded. */
  readonly uses: { readonly skip: number; readonly length: number; readonly offset: number }[];
}

export type FilePart = PlainPart | EncodedPart;

/** A range of the stream that goes to `offset` of the file. */
export interface Copy {
  readonly position: number;
  readonly length: number;
  readonly offset: number;
}

/** Sorts the extents of a file by stream; those of each in the order in which they are read. */
export function sortExtents(extents: Iterable<RawExtent>): ReadonlyMap<number, readonly FilePart[]> {
  const byArchive = new Map<number, RawExtent[]>();
  for (const extent of extents) {
    const others = byArchive.get(extent.archive);
    if (others === undefined) byArchive.set(extent.archive, [extent]);
    else others.push(extent);
  }
  return new Map([...byArchive].map(([archive, each]) => [archive, toParts(each)]));
}

function toParts(extents: readonly RawExtent[]): readonly FilePart[] {
  const parts: FilePart[] = [];
  for (const extent of extents.toSorted((a, b) => a.position - b.position)) {
    const { position, stored, decoded, compression, skip, length, offset } = extent;
    const last = parts.at(-1);
    const use = { skip, length, offset };
    if (extent.kind !== "encoded") parts.push({ kind: "plain", ...spanOf(extent), extent });
    // A file that was changed in the middle, or has reflinks, uses several ranges of what was compressed as one.
    else if (last?.kind === "encoded" && last.start === position) last.uses.push(use);
    else parts.push({ kind: "encoded", start: position, end: position + stored, decoded, compression, uses: [use] });
  }
  return parts.sort((a, b) => a.start - b.start);
}

function spanOf({ position, length, piece, gap, skip }: RawExtent): { readonly start: number; readonly end: number } {
  if (piece === 0) return { start: position, end: position + length };
  const gaps = Math.ceil((skip + length) / piece) - 1;
  return { start: position + skip, end: position + skip + length + gaps * gap };
}

/** What there is of a plain part between two positions of the stream. */
export function* copiesBetween({ extent }: PlainPart, from: number, to: number): Generator<Copy, void> {
  const { position, length, offset, gap, skip } = extent;
  const piece = extent.piece === 0 ? skip + length : extent.piece;
  const begin = extent.piece === 0 ? position - skip : position;
  const stride = piece + gap;
  const last = Math.ceil((skip + length) / piece) - 1;
  for (let at = Math.max(0, Math.floor((from - begin) / stride)); at <= last; at++) {
    const inStream = begin + at * stride;
    if (inStream >= to) return;
    const first = Math.max(at * piece, skip, at * piece + from - inStream);
    const end = Math.min((at + 1) * piece, skip + length, at * piece + to - inStream);
    if (first < end)
      yield { position: inStream + first - at * piece, length: end - first, offset: offset + first - skip };
  }
}
