// Gets one file out of archives. Its bytes are collected in a file without a name, because streams have them in another
// order, and only what has passed every check is written out.

import type { Writable } from "node:stream";
import { abortedError, BackupError, describeWriteError, errnoOf, isBrokenPipe, toBackupError } from "../errors.ts";
import { displayPath, kindOf, type Entry } from "../plan/entry.ts";
import { sumBytes, type Archive } from "../plan/model.ts";
import type { ReadStep } from "../plan/reading.ts";
import { takeFileData, type FileSink } from "../stream/file-data.ts";
import { sortExtents, type FilePart } from "../stream/file-parts.ts";
import { writePieces } from "../stream/pieces.ts";
import { openWorkFile } from "../stream/unnamed-file.ts";
import { openChecked } from "./checked-archive.ts";
import { subjectOf } from "./read-archive.ts";
import type { Container } from "./store-ports.ts";
import { readTrees, type ArchiveTree, type TreeContext, type TreeWatcher } from "./trees.ts";

type Spool = Awaited<ReturnType<typeof openWorkFile>>;

/** A file of an archived snapshot. */
export interface FilePlace {
  /** How to read the snapshot's tree, the last of them. */
  readonly steps: readonly ReadStep[];
  /** Relative to the snapshot. */
  readonly path: string;
}

export interface DumpContext extends TreeContext {
  /** Where the file is put together. */
  readonly directory: string;
  readonly copying: CopyWatcher;
}

/** Watches the archives that are read once more, for their data. */
export interface CopyWatcher extends Pick<TreeWatcher, "onStart" | "onProgress"> {
  onPlan(archives: readonly Archive[], bytes: number): void;
  onEnd(): void;
}

/** The data of a file that an archive has. */
interface Needed {
  readonly step: ReadStep;
  readonly parts: readonly FilePart[];
}

interface FileToDump {
  readonly size: number;
  readonly needed: readonly Needed[];
}

/**
 * Reads a chain, then once more those of its archives that have data of the file, and writes the file.
 * @throws USAGE when there is no such file; any error of an archive, before anything is written; STEP_FAILED when the
 * file cannot be kept or written
 */
export async function dumpFile(
  place: FilePlace,
  context: DumpContext,
  sink: Writable,
  signal: AbortSignal,
): Promise<void> {
  const reading = { ...context.reading, container: unchanging(context.reading.container) };
  const steady = { ...context, reading };
  const file = await findFile(place, steady, signal);
  const spool = await openWorkFile(context.directory);
  try {
    await spool.truncate(file.size);
    await collect(file, { context: steady, spool }, signal);
    await writeOut(spool, file.size, sink, signal);
  } finally {
    await spool.close();
  }
}

async function findFile({ steps, path }: FilePlace, context: TreeContext, signal: AbortSignal): Promise<FileToDump> {
  const found: FileToDump[] = [];
  await readTrees(
    steps,
    { ...context, keeps: false },
    async (archive, tree) => void found.push(lookUp({ archive, path }, tree, steps)),
    signal,
  );
  const [file] = found;
  if (file === undefined) throw new TypeError("a chain without its last archive");
  return file;
}

function lookUp(
  { archive, path }: { readonly archive: Archive; readonly path: string },
  tree: ArchiveTree,
  steps: readonly ReadStep[],
): FileToDump {
  const entry = tree.find(path);
  if (entry === null) {
    throw new BackupError("USAGE", `there is no /${path} in ${archive.path}`, {
      hint: "use a path from the root of the snapshot, as `ls` shows it",
    });
  }
  assertFile(entry);
  const extents = [...tree.extents(entry.id)];
  const lost = extents.find(({ kind }) => kind === "nowhere");
  if (lost !== undefined) {
    const what = `${lost.length} bytes of ${displayPath(entry)}, from byte ${lost.offset} on,`;
    throw new BackupError("CHAIN_BROKEN", `${what} are neither in ${subjectOf(archive)} nor in one it builds on`, {
      hint: "`find` shows other versions of the file",
    });
  }
  const needed = [...sortExtents(extents)].toSorted(([a], [b]) => a - b);
  return {
    size: entry.size,
    needed: needed.flatMap(([number, parts]) => {
      const step = steps[number];
      return step === undefined ? [] : [{ step, parts }];
    }),
  };
}

function assertFile(entry: Entry): void {
  const kind = kindOf(entry);
  if (kind === "file") return;
  const path = displayPath(entry);
  const refuse = (what: string, hint: string): never => {
    throw new BackupError("USAGE", `${path} is ${what}, and only files can be dumped`, { hint });
  };
  if (kind === "directory") refuse("a directory", "use `ls` to see what is in it, or `restore` the snapshot");
  if (kind === "symlink") refuse(`a symbolic link to ${entry.target ?? ""}`, "use the path that it leads to");
  refuse("a special file", "use the path of a file");
}

async function collect(
  { needed }: FileToDump,
  { context, spool }: { readonly context: DumpContext; readonly spool: Spool },
  signal: AbortSignal,
): Promise<void> {
  const { reading, copying, directory } = context;
  const archives = needed.map(({ step }) => step.archive);
  copying.onPlan(archives, sumBytes(archives));
  for (const { step, parts } of needed) {
    const { archive, ancestors } = step;
    copying.onStart(archive);
    const link = { archive, parent: ancestors.at(-1) ?? null };
    const stream = await openChecked(link, reading, (bytes) => copying.onProgress(bytes), signal);
    await takeFileData(stream, parts, intoSpool(spool, { directory, subject: subjectOf(archive) }), signal);
    copying.onEnd();
  }
}

function intoSpool(spool: Spool, { directory, subject }: { directory: string; subject: string }): FileSink {
  return {
    subject,
    async write(bytes, offset) {
      try {
        for (let done = 0; done < bytes.length;)
          done += (await spool.write(bytes, done, bytes.length - done, offset + done)).bytesWritten;
      } catch (cause) {
        const full = errnoOf(cause) === "ENOSPC";
        throw new BackupError("STEP_FAILED", `cannot write to ${directory}: ${describeWriteError(cause)}`, {
          cause,
          hint: full ? "use --work-dir DIR with a directory that has room for the file" : undefined,
        });
      }
    },
  };
}

async function writeOut(spool: Spool, size: number, sink: Writable, signal: AbortSignal): Promise<void> {
  if (size === 0) return;
  const bytes = spool.createReadStream({ start: 0, end: size - 1, autoClose: false, highWaterMark: 1024 * 1024 });
  await writePieces(bytes, sink, signal).catch((error: unknown) => {
    if (signal.aborted) throw abortedError(signal);
    if (errnoOf(error) === null) throw toBackupError(error);
    const reason = isBrokenPipe(error) ? "its reader closed it before its end" : describeWriteError(error);
    throw new BackupError("STEP_FAILED", `the file was not written: ${reason}`, { cause: error });
  });
}

/** A container whose objects may not change between two looks: positions in a stream count for that stream only. */
function unchanging(container: Container): Container {
  const seen = new Map<string, string>();
  return {
    ...container,
    async head(key, signal) {
      const object = await container.head(key, signal);
      if (object === null) return null;
      const etag = seen.get(key) ?? object.etag;
      seen.set(key, etag);
      if (object.etag === etag) return object;
      throw new BackupError("ARCHIVE_MISSING", `the archive ${key} was replaced while it was read`, {
        hint: "run the command again",
        context: { key },
      });
    },
  };
}
