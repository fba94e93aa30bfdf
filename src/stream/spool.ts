// Keeps a complete stream on disk for a moment.

import { writeFile } from "node:fs/promises";
import type { Readable } from "node:stream";
import { BackupError, errnoOf } from "../errors.ts";
import { openWorkFile } from "./unnamed-file.ts";

/**
 * Keeps an entire stream on disk, then gives it back. The file (0600) has no name from the moment it exists. So it is
 * gone when the returned stream is closed and when this process ends, however it ends.
 * @throws CONFIG when the directory cannot be written, STEP_FAILED when it fills up, and any error of `source`
 */
export async function spool(source: Readable, directory: string): Promise<Readable> {
  const file = await openWorkFile(directory).catch((error: unknown) => {
    source.destroy();
    throw error;
  });
  try {
    await writeFile(file, source);
    return file.createReadStream({ start: 0, highWaterMark: 1024 * 1024 });
  } catch (error) {
    await file.close();
    throw toSpoolError(error, directory);
  }
}

function toSpoolError(error: unknown, directory: string): unknown {
  if (errnoOf(error) !== "ENOSPC") return error;
  return new BackupError("STEP_FAILED", `the work directory ${directory} is full`, {
    cause: error,
    hint: "without --work-dir nothing is kept on disk",
  });
}
