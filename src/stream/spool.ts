import { writeFile } from "node:fs/promises";
import type { Readable } from "node:stream";
import { BackupError } from "../errors.ts";
import { openNameless } from "./nameless.ts";

/**
 * Keeps a whole stream on disk, then gives it back. The file (0600) has no name from the moment it exists, so it is
 * gone when the returned stream is closed and when this process ends, however it ends.
 * @throws CONFIG when the directory cannot be written, STEP_FAILED when it fills up, and whatever `source` fails with
 */
export async function spool(source: Readable, directory: string): Promise<Readable> {
  const file = await openNameless(directory).catch((error: unknown) => {
    source.destroy();
    throw toOpenError(error, directory);
  });
  try {
    await writeFile(file, source);
    return file.createReadStream({ start: 0, highWaterMark: 1024 * 1024 });
  } catch (error) {
    await file.close();
    throw toSpoolError(error, directory);
  }
}

function toOpenError(cause: unknown, directory: string): BackupError {
  return new BackupError("CONFIG", `cannot write to the work directory ${directory}: ${describe(cause)}`, {
    cause,
    hint: "name an existing directory with --work-dir",
  });
}

function toSpoolError(error: unknown, directory: string): unknown {
  if (!(error instanceof Error) || !("code" in error) || error.code !== "ENOSPC") return error;
  return new BackupError("STEP_FAILED", `the work directory ${directory} is full`, {
    cause: error,
    hint: "without --work-dir nothing is kept on disk",
  });
}

function describe(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
