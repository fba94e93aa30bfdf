// Words such as `ARCHIVE:DIR`, which name a place within an archive.

import { BackupError } from "../errors.ts";

/** An archive, and a path in its tree, without slashes around it; the root is empty. */
export interface Where {
  /** Null where only a path was given. */
  readonly archive: string | null;
  readonly path: string;
}

/**
 * The ways to read such words, for names of archives can have colons too (snapshots are named by their times): the one
 * with the longest name of an archive first. @throws USAGE for a path that leads upwards
 */
export function readWhere(text: string): readonly Where[] {
  const colons = Array.from(text, (char, at) => (char === ":" ? at : -1)).filter((at) => at >= 0);
  return [text.length, ...colons.reverse()].map((end) => ({
    archive: end === 0 ? null : text.slice(0, end),
    path: cleanPath(text.slice(end + 1)),
  }));
}

/** @throws USAGE */
export function cleanPath(path: string): string {
  const names = path.split("/").filter((name) => name !== "" && name !== ".");
  if (!names.includes("..")) return names.join("/");
  throw new BackupError("USAGE", `the path ${path} leads upwards`, {
    hint: "use a path from the root of the snapshot",
  });
}
