// File trees for tests: made from a seed, changed from a seed, compared entry by entry.
// The work is done by tree.py: Node has no calls for extended attributes, device nodes or reflinks.

import { execFile } from "node:child_process";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { SYSTEM_PYTHON } from "./swift.ts";

const execute = promisify(execFile);

/** Beside the source: the compiled file lies in dist/test/support/. */
const SCRIPT = fileURLToPath(new URL("../../../test/support/tree.py", import.meta.url));

export interface TreeOptions {
  readonly seed: number;
  readonly files: number;
  /** The size of all files together, about. */
  readonly bytes: number;
  /** One of everything that btrfs send can carry: links, attributes, nodes, holes, names. Needs root and btrfs. */
  readonly zoo?: boolean;
}

export interface Comparison {
  /** The number of entries of the first tree, itself included. */
  readonly entries: number;
  /** Empty = equal in everything a send stream carries. */
  readonly differences: readonly string[];
}

/** Fills a directory; the same options give the same content. */
export async function makeTree(directory: string, options: TreeOptions): Promise<void> {
  const { seed, files, bytes, zoo = false } = options;
  await treeScript("make", directory, `${seed}`, `${files}`, `${bytes}`, zoo ? "zoo" : "plain");
}

/** Changes between two snapshots: files overwritten, grown, cut, punched, moved, deleted, linked, copied, new. */
export async function changeTree(directory: string, seed: number): Promise<void> {
  await treeScript("change", directory, `${seed}`);
}

/**
 * Compares type, mode, owner, size, mtime to the nanosecond, content, link targets, hard link groups, device numbers
 * and extended attributes (so ACLs and capabilities) of every entry. Paths are reported percent-encoded.
 */
export async function compareTrees(a: string, b: string): Promise<Comparison> {
  const [left, right] = await Promise.all([describeTree(a), describeTree(b)]);
  const paths = [...new Set([...left.keys(), ...right.keys()])];
  const differences = paths.flatMap((path) => compareEntries(path, left.get(path), right.get(path)));
  return { entries: left.size, differences };
}

export type Entry = Readonly<Record<string, unknown>>;

function compareEntries(path: string, a: Entry | undefined, b: Entry | undefined): string[] {
  const name = path === "" ? "." : path;
  if (a === undefined) return [`${name}: only in the second`];
  if (b === undefined) return [`${name}: only in the first`];
  const facts = new Set([...Object.keys(a), ...Object.keys(b)]);
  return [...facts]
    .map((fact) => ({ fact, first: JSON.stringify(a[fact] ?? null), second: JSON.stringify(b[fact] ?? null) }))
    .filter(({ first, second }) => first !== second)
    .map(({ fact, first, second }) => `${name}: ${fact} ${first} ≠ ${second}`);
}

/** The entries of a tree by their paths, which are percent-encoded, the root being empty. */
export async function describeTree(directory: string): Promise<ReadonlyMap<string, Entry>> {
  const lines = (await treeScript("describe", directory)).trimEnd().split("\n");
  const entries = lines.map((line) => JSON.parse(line) as Entry);
  return new Map(entries.map((entry) => [String(entry["path"]), entry]));
}

/** A path as describeTree has it. */
export function printablePath(path: string | Buffer): string {
  const encode = (byte: number): string => {
    const char = String.fromCharCode(byte);
    return /[\w.~\- !#$&'()+,/:;=@[\]^{}]/.test(char) ? char : `%${byte.toString(16).toUpperCase().padStart(2, "0")}`;
  };
  return Array.from(Buffer.from(path), encode).join("");
}

/** Where two described trees differ: `+` only in the second, `-` only in the first, T type, M content, U attributes. */
export function treeDifferences(
  before: ReadonlyMap<string, Entry> = new Map(),
  after: ReadonlyMap<string, Entry> = new Map(),
): string[] {
  return [...new Set([...before.keys(), ...after.keys()])].flatMap((path) => {
    const [a, b] = [before.get(path), after.get(path)];
    if (a === undefined) return [`+ ${path}`];
    if (b === undefined) return [`- ${path}`];
    const differs = (...facts: readonly string[]): boolean =>
      facts.some((fact) => JSON.stringify(a[fact]) !== JSON.stringify(b[fact]));
    const typeOf = ({ mode }: Entry): number => Number.parseInt(String(mode), 8) & 0o170000;
    if (typeOf(a) !== typeOf(b)) return [`T ${path}`];
    if (differs("sha256", "target", "device")) return [`M ${path}`];
    return differs("mode", "owner", "xattrs", "mtime") ? [`U ${path}`] : [];
  });
}

async function treeScript(...args: readonly string[]): Promise<string> {
  const { stdout } = await execute(SYSTEM_PYTHON, [SCRIPT, ...args], { maxBuffer: 1024 * 1024 * 1024 });
  return stdout;
}
