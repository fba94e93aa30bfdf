// The walls between the rooms of src/: who may import whom, and who may name the process, the console, the clock and
// chance. Read from the sources themselves, as the compiler sees them.

import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { dirname, join, normalize } from "node:path";
import { describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import ts from "typescript";

const SOURCES = fileURLToPath(new URL("../../../src/", import.meta.url));

/**
 * What a room may import: names as seen from src/, a trailing slash meaning everything below; packages and node:
 * modules by their names. `types` may only be imported with `import type`.
 */
interface Wall {
  readonly may: readonly string[];
  readonly types?: readonly string[];
}

/** Rooms, and files that have a door of their own: the longest name that fits a file counts, added to its room's. */
const walls: Readonly<Record<string, Wall>> = {
  "plan/": { may: ["plan/", "errors"] },
  "operations/": {
    may: ["operations/", "plan/", "stream/", "errors", "node:crypto", "node:stream", "node:stream/promises"],
    types: ["terminal/log"],
  },
  "btrfs/": {
    may: [
      "btrfs/",
      "plan/model",
      "stream/process",
      "stream/output",
      "stream/pipeline",
      "stream/check",
      "errors",
      "node:",
    ],
    types: ["operations/edges"],
  },
  // Directories that this process holds open are reached by its number.
  "btrfs/directories": { may: ["node:process"] },
  // A file without a name is reached by its number too.
  "btrfs/scratch": { may: ["node:process", "stream/nameless"] },
  // What to name in place of a directory is decided by what lies around it.
  "btrfs/subvolumes": { may: ["plan/surroundings"] },
  "stream/": { may: ["stream/", "errors", "node:"] },
  "stream/nameless": { may: ["own-directories"] },
  "stream/checkpoints": { may: ["own-directories"] },
  "stream/check": { may: ["btrfs/binding"] },
  "stream/output": { may: ["btrfs/binding"] },
  "stream/pipeline": { may: ["btrfs/binding"] },
  // Files that only this process holds are reached by its number.
  "stream/age": { may: ["node:process"] },
  "stream/process": { may: ["node:child_process", "node:process"] },
  "swift/": {
    may: ["swift/", "errors", "proxies", "@aws-sdk/", "@smithy/", "node:"],
    types: ["operations/edges", "plan/quota", "terminal/log", "config", "openstack"],
  },
  "swift/proxy": { may: ["http-proxy-agent", "https-proxy-agent"] },
  "swift/hasher": { may: ["btrfs/binding"] },
  // The SDK looks for its files by the environment only.
  "swift/credentials": { may: ["node:process"] },
  // The SDK's warning about old Node versions is silenced by the environment only.
  "swift/client": { may: ["node:process"] },
  "terminal/": { may: ["terminal/", "plan/model", "errors", "node:"] },
  "terminal/log": { may: ["pino"] },
  "state/": { may: ["state/", "plan/model", "errors", "own-directories", "node:"], types: ["operations/edges"] },
  "reports/": { may: ["reports/", "errors", "own-directories", "node:"] },
  "commands/": {
    may: [
      "commands/",
      "operations/",
      "plan/",
      "reports/",
      "terminal/",
      "config",
      "words",
      "errors",
      "nearest",
      "own-directories",
      "settings",
      "clipanion",
      "node:",
    ],
  },
  "commands/command": { may: ["stream/syslog"] },
  "commands/session": { may: ["btrfs/", "swift/", "lock", "environment"], types: ["state/"] },
  "commands/restore": { may: [], types: ["lock"] },
  "commands/kept": { may: ["state/"] },
  "commands/version": { may: ["btrfs/binding", "stream/process"] },
  // Words into values; what lies in files is read by environment and clouds, and is words again.
  config: { may: ["errors", "openstack", "proxies", "words"] },
  proxies: { may: ["errors", "openstack", "node:net"] },
  words: { may: ["errors"], types: ["plan/"] },
  openstack: { may: ["errors"] },
  environment: { may: ["config", "openstack", "clouds", "errors", "node:"] },
  clouds: { may: ["openstack", "errors", "node:", "yaml"] },
  "own-directories": { may: ["node:"] },
  errors: { may: [] },
  nearest: { may: [] },
  settings: { may: ["errors", "nearest", "node:", "yaml"] },
  lock: { may: ["errors", "btrfs/binding", "own-directories", "node:"] },
  main: { may: ["commands/", "errors", "node:"] },
};

/** Not covered by a room's "node:": doors to the world that only the named files have. */
const guarded = ["node:child_process", "node:process"];

/** Where a name may be used that reaches past every argument. */
const reach: Readonly<Record<string, readonly string[]>> = {
  process: ["main"],
  console: [],
  "the clock": ["main", "reports/", "swift/", "terminal/"],
  "Math.random": ["swift/"],
  // Beside these, nobody takes out what a terminal would obey.
  "a standard stream": ["main", "terminal/"],
};

interface Import {
  readonly target: string;
  readonly typeOnly: boolean;
}

/** Everything a file does that its walls forbid. `name` is its path below src/, without the ending. */
function breaches(name: string, text: string): readonly string[] {
  const file = ts.createSourceFile(`${name}.ts`, text, ts.ScriptTarget.Latest, true);
  const found: string[] = [];
  const visit = (node: ts.Node): void => {
    const imported = importOf(name, node);
    if (imported !== null && !mayImport(name, imported)) {
      found.push(`${name} imports ${imported.typeOnly ? "type " : ""}${imported.target}`);
    }
    const reached = reachOf(node);
    if (reached !== null && !fits(name, reach[reached] ?? [])) found.push(`${name} names ${reached}`);
    ts.forEachChild(node, visit);
  };
  visit(file);
  return found;
}

function importOf(from: string, node: ts.Node): Import | null {
  if (ts.isImportDeclaration(node)) {
    const typeOnly = node.importClause?.phaseModifier === ts.SyntaxKind.TypeKeyword;
    return { target: target(from, node.moduleSpecifier), typeOnly };
  }
  if (ts.isExportDeclaration(node) && node.moduleSpecifier !== undefined) {
    return { target: target(from, node.moduleSpecifier), typeOnly: node.isTypeOnly };
  }
  const isCall = ts.isCallExpression(node) && node.expression.kind === ts.SyntaxKind.ImportKeyword;
  const [argument] = isCall ? node.arguments : [];
  return argument === undefined ? null : { target: target(from, argument), typeOnly: false };
}

/** A file as seen from src/, without its ending; a package or node: module by its name. */
function target(from: string, specifier: ts.Expression): string {
  if (!ts.isStringLiteralLike(specifier)) return "something computed";
  const { text } = specifier;
  return text.startsWith(".") ? normalize(join(dirname(from), text)).replace(/\.ts$/, "") : text;
}

function mayImport(name: string, { target, typeOnly }: Import): boolean {
  const own = Object.entries(walls).filter(([room]) => fits(name, [room]));
  if (own.length === 0) return false;
  const allowed = own.flatMap(([, wall]) => [...wall.may, ...(typeOnly ? (wall.types ?? []) : [])]);
  return guarded.includes(target) ? allowed.includes(target) : fits(target, allowed);
}

function fits(name: string, patterns: readonly string[]): boolean {
  return patterns.some((pattern) => name === pattern || (/[/:]$/.test(pattern) && name.startsWith(pattern)));
}

/** Which of those names a node uses: `x.process` and `{ process: 1 }` are somebody else's. */
function reachOf(node: ts.Node): keyof typeof reach | null {
  if (ts.isNewExpression(node)) {
    return node.expression.getText() === "Date" && (node.arguments?.length ?? 0) === 0 ? "the clock" : null;
  }
  if (ts.isPropertyAccessExpression(node)) {
    const text = node.getText();
    if (text === "Math.random") return text;
    if (/\bstd(out|err)\.write$/.test(text)) return "a standard stream";
    return text === "Date.now" || text === "performance.now" ? "the clock" : null;
  }
  if (!ts.isIdentifier(node) || (node.text !== "process" && node.text !== "console")) return null;
  const { parent } = node;
  const isLabel =
    "name" in parent &&
    parent.name === node &&
    (ts.isPropertyAccessExpression(parent)
      ? parent.expression.getText() !== "globalThis"
      : ts.isPropertyAssignment(parent) || ts.isPropertySignature(parent) || ts.isMethodSignature(parent));
  return isLabel ? null : node.text;
}

function sources(): readonly { readonly name: string; readonly text: string }[] {
  return readdirSync(SOURCES, { recursive: true, encoding: "utf8" })
    .filter((path) => path.endsWith(".ts"))
    .sort()
    .map((path) => ({ name: path.replace(/\.ts$/, ""), text: readFileSync(join(SOURCES, path), "utf8") }));
}

describe("walls", () => {
  test("no file reaches through one", () => {
    const files = sources();
    assert.ok(
      files.some(({ name }) => name === "plan/model"),
      "the sources were not found",
    );
    assert.deepEqual(
      files.flatMap(({ name, text }) => breaches(name, text)),
      [],
    );
  });

  const forbidden: readonly (readonly [name: string, text: string, breach: string])[] = [
    ["plan/sync", `import { readFile } from "node:fs/promises";`, "plan/sync imports node:fs/promises"],
    ["plan/sync", `import type { Edge } from "../operations/edges.ts";`, "plan/sync imports type operations/edges"],
    ["plan/sync", `export const now = () => Date.now();`, "plan/sync names the clock"],
    ["operations/sync", `import { openSource } from "../btrfs/source.ts";`, "operations/sync imports btrfs/source"],
    ["operations/sync", `import { createLog } from "../terminal/log.ts";`, "operations/sync imports terminal/log"],
    ["operations/sync", `const x = await import("../swift/container.ts");`, "operations/sync imports swift/container"],
    ["operations/sync", `export { x } from "@aws-sdk/client-s3";`, "operations/sync imports @aws-sdk/client-s3"],
    ["btrfs/mounts", `import { openContainer } from "../swift/container.ts";`, "btrfs/mounts imports swift/container"],
    ["btrfs/mounts", `import { spawn } from "node:child_process";`, "btrfs/mounts imports node:child_process"],
    ["btrfs/mounts", `import load from "node-gyp-build";`, "btrfs/mounts imports node-gyp-build"],
    ["btrfs/mounts", `import { list } from "../operations/edges.ts";`, "btrfs/mounts imports operations/edges"],
    ["stream/age", `import { binding } from "../btrfs/binding.ts";`, "stream/age imports btrfs/binding"],
    ["swift/upload", `import { parseUuid } from "../plan/model.ts";`, "swift/upload imports plan/model"],
    ["swift/upload", `import { env } from "node:process";`, "swift/upload imports node:process"],
    [
      "reports/metrics",
      `import { openContainer } from "../swift/container.ts";`,
      "reports/metrics imports swift/container",
    ],
    ["terminal/output", `import { pino } from "pino";`, "terminal/output imports pino"],
    ["terminal/output", `console.log("x");`, "terminal/output names console"],
    ["commands/sync", `import { open } from "../swift/container.ts";`, "commands/sync imports swift/container"],
    ["commands/sync", `import { main } from "../main.ts";`, "commands/sync imports main"],
    ["commands/sync", `const { argv } = process;`, "commands/sync names process"],
    ["commands/sync", `globalThis.process.exit(1);`, "commands/sync names process"],
    ["commands/sync", `const at = new Date();`, "commands/sync names the clock"],
    ["stream/age", `const x = Math.random();`, "stream/age names Math.random"],
    ["commands/sync", `this.context.stdout.write("x");`, "commands/sync names a standard stream"],
    ["commands/version", `stderr.write("x");`, "commands/version names a standard stream"],
    ["newroom/file", `import { x } from "../errors.ts";`, "newroom/file imports errors"],
  ];
  for (const [name, text, breach] of forbidden) {
    test(`stops: ${breach}`, () => assert.deepEqual(breaches(name, text), [breach]));
  }

  const allowed: readonly (readonly [name: string, text: string])[] = [
    ["plan/sync", `import { BackupError } from "../errors.ts";\nconst day = new Date(0);`],
    ["operations/sync", `import type { Logger } from "../terminal/log.ts";`],
    ["btrfs/source", `import type { SnapshotSource } from "../operations/edges.ts";`],
    ["stream/process", `import { spawn } from "node:child_process";`],
    ["commands/session", `const x = await import("../swift/container.ts");`],
    ["terminal/log", `export const log = (step: { process: string }) => step.process;`],
    ["main", `process.exitCode = 1;`],
  ];
  for (const [name, text] of allowed) {
    test(`lets pass: ${name}: ${text.split("\n")[0] ?? ""}`, () => assert.deepEqual(breaches(name, text), []));
  }
});
