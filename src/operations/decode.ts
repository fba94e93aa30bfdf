// Decodes an archive to its send stream. The first bytes show which encodings to remove; metadata can be lost, or
// wrong.

import { BackupError } from "../errors.ts";
import type { Encoding } from "../plan/model.ts";
import { isOne, type ArchiveObjects } from "./archive-body.ts";
import { AGE_MAGIC, decryptCommand } from "../stream/age.ts";
import { readDirectly } from "../stream/child-output.ts";
import { takeHead } from "../stream/peek.ts";
import type { Pieces } from "../stream/pieces.ts";
import { fedBy, throughPrograms } from "../stream/pipeline.ts";
import type { Command } from "../stream/process.ts";
import { decompressCommand, ZSTD_MAGIC } from "../stream/zstd.ts";

/** An encoding that one program removes. */
export type Layer = "age" | "zstd";

export interface Decoding {
  /** Files with age identities. */
  readonly identities: readonly string[];
  /** The subject of error messages. */
  readonly subject: string;
  /** Whether only the beginning is there: the bytes that were decoded before that ends count, too. */
  readonly isCutOff?: boolean;
  /** Called with each layer of the first object, the outermost first. */
  readonly onLayer?: (layer: Layer) => void;
}

/** Name of the encoding that consists of these layers. */
export function encodingOf(layers: readonly Layer[]): Encoding {
  if (!layers.includes("age")) return layers.includes("zstd") ? "zstd" : "identity";
  return layers.includes("zstd") ? "zstd+age" : "age";
}

/** Recognises a layer by its first bytes; null = nothing has to be removed. */
export function recogniseLayer(head: Buffer): Layer | null {
  const begins = (magic: string): boolean => head.subarray(0, magic.length).equals(Buffer.from(magic, "latin1"));
  if (begins(AGE_MAGIC)) return "age";
  return begins(ZSTD_MAGIC) ? "zstd" : null;
}

/**
 * The send stream in the objects of an archive, one after the other. The first of them begins like what it is; in the
 * others, which begin anywhere in the stream, the same layers are expected.
 * @throws the errors of the objects, IDENTITY_REFUSED, ARCHIVE_DAMAGED, CONFIG; as the error of the stream, too
 */
export async function decoded(objects: ArchiveObjects, decoding: Decoding, signal: AbortSignal): Promise<Pieces> {
  if (isOne(objects)) return (await openFirst(objects[0], decoding, signal)).stream;
  let current: Pieces | null = null;
  async function* pieces(volumes: AsyncIterable<Pieces>): AsyncGenerator<Buffer> {
    let layers: readonly Layer[] | null = null;
    for await (const volume of volumes) {
      current = volume;
      const opened: Opened =
        layers === null ? await openFirst(volume, decoding, signal) : openNext(volume, layers, { decoding, signal });
      layers = opened.layers;
      current = opened.stream;
      yield* opened.stream;
    }
  }
  const all = pieces(objects);
  return { [Symbol.asyncIterator]: () => all, destroy: () => current?.destroy() };
}

interface Opened {
  readonly stream: Pieces;
  readonly layers: readonly Layer[];
}

async function openFirst(object: Pieces, decoding: Decoding, signal: AbortSignal): Promise<Opened> {
  let stream = object;
  const layers: Layer[] = [];
  try {
    for (;;) {
      const { head, complete } = await takeHead(stream, AGE_MAGIC.length);
      stream = complete;
      const layer = recogniseLayer(head);
      // An archive is encrypted at most once, and then compressed at most once. Anything deeper is the stream itself,
      // which only looks encoded.
      if (layer === null || layers.at(-1) === layer || layers.at(-1) === "zstd") return { stream, layers };
      layers.push(layer);
      decoding.onLayer?.(layer);
      if (layer === "age" && decoding.identities.length === 0) throw encrypted(decoding);
      stream = outputOf([layer], stream, { decoding, signal });
    }
  } catch (error) {
    stream.destroy();
    throw error;
  }
}

interface DecodingContext {
  readonly decoding: Decoding;
  readonly signal: AbortSignal;
}

function openNext(object: Pieces, layers: readonly Layer[], context: DecodingContext): Opened {
  return { stream: layers.length === 0 ? object : outputOf(layers, object, context), layers };
}

function outputOf(layers: readonly Layer[], object: Pieces, { decoding, signal }: DecodingContext): Pieces {
  const commands = layers.map((layer) => commandOf(layer, decoding));
  const output = throughPrograms(commands, fedBy(object), signal);
  return decoding.isCutOff === true ? output : readDirectly(output);
}

function commandOf(layer: Layer, { identities, subject }: Decoding): Command {
  return layer === "age" ? decryptCommand(identities, subject) : decompressCommand(subject);
}

function encrypted({ subject }: Decoding): BackupError {
  return new BackupError("IDENTITY_REFUSED", `${subject} is encrypted`, {
    hint: "use --identity FILE with the key it was encrypted for",
  });
}
