// Files of JSON lines, each with a checksum, for data that stays on this machine between runs and can be lost without
// harm. The reader skips a line that is damaged, cut off or from another program, and only that line. The writer
// replaces a file in one step.

import { randomUUID } from "node:crypto";
import { constants } from "node:fs";
import { chmod, open, rename, rm } from "node:fs/promises";
import { dirname } from "node:path";
import { crc32 } from "node:zlib";
import { parseJson } from "../json.ts";
import { ensureDirectory } from "./own-directories.ts";

/** The values of all intact lines; none when there is no file, or it cannot be read. */
export async function readLines(file: string): Promise<unknown[]> {
  const text = await readOwn(file).catch(() => "");
  return text.split("\n").flatMap((line) => {
    const json = line.slice(9);
    return line[8] === " " && line.slice(0, 8) === checksum(json) ? (parseJson(json) ?? []) : [];
  });
}

/** Does not follow a link that somebody may have put there. */
async function readOwn(file: string): Promise<string> {
  const handle = await open(file, constants.O_RDONLY | constants.O_NOFOLLOW);
  try {
    return await handle.readFile("utf8");
  } finally {
    await handle.close();
  }
}

/** Creates the directory too, readable by nobody else. @throws what the filesystem reports */
export async function writeLines(file: string, values: readonly unknown[]): Promise<void> {
  const directory = dirname(file);
  if (await ensureDirectory(directory, 0o700)) await chmod(directory, 0o700);
  const temporary = `${file}.${randomUUID()}.tmp`;
  try {
    const handle = await open(temporary, "wx", 0o600);
    try {
      await handle.writeFile(values.map((value) => toLine(JSON.stringify(value))).join(""));
    } finally {
      await handle.close();
    }
    await rename(temporary, file);
  } catch (error) {
    await rm(temporary, { force: true });
    throw error;
  }
}

function toLine(json: string): string {
  return `${checksum(json)} ${json}\n`;
}

function checksum(json: string): string {
  return crc32(json).toString(16).padStart(8, "0");
}
