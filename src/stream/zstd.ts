// Compression, done by the program zstd(1).

import { Readable } from "node:stream";
import { BackupError } from "../errors.ts";
import { fedBy, throughPrograms } from "./pipeline.ts";
import type { Command, Exit } from "./process.ts";

/** The beginning of every frame that zstd writes. */
export const ZSTD_MAGIC = "\x28\xb5\x2f\xfd";

/** Compresses its input, on all processors; the output does not depend on how many there are. */
export function compressCommand(level: number): Command {
  const args = ["--compress", "--stdout", "--quiet", "--threads=0", `-${level}`];
  return { program: "zstd", args, failure: (ending) => toFailure("STEP_FAILED", "zstd", ending), begins: ZSTD_MAGIC };
}

/** Decompresses what it reads, and compares it with the checksum in it. */
export function decompressCommand(subject: string): Command {
  const failure = (ending: Exit): BackupError =>
    toFailure("ARCHIVE_DAMAGED", `${subject} is damaged: it cannot be decompressed: zstd`, ending);
  return { program: "zstd", args: ["--decompress", "--stdout", "--quiet"], failure };
}

/** The compressed size of a sample. @throws STEP_FAILED, CONFIG when zstd is not installed */
export async function compressedBytes(sample: Buffer, level: number, signal: AbortSignal): Promise<number> {
  let bytes = 0;
  const output = throughPrograms([compressCommand(level)], fedBy(Readable.from([sample])), signal);
  for await (const chunk of output) bytes += (chunk as Buffer).length;
  return bytes;
}

function toFailure(code: "STEP_FAILED" | "ARCHIVE_DAMAGED", what: string, { how, stderr }: Exit): BackupError {
  const said = /^zstd: (.*)$/m.exec(stderr)?.[1];
  return new BackupError(code, `${what} ${how}${said === undefined ? "" : `: ${said}`}`, { context: { stderr } });
}
