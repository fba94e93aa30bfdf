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
 * The imports that a room may have: names as seen from src/, a trailing slash meaning everything below; packages and node:
 * modules by their names. `types` may only be imported with `import type`.
 */
interface Wall {
  readonly may: readonly string[];
  readonly types?: readonly string[];
}

/** Rooms, and files that have a door of their own: the longest name that fits a file counts, added to its room's. */
const walls: Readonly<Record<string, Wall>> = {
  errors: { may: [] },
  json: { may: [] },
  retry: { may: ["errors", "node:timers/promises"] },
  "addon/": { may: ["addon/", "errors", "node:"] },
  "plan/": { may: ["plan/", "errors", "json"] },
  // Text into values; what lies in files is read by environment, file and clouds-yaml, and is words again.
  "config/": { may: ["config/", "errors", "json"], types: ["plan/"] },
  "config/environment": { may: ["node:"] },
  "config/file": { may: ["node:", "yaml"] },
  "config/clouds-yaml": { may: ["node:", "yaml"] },
  "config/proxies": { may: ["node:net"] },
  "state/": {
    may: ["state/", "plan/model", "errors", "json", "node:"],
    types: ["operations/ports", "operations/store-ports"],
  },
  "state/lock": { may: ["addon/lock"] },
  "stream/": { may: ["stream/", "addon/", "errors", "node:"] },
  "stream/unnamed-file": { may: ["state/own-directories"] },
  // Files that only this process holds are reached by its number.
  "stream/age": { may: ["node:process"] },
  "stream/process": { may: ["node:child_process", "node:process"] },
  "operations/": {
    may: ["operations/", "plan/", "stream/", "errors", "node:crypto", "node:stream", "node:stream/promises"],
    types: ["terminal/log"],
  },
  "operations/sync-snapshot": { may: ["state/checkpoints"] },
  "operations/object-to-store": { may: [], types: ["state/checkpoints"] },
  "operations/write-volumes": { may: [], types: ["state/checkpoints"] },
  "btrfs/": {
    may: ["btrfs/", "addon/", "plan/model", "plan/finding", "stream/", "errors", "node:"],
    types: ["operations/ports", "operations/store-ports"],
  },
  // Directories and files without a name that this process holds open are reached by its number.
  "btrfs/directories": { may: ["node:process"] },
  "btrfs/scratch": { may: ["node:process"] },
  // The surroundings of a directory decide what to name in its place.
  "btrfs/subvolumes": { may: ["plan/surroundings"] },
  "swift/": {
    may: ["swift/", "errors", "json", "retry", "@aws-sdk/", "@smithy/", "node:"],
    types: ["operations/ports", "operations/store-ports", "plan/quota", "terminal/log", "config/"],
  },
  // The end of an object is withheld like the end of a stream.
  "swift/download": { may: ["stream/pieces", "stream/withhold"] },
  // The store's clock is judged as the doctor judges it, and parts are hashed as they were when they were sent.
  "swift/container": { may: ["plan/clock", "plan/layout"] },
  "swift/http": { may: ["config/proxies"] },
  "swift/proxy": { may: ["http-proxy-agent", "https-proxy-agent"] },
  "swift/part-hasher": { may: ["addon/md5"] },
  // The SDK looks for its files, and for whether to warn about old Node versions, by the environment only.
  "swift/auth/credentials": { may: ["node:process"] },
  "swift/client": { may: ["node:process"] },
  "terminal/": { may: ["terminal/", "plan/model", "errors", "node:"] },
  "terminal/log": { may: ["pino"] },
  "integrations/": { may: ["integrations/", "state/own-directories", "errors", "retry", "node:"] },
  "commands/": {
    may: [
      "commands/",
      "operations/",
      "plan/",
      "integrations/",
      "terminal/",
      "config/",
      "state/",
      "errors",
      "clipanion",
      "node:",
    ],
  },
  "commands/command": { may: ["stream/age", "stream/syslog"] },
  "commands/session": { may: ["btrfs/", "swift/"] },
  "commands/version": { may: ["addon/load", "btrfs/progs", "swift/sdk"] },
  main: { may: ["commands/", "errors", "node:"] },
};

/** Lines that a file of src/ may have. */
const LONGEST_FILE = 260;

/** Rooms from the ground up: a file imports from its own room and from floors below it. */
const floors = [
  ["errors", "json"],
  ["retry"],
  ["addon", "plan"],
  ["config", "state"],
  ["stream"],
  ["operations", "btrfs", "swift", "terminal", "integrations"],
  ["commands"],
  ["main"],
];

/** Shapes that edges take on. They are no room's own, and hold nothing but types. */
const shapes = ["operations/ports", "operations/store-ports", "terminal/log"];

/** Not covered by a room's "node:": doors to the world that only the named files have. */
const guarded = ["node:child_process", "node:process"];

/** Where a name may be used that reaches past every argument. */
const reach: Readonly<Record<string, readonly string[]>> = {
  process: ["main"],
  console: [],
  "the clock": ["main", "retry", "integrations/", "swift/", "terminal/"],
  "Math.random": ["retry"],
  // Beside these, nobody takes out what a terminal would obey.
  "a standard stream": ["main", "terminal/"],
};

interface Import {
  readonly target: string;
  readonly typeOnly: boolean;
  /** True for `import()`. */
  readonly isLazy: boolean;
}

/** The imports of a file; types are imports too. */
function importsOf(name: string, text: string): readonly Import[] {
  const found: Import[] = [];
  const visit = (node: ts.Node): void => {
    const imported = importOf(name, node);
    if (imported !== null) found.push(imported);
    ts.forEachChild(node, visit);
  };
  visit(ts.createSourceFile(`${name}.ts`, text, ts.ScriptTarget.Latest, true));
  return found;
}

/** The names of another file of src/ that a file exports as its own: a door in a wall that nobody sees. */
function passedOn(name: string, text: string): readonly string[] {
  const { statements } = ts.createSourceFile(`${name}.ts`, text, ts.ScriptTarget.Latest, true);
  return statements.flatMap((node) => {
    const from = ts.isExportDeclaration(node) && node.moduleSpecifier?.getText().startsWith('".') === true;
    return from ? [`${name}: ${node.getText()}`] : [];
  });
}

function floorOf(name: string): number {
  return floors.findIndex((rooms) => rooms.includes(name.split("/")[0] ?? ""));
}

/** Whether an import goes to another room that does not lie below. */
function runsUpwards(name: string, { target, typeOnly }: Import): boolean {
  if (floorOf(target) === -1 || target.split("/")[0] === name.split("/")[0]) return false;
  return floorOf(target) >= floorOf(name) && !(typeOnly && shapes.includes(target));
}

/** Files that import each other, directly or through others; what is loaded only when it is needed does not count. */
function findCircle(importing: ReadonlyMap<string, readonly string[]>): readonly string[] | null {
  const done = new Set<string>();
  const walk = (name: string, way: readonly string[]): readonly string[] | null => {
    if (way.includes(name)) return [...way.slice(way.indexOf(name)), name];
    if (done.has(name)) return null;
    for (const next of importing.get(name) ?? []) {
      const circle = walk(next, [...way, name]);
      if (circle !== null) return circle;
    }
    done.add(name);
    return null;
  };
  return [...importing.keys()].map((name) => walk(name, [])).find((circle) => circle !== null) ?? null;
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
    return { target: target(from, node.moduleSpecifier), typeOnly, isLazy: false };
  }
  if (ts.isExportDeclaration(node) && node.moduleSpecifier !== undefined) {
    return { target: target(from, node.moduleSpecifier), typeOnly: node.isTypeOnly, isLazy: false };
  }
  const isCall = ts.isCallExpression(node) && node.expression.kind === ts.SyntaxKind.ImportKeyword;
  const [argument] = isCall ? node.arguments : [];
  return argument === undefined ? null : { target: target(from, argument), typeOnly: false, isLazy: true };
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
  test("no import crosses one", () => {
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

  test("no import runs upwards, whatever its room's wall lets pass", () => {
    const upwards = sources().flatMap(({ name, text }) =>
      importsOf(name, text).flatMap((each) => (runsUpwards(name, each) ? [`${name} imports ${each.target}`] : [])),
    );
    assert.deepEqual(upwards, []);
    assert.ok(runsUpwards("stream/age", { target: "btrfs/source", typeOnly: true, isLazy: false }));
    assert.ok(runsUpwards("swift/client", { target: "operations/ports", typeOnly: false, isLazy: false }));
    assert.ok(!runsUpwards("swift/client", { target: "operations/ports", typeOnly: true, isLazy: false }));
  });

  test("no files import each other in a circle", () => {
    const importing = new Map<string, readonly string[]>();
    for (const { name, text } of sources()) {
      const eager = importsOf(name, text).filter(({ isLazy }) => !isLazy);
      importing.set(
        name,
        eager.map(({ target }) => target),
      );
    }
    assert.equal(findCircle(importing), null);
    assert.ok(findCircle(importing.set("errors", ["commands/sync"]))?.includes("errors"));
  });

  test("no file exports what another file has", () => {
    assert.deepEqual(
      sources().flatMap(({ name, text }) => passedOn(name, text)),
      [],
    );
    assert.equal(passedOn("operations/restore", `export { unlock } from "../stream/age.ts";`).length, 1);
  });

  test("no file is too long to understand in five minutes", () => {
    const lengths = sources().map(({ name, text }) => ({ name, lines: text.trimEnd().split("\n").length }));
    assert.deepEqual(
      lengths.filter(({ lines }) => lines > LONGEST_FILE),
      [],
    );
  });

  const forbidden: readonly (readonly [name: string, text: string, breach: string])[] = [
    ["plan/sync", `import { readFile } from "node:fs/promises";`, "plan/sync imports node:fs/promises"],
    ["plan/sync", `import type { Edge } from "../operations/ports.ts";`, "plan/sync imports type operations/ports"],
    ["plan/sync", `export const now = () => Date.now();`, "plan/sync names the clock"],
    ["operations/sync", `import { openSource } from "../btrfs/source.ts";`, "operations/sync imports btrfs/source"],
    ["operations/sync", `import { createLog } from "../terminal/log.ts";`, "operations/sync imports terminal/log"],
    ["operations/sync", `const x = await import("../swift/container.ts");`, "operations/sync imports swift/container"],
    ["operations/sync", `export { x } from "@aws-sdk/client-s3";`, "operations/sync imports @aws-sdk/client-s3"],
    ["btrfs/mounts", `import { openContainer } from "../swift/container.ts";`, "btrfs/mounts imports swift/container"],
    ["btrfs/mounts", `import { spawn } from "node:child_process";`, "btrfs/mounts imports node:child_process"],
    ["btrfs/mounts", `import load from "node-gyp-build";`, "btrfs/mounts imports node-gyp-build"],
    ["btrfs/mounts", `import { list } from "../operations/ports.ts";`, "btrfs/mounts imports operations/ports"],
    ["stream/age", `import { openSource } from "../btrfs/source.ts";`, "stream/age imports btrfs/source"],
    [
      "swift/upload/upload",
      `import { parseUuid } from "../../plan/model.ts";`,
      "swift/upload/upload imports plan/model",
    ],
    ["swift/upload/upload", `import { env } from "node:process";`, "swift/upload/upload imports node:process"],
    [
      "integrations/prometheus",
      `import { openContainer } from "../swift/container.ts";`,
      "integrations/prometheus imports swift/container",
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
    ["btrfs/source", `import type { SnapshotSource } from "../operations/ports.ts";`],
    ["stream/process", `import { spawn } from "node:child_process";`],
    ["commands/session", `const x = await import("../swift/container.ts");`],
    ["terminal/log", `export const log = (step: { process: string }) => step.process;`],
    ["main", `process.exitCode = 1;`],
  ];
  for (const [name, text] of allowed) {
    test(`lets pass: ${name}: ${text.split("\n")[0] ?? ""}`, () => assert.deepEqual(breaches(name, text), []));
  }
});
