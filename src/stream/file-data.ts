// Takes the data of one file out of a send stream, in the order of the stream.

import { decompressCommand } from "./zstd.ts";
import { decode, readZstdFrame, roomFor, ZSTD } from "./encoded-data.ts";
import { copiesBetween, type EncodedPart, type FilePart, type PlainPart } from "./file-parts.ts";
import { through, type Pieces } from "./pieces.ts";
import { fedBy, throughPrograms } from "./pipeline.ts";
import { toDamage } from "./stream-damage.ts";

/** Where the data go. */
export interface FileSink {
  /** The subject of error messages. */
  readonly subject: string;
  write(bytes: Uint8Array, offset: number): Promise<void>;
}

/** No command is longer: what lies so far behind a byte, in a checked stream, proves the checksum of its command. */
const LONGEST_COMMAND = 192 * 1024;

/** A frame that zstd decodes. */
interface Pending {
  readonly part: EncodedPart;
  readonly holds: number;
}

/**
 * Writes the parts of a file that a checked stream holds, and reads no further than needed to know that they are good.
 * @throws ARCHIVE_DAMAGED, CONFIG when zstd is needed and missing, any error of the stream and the sink
 */
export async function takeFileData(
  stream: Pieces,
  parts: readonly FilePart[],
  sink: FileSink,
  signal: AbortSignal,
): Promise<void> {
  const pending: Pending[] = [];
  const frames = through(stream, (pieces) => passFrames(pieces, parts, { sink, pending }));
  try {
    if (parts.some((part) => isZstd(part))) {
      const output = throughPrograms([decompressCommand(sink.subject)], fedBy(frames), signal);
      await writeFrames(output, pending, sink);
    } else {
      for await (const frame of frames) throw new TypeError(`${frame.length} bytes for zstd, which nobody announced`);
    }
  } finally {
    stream.destroy();
  }
}

function isZstd(part: FilePart): boolean {
  return part.kind === "encoded" && part.compression === ZSTD;
}

interface Passing {
  readonly sink: FileSink;
  readonly pending: Pending[];
}

/** A part that has begun: what there is of compressed data. */
interface Open {
  readonly part: FilePart;
  readonly memory: Buffer;
}

/** Writes everything but what zstd has to decode, whose frames come out. */
async function* passFrames(
  stream: Pieces,
  parts: readonly FilePart[],
  { sink, pending }: Passing,
): AsyncGenerator<Buffer> {
  const enough = parts.reduce((most, { end }) => Math.max(most, end), 0) + LONGEST_COMMAND;
  let next = 0;
  let open: Open[] = [];
  let from = 0;
  for await (const piece of stream) {
    const to = from + piece.length;
    for (let part = parts[next]; part !== undefined && part.start < to; part = parts[++next])
      open.push({ part, memory: Buffer.alloc(part.kind === "encoded" ? part.end - part.start : 0) });
    for (const { part, memory } of open) {
      if (part.kind === "plain") await writePlain(part, { piece, from }, sink);
      else {
        const begin = Math.max(from, part.start);
        piece.copy(memory, begin - part.start, begin - from, part.end - from);
        if (part.end <= to) yield* await takeEncoded(part, memory, { sink, pending });
      }
    }
    open = open.filter(({ part }) => part.end > to);
    from = to;
    if (from >= enough) return;
  }
}

async function writePlain(
  part: PlainPart,
  { piece, from }: { readonly piece: Buffer; readonly from: number },
  sink: FileSink,
): Promise<void> {
  for (const { position, length, offset } of copiesBetween(part, from, from + piece.length))
    await sink.write(piece.subarray(position - from, position - from + length), offset);
}

/** Writes what it can decode here; the rest is for zstd. */
async function takeEncoded(part: EncodedPart, bytes: Buffer, { sink, pending }: Passing): Promise<readonly Buffer[]> {
  if (part.compression !== ZSTD) {
    await writeUses(
      part,
      asDamage(sink, () => decode({ ...part, bytes })),
      sink,
    );
    return [];
  }
  const { frame, holds } = asDamage(sink, () => readZstdFrame(bytes));
  if (holds > part.decoded) throw damaged(sink, "zstd data hold more than they should");
  pending.push({ part, holds });
  return [frame];
}

/** Writes what zstd makes of the frames, which follow each other. */
async function writeFrames(output: AsyncIterable<unknown>, pending: Pending[], sink: FileSink): Promise<void> {
  let filled = 0;
  let room: Buffer | null = null;
  for await (const chunk of output) {
    const bytes = chunk as Buffer;
    for (let at = 0; at < bytes.length;) {
      const frame = pending[0];
      if (frame === undefined) throw damaged(sink, "zstd data hold more than they should");
      room ??= asDamage(sink, () => roomFor(frame.part));
      const taken = bytes.copy(room, filled, at, at + frame.holds - filled);
      at += taken;
      filled += taken;
      if (filled < frame.holds) continue;
      await writeUses(frame.part, room, sink);
      pending.shift();
      room = null;
      filled = 0;
    }
  }
  // What holds nothing brings no output.
  for (const { part, holds } of pending) {
    if (holds > filled) throw damaged(sink, "zstd data hold less than they should");
    await writeUses(
      part,
      asDamage(sink, () => roomFor(part)),
      sink,
    );
  }
}

async function writeUses({ uses }: EncodedPart, decoded: Buffer, sink: FileSink): Promise<void> {
  for (const { skip, length, offset } of uses) await sink.write(decoded.subarray(skip, skip + length), offset);
}

function asDamage<Result>({ subject }: FileSink, decodes: () => Result): Result {
  try {
    return decodes();
  } catch (error) {
    throw toDamage(error, { code: "ARCHIVE_DAMAGED", subject });
  }
}

function damaged({ subject }: FileSink, problem: string): Error {
  return toDamage(new Error(problem), { code: "ARCHIVE_DAMAGED", subject });
}
