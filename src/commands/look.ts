// What the commands have in common that look into archives: progress, doubts, and entries for programs and people.

import { totalmem } from "node:os";
import { setImmediate } from "node:timers/promises";
import type { TreeContext, TreeWatcher, Unread } from "../operations/trees.ts";
import type { Reading } from "../operations/read-archive.ts";
import {
  displayBytes,
  displayPath,
  formatFileTime,
  formatMode,
  isDevice,
  kindOf,
  splitDevice,
  toNanoseconds,
  type Entry,
  type Inode,
  type Named,
} from "../plan/entry.ts";
import { formatTime } from "../plan/key.ts";
import { sumBytes, type Archive } from "../plan/model.ts";
import type { ReadStep } from "../plan/reading.ts";
import { count, formatDate, printable } from "../terminal/format.ts";
import type { Session } from "./session.ts";

/** A run in which archives become trees. */
export interface Looking {
  readonly context: TreeContext;
  /** 14 if a stream broke the rules, so that btrfs would not receive it; else 0. */
  exitCode(): number;
}

/** Shows progress, and warns of streams that break the rules. */
export function openLooking(steps: readonly ReadStep[], reading: Reading, session: Session): Looking {
  const { log, progress } = session;
  let troubled = 0;
  progress.expect(steps.length, sumBytes(steps.map(({ archive }) => archive)));
  const watcher: TreeWatcher = {
    onStart: ({ path, bytes }) => progress.start(printable(path), bytes),
    onProgress: (bytes) => progress.update(bytes),
    onEnd: ({ path }, { problems }) => {
      progress.stop();
      if (problems.count === 0) return;
      troubled++;
      const commands = count(problems.count, "command");
      log.warn(
        `${path}: ${commands} of its stream cannot be carried out, so its tree is in doubt: ${problems.sentences[0] ?? ""}`,
      );
      for (const sentence of problems.sentences.slice(1)) log.debug(sentence);
    },
  };
  // Half of the memory, so that the machine can still do something else.
  const mostMemory = totalmem() / 2;
  return { context: { reading, watcher, mostMemory }, exitCode: () => (troubled > 0 ? 14 : 0) };
}

/** Goes through batches, and lets others have their turn between them. @throws ABORTED */
export async function eachBatch<Item>(
  batches: Generator<readonly Item[], number>,
  take: (item: Item) => void,
  { signal, log }: Pick<Session, "signal" | "log">,
): Promise<void> {
  for (;;) {
    const { value, done } = batches.next();
    if (done === true) {
      if (value > 0) log.warn(`${count(value, "directory")} left out: no path is so long`);
      return;
    }
    for (const item of value) take(item);
    await setImmediate();
    signal.throwIfAborted();
  }
}

/** An archive for programs. */
export function archiveRecord({ key, path, lineage, otime }: Archive): Readonly<Record<string, unknown>> {
  return { key, path, uuid: lineage?.snapshot.uuid ?? null, otime: otime === null ? null : formatTime(otime) };
}

/** Archives that could not be read, for programs. */
export function unreadRecord({ archive, error }: Unread): Readonly<Record<string, unknown>> {
  return { ...archiveRecord(archive), code: error.code, message: error.message };
}

/** A path for programs: as text, and where that is only an approximation, as bytes. */
export function pathRecord({ path, rawPath }: Named): Readonly<Record<string, unknown>> {
  return { path: `/${path}`, ...(rawPath === null ? {} : { pathBytes: toBase64("/", rawPath) }) };
}

/** The attributes of a file for programs. */
export function inodeRecord(inode: Inode): Readonly<Record<string, unknown>> {
  const { mode, uid, gid, links, size, mtime, ctime, atime, otime, device } = inode;
  return {
    kind: kindOf(inode),
    mode,
    permissions: formatMode(inode),
    uid,
    gid,
    links,
    size,
    mtime: formatFileTime(mtime),
    atime: formatFileTime(atime),
    ctime: formatFileTime(ctime),
    created: otime === null ? null : formatFileTime(otime),
    ...(isDevice(inode) ? { device: splitDevice(device) } : {}),
  };
}

/** An entry for programs. */
export function entryRecord(entry: Entry): Readonly<Record<string, unknown>> {
  const { target, rawTarget = null, id } = entry;
  return {
    ...pathRecord(entry),
    ...inodeRecord(entry),
    id,
    ...(target === null ? {} : { target }),
    ...(rawTarget === null ? {} : { targetBytes: toBase64("", rawTarget) }),
  };
}

function toBase64(before: string, bytes: Uint8Array): string {
  return Buffer.concat([Buffer.from(before), bytes]).toString("base64");
}

/** An entry as `ls -l` shows it. */
export function longLine(entry: Entry): string {
  const { uid, gid, size, mtime, device, target, rawTarget = null } = entry;
  const { major, minor } = splitDevice(device);
  const extent = isDevice(entry) ? `${major}, ${minor}` : String(size);
  const arrow = target === null ? "" : ` -> ${displayBytes(target, rawTarget)}`;
  const owner = `${String(uid).padStart(5)} ${String(gid).padStart(5)}`;
  return `${formatMode(entry)} ${owner} ${extent.padStart(12)}  ${showTime(mtime)}  ${displayPath(entry)}${arrow}`;
}

/** Local date and time, or how far it is away where there is no such date. */
export function showTime(time: Entry["mtime"]): string {
  return formatFileTime(time) === null ? `${time.seconds} s` : formatDate(toNanoseconds(time));
}
