// Encodes a send stream before it is stored: compressed where that helps, then encrypted.

import { Readable } from "node:stream";
import { BackupError } from "../errors.ts";
import { isCompressed, isEncrypted, planEncoding, type EncodingCost, type EncodingOptions } from "../plan/encoding.ts";
import { encryptCommand, tryRecipients } from "../stream/age.ts";
import { takeHead } from "../stream/peek.ts";
import type { Pieces } from "../stream/pieces.ts";
import { fedBy, throughPrograms } from "../stream/pipeline.ts";
import type { Command } from "../stream/process.ts";
import { compressCommand, compressedBytes } from "../stream/zstd.ts";

/** The requested encoding, after a trial run of the programs. */
export interface PreparedEncoding extends RequestedEncoding {
  /** Length of the header that age writes for the recipients. */
  readonly headerBytes: number;
  /** Distinguishes these recipients from others; null without any. */
  readonly fingerprint: string | null;
  /** Null without recipients. */
  readonly encryptor: Command | null;
}

type RequestedEncoding = Pick<EncodingOptions, "recipients" | "zstdLevel">;

export const NOT_ENCODED: PreparedEncoding = {
  recipients: null,
  zstdLevel: null,
  headerBytes: 0,
  fingerprint: null,
  encryptor: null,
};

/** The encoding of one stream. */
export interface Encoder {
  readonly cost: EncodingCost;
  /** See {@link PreparedEncoding}; null when this stream is not encrypted. */
  readonly fingerprint: string | null;
  readonly programs: readonly Command[];
}

/** This much of a stream decides whether zstd helps. */
const SAMPLE_BYTES = 16 * 1024 * 1024;

/** Tries the programs that every stream will need. @throws CONFIG */
export async function tryEncoding(
  { recipients, zstdLevel }: RequestedEncoding,
  signal: AbortSignal,
): Promise<PreparedEncoding> {
  if (zstdLevel !== null) await compressedBytes(Buffer.alloc(0), zstdLevel, signal).catch(toConfig);
  if (recipients === null) return { ...NOT_ENCODED, zstdLevel };
  return { recipients, zstdLevel, ...(await tryRecipients(recipients, signal)), encryptor: encryptCommand(recipients) };
}

/** The encoding of every stream; null where it depends on the stream. */
export function plannedEncoder(options: PreparedEncoding): Encoder | null {
  return options.zstdLevel === null ? toEncoder(options, null) : null;
}

/**
 * Chooses the encoding of a stream by its beginning. Also returns the complete stream to read from then on. @throws as
 * the stream does
 */
export async function chooseEncoder(
  plain: Readable,
  options: PreparedEncoding,
  signal: AbortSignal,
): Promise<{ readonly encoder: Encoder; readonly plain: Readable }> {
  const { zstdLevel } = options;
  if (zstdLevel === null) return { encoder: toEncoder(options, null), plain };
  const { head, complete } = await takeHead(plain, SAMPLE_BYTES);
  try {
    const sample = { bytes: head.length, compressedBytes: await compressedBytes(head, zstdLevel, signal) };
    return { encoder: toEncoder(options, sample), plain: toStream(complete) };
  } catch (error) {
    complete.destroy();
    throw error;
  }
}

/** The same as a stream, which destroys the pieces when it is destroyed. They come from a stream, and stay valid. */
function toStream(pieces: Pieces): Readable {
  const stream = Readable.from(pieces, { objectMode: false });
  // A generator that waits for an idle source does not notice that it is destroyed.
  stream.once("close", () => pieces.destroy());
  return stream;
}

/** The encoded stream. */
export function encoded(plain: Readable, { programs }: Encoder, signal: AbortSignal): Readable {
  return programs.length === 0 ? plain : throughPrograms(programs, fedBy(plain), signal);
}

function toEncoder(options: PreparedEncoding, sample: Parameters<typeof planEncoding>[1]): Encoder {
  const { encryptor, zstdLevel, headerBytes, fingerprint } = options;
  const encoding = planEncoding({ encrypt: encryptor !== null, compress: zstdLevel !== null }, sample);
  const programs: Command[] = [];
  if (zstdLevel !== null && isCompressed(encoding)) programs.push(compressCommand(zstdLevel));
  if (encryptor !== null && isEncrypted(encoding)) programs.push(encryptor);
  return { cost: { encoding, headerBytes }, fingerprint, programs };
}

function toConfig(error: unknown): never {
  const config = error instanceof BackupError && error.code === "STEP_FAILED";
  throw config ? new BackupError("CONFIG", `streams cannot be compressed: ${error.message}`, { cause: error }) : error;
}
