// A tree in the format that `ncdu -f` reads: https://dev.yorhel.nl/ncdu/jsonfmt, version 1.2.

import { displayBytes, isDevice, kindOf, splitDevice, type Entry } from "./entry.ts";

/** ncdu counts what a file takes on a disk in these. */
const BLOCK = 4096;

/** Writes the document, line by line. */
export interface NcduWriter {
  readonly beginning: string;
  /** @param entry - below the top, each directory before what is in it */
  entry(entry: Entry): string;
  /** The last line. */
  end(): string;
}

/** @param top - the path of the directory that is shown, and the name that it is shown under */
export function openNcdu(
  top: { readonly path: string; readonly name: string },
  program: { readonly name: string; readonly version: string },
): NcduWriter {
  const head = { progname: program.name, progver: program.version, timestamp: 0 };
  const start = depthOf(top.path) + 1;
  let depth = 0;
  return {
    beginning: `[1,2,${JSON.stringify(head)},[${JSON.stringify({ name: top.name })}`,
    entry: (entry) => {
      const levels = Math.max(0, depthOf(entry.path) - start);
      const isDirectory = kindOf(entry) === "directory";
      const line = `${"]".repeat(depth - levels)},${isDirectory ? "[" : ""}${JSON.stringify(toNode(entry))}`;
      depth = levels + Number(isDirectory);
      return line;
    },
    end: () => `${"]".repeat(depth)}]]`,
  };
}

function depthOf(path: string): number {
  return path === "" ? 0 : path.split("/").length;
}

function toNode(entry: Entry): Readonly<Record<string, unknown>> {
  const { path, rawPath, size, id, uid, gid, mode, mtime, links } = entry;
  const kind = kindOf(entry);
  const isFile = kind === "file";
  return {
    name: displayBytes(path, rawPath).replace(/^.*\//s, ""),
    ...(isFile || kind === "symlink" ? { asize: size } : {}),
    ...(isFile ? { dsize: Math.ceil(size / BLOCK) * BLOCK } : {}),
    ino: id,
    ...(links > 1 ? { nlink: links, hlnkc: true } : {}),
    ...(isFile || kind === "directory" ? {} : { notreg: true }),
    ...(isDevice(entry) ? splitDevice(entry.device) : {}),
    uid,
    gid,
    mode,
    mtime: mtime.seconds,
  };
}
