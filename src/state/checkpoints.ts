// Notes about encrypted volumes: what was encrypted. Encrypted bytes differ each time, so nothing that is stored can tell
// a later run what it holds, and nothing that could is put there, for it would tell others as well. A note is about one
// object, by its ETag: it proves that this machine has stored just those bytes, and made them of just that piece. A volume
// without a note, or with a wrong one, is sent again; nothing else depends on them. Each note is a line that is appended,
// so that one which is torn or lost costs one volume.

import { createHash } from "node:crypto";
import { appendFile, readFile, rm } from "node:fs/promises";
import { join } from "node:path";
import { ensureDirectory } from "./own-directories.ts";

/** Of one stored volume. */
export interface Checkpoint {
  readonly key: string;
  readonly etag: string;
  readonly bytes: number;
  /** Of the parts that it was stored in, which need not be those of a later run. */
  readonly partBytes: number;
  /** Of the stored bytes, as the manifest has it. */
  readonly sha256: string;
  /** Of the piece of the send stream in it. */
  readonly plainSha256: string;
  /** For whom it was encrypted, and in which encoding. */
  readonly encodedFor: string;
}

/** Those of one archive. */
export interface Checkpoints {
  find(key: string): Checkpoint | null;
  /** Never fails: what cannot be noted will be sent again, should it come to that. */
  note(checkpoint: Checkpoint): Promise<void>;
  /** When the archive is whole. */
  forget(): Promise<void>;
}

/**
 * @param directory - null: nothing is noted and nothing known
 * @param archive - tells the archive from all others, of other containers too
 */
export async function openCheckpoints(directory: string | null, archive: string): Promise<Checkpoints> {
  const known = new Map<string, Checkpoint>();
  if (directory === null) return { find: () => null, note: () => Promise.resolve(), forget: () => Promise.resolve() };
  const file = join(directory, `${createHash("sha256").update(archive).digest("hex").slice(0, 32)}.json`);
  for (const checkpoint of await readCheckpoints(file)) known.set(checkpoint.key, checkpoint);
  return {
    find: (key) => known.get(key) ?? null,
    async note(checkpoint) {
      known.set(checkpoint.key, checkpoint);
      await ensureDirectory(directory, 0o700).catch(() => undefined);
      // It begins a line of its own even behind one that was torn.
      await appendFile(file, `\n${JSON.stringify(checkpoint)}\n`, { mode: 0o600 }).catch(() => undefined);
    },
    async forget() {
      known.clear();
      await rm(file, { force: true }).catch(() => undefined);
    },
  };
}

/** Of the same volume, the last note holds. Before, all notes were one line with a list of them. */
async function readCheckpoints(file: string): Promise<readonly Checkpoint[]> {
  const text = await readFile(file, "utf8").catch(() => "");
  return text.split("\n").flatMap(parseLine).filter(isCheckpoint);
}

function parseLine(line: string): readonly unknown[] {
  try {
    const parsed: unknown = JSON.parse(line);
    return Array.isArray(parsed) ? parsed : [parsed];
  } catch {
    return [];
  }
}

function isCheckpoint(value: unknown): value is Checkpoint {
  if (typeof value !== "object" || value === null) return false;
  const isA = (type: string, ...names: string[]): boolean =>
    names.every((name) => typeof Reflect.get(value, name) === type);
  return isA("number", "bytes", "partBytes") && isA("string", "key", "etag", "sha256", "plainSha256", "encodedFor");
}
