// Checkpoints of encrypted volumes: they record the plaintext that each volume was made of. Encrypted bytes differ each
// time, so the stored bytes cannot show a later run what they contain. The store holds nothing that could, because
// others could read it too. A checkpoint is about one object, by its ETag: it proves that this machine stored exactly
// those bytes, and made them of exactly that piece. A volume without a checkpoint, or with a wrong one, is sent again;
// nothing else depends on them. Each checkpoint is an appended line, so that a torn or lost one costs one volume.

import { createHash } from "node:crypto";
import { appendFile, readFile, rm } from "node:fs/promises";
import { join } from "node:path";
import { isRecord, parseJson } from "../json.ts";
import { ensureDirectory } from "./own-directories.ts";

/** The checkpoint of one stored volume. */
export interface Checkpoint {
  readonly key: string;
  readonly etag: string;
  readonly bytes: number;
  /** The size of the parts that it was stored in; a later run may use another size. */
  readonly partBytes: number;
  /** SHA-256 of the stored bytes, as in the manifest. */
  readonly sha256: string;
  /** SHA-256 of the piece of the send stream in it. */
  readonly plainSha256: string;
  /** The recipients it was encrypted for, and the encoding. */
  readonly encodedFor: string;
}

/** The checkpoints of one archive. */
export interface Checkpoints {
  find(key: string): Checkpoint | null;
  /** Never fails: a volume that cannot be recorded is sent again by a run that resumes. */
  record(checkpoint: Checkpoint): Promise<void>;
  /** Removes the checkpoints, when the archive is complete. */
  forget(): Promise<void>;
}

/**
 * @param directory - null: nothing is recorded and nothing known
 * @param archive - identifies the archive among all others, of other containers too
 */
export async function openCheckpoints(directory: string | null, archive: string): Promise<Checkpoints> {
  const known = new Map<string, Checkpoint>();
  if (directory === null) return { find: () => null, record: () => Promise.resolve(), forget: () => Promise.resolve() };
  const file = join(directory, `${createHash("sha256").update(archive).digest("hex").slice(0, 32)}.json`);
  for (const checkpoint of await readCheckpoints(file)) known.set(checkpoint.key, checkpoint);
  return {
    find: (key) => known.get(key) ?? null,
    async record(checkpoint) {
      known.set(checkpoint.key, checkpoint);
      await ensureDirectory(directory, 0o700).catch(() => undefined);
      // The leading newline begins a new line even after a torn one.
      await appendFile(file, `\n${JSON.stringify(checkpoint)}\n`, { mode: 0o600 }).catch(() => undefined);
    },
    async forget() {
      known.clear();
      await rm(file, { force: true }).catch(() => undefined);
    },
  };
}

/** The last checkpoint of a volume counts. Earlier versions wrote all of them in one line with a list. */
async function readCheckpoints(file: string): Promise<readonly Checkpoint[]> {
  const text = await readFile(file, "utf8").catch(() => "");
  return text.split("\n").flatMap(parseLine).filter(isCheckpoint);
}

function parseLine(line: string): readonly unknown[] {
  const parsed = parseJson(line);
  return Array.isArray(parsed) ? parsed : [parsed];
}

function isCheckpoint(value: unknown): value is Checkpoint {
  if (!isRecord(value)) return false;
  const isA = (type: string, ...names: string[]): boolean => names.every((name) => typeof value[name] === type);
  return isA("number", "bytes", "partBytes") && isA("string", "key", "etag", "sha256", "plainSha256", "encodedFor");
}
