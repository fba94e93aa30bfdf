// Compression, done by the program zstd(1).

import { Readable } from "node:stream";
import { BackupError } from "../errors.ts";
import { fedBy, throughPrograms } from "./pipeline.ts";
import { describeExit, type Exit } from "./exit.ts";
import type { Command } from "./process.ts";

/** The beginning of every frame that zstd writes. */
export const ZSTD_MAGIC = "\x28\xb5\x2f\xfd";

/** Compresses its input, on all processors; the output does not depend on their number. */
export function compressCommand(level: number): Command {
  const args = ["--compress", "--stdout", "--quiet", "--threads=0", `-${level}`];
  return { program: "zstd", args, failure: (exit) => toFailure("STEP_FAILED", "zstd", exit), begins: ZSTD_MAGIC };
}

/** Decompresses what it reads, and compares it with the checksum in it. */
export function decompressCommand(subject: string): Command {
  const failure = (exit: Exit): BackupError =>
    toFailure("ARCHIVE_DAMAGED", `${subject} is damaged: it cannot be decompressed: zstd`, exit);
  return { program: "zstd", args: ["--decompress", "--stdout", "--quiet"], failure };
}

/** The compressed size of a sample. @throws STEP_FAILED, CONFIG when zstd is not installed */
export async function compressedBytes(sample: Buffer, level: number, signal: AbortSignal): Promise<number> {
  let bytes = 0;
  const output = throughPrograms([compressCommand(level)], fedBy(Readable.from([sample])), signal);
  for await (const chunk of output) bytes += (chunk as Buffer).length;
  return bytes;
}

function toFailure(code: "STEP_FAILED" | "ARCHIVE_DAMAGED", what: string, exit: Exit): BackupError {
  const { stderr } = exit;
  const message = /^zstd: (.*)$/m.exec(stderr)?.[1];
  return new BackupError(code, `${what} ${describeExit(exit)}${message === undefined ? "" : `: ${message}`}`, {
    context: { stderr },
  });
}
