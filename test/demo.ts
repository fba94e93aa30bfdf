// `npm run demo`: the complete way once, on real btrfs and a real Swift, with the commands a user would type. It ends
// by comparing what was restored with what was there, entry by entry, and cleans up however it ends.

import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdir } from "node:fs/promises";
import { basename, join } from "node:path";
import { fileURLToPath } from "node:url";
import { openLoopback, run } from "./support/loopback.ts";
import { noBtrfsOrSwift } from "./support/requirements.ts";
import { openSwift, type Swift } from "./support/swift.ts";
import { changeTree, compareTrees, makeTree } from "./support/tree.ts";

const PROGRAM = "btrfs-snapshots-to-swift";
const MAIN = fileURLToPath(new URL("../program/main.js", import.meta.url));
const CONTAINER = "backup";
const SNAPSHOTS = ["monday", "tuesday", "wednesday"] as const;

/** Everything the steps need; made by {@link main}, undone by it. */
interface Stage {
  readonly disk: string;
  readonly otherDisk: string;
  readonly swift: Swift;
  readonly signal: AbortSignal;
}

function say(text: string): void {
  process.stdout.write(`${text}\n`);
}

let steps = 0;
function sayStep(text: string): void {
  steps += 1;
  say(`\n${steps}. ${text}`);
}

function showCommand(words: readonly string[]): void {
  const quoted = words.map((word) => (/^[\w./:=@%+,-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`));
  say(`   $ ${quoted.join(" ")}`);
}

async function shell(stage: Stage, program: string, ...args: readonly string[]): Promise<void> {
  stage.signal.throwIfAborted();
  showCommand([program, ...args]);
  await run(program, ...args);
}

/** Runs our program as a user would, its output on the screen; or, with `capture`, returned. */
async function ours(stage: Stage, args: readonly string[], capture = false): Promise<string> {
  stage.signal.throwIfAborted();
  if (!capture) showCommand([PROGRAM, ...args]);
  const child = spawn(process.execPath, [MAIN, ...args], {
    // A group of its own: Ctrl-C reaches it once, through our signal.
    detached: true,
    signal: stage.signal,
    env: { ...process.env, ...stage.swift.environment },
    stdio: ["ignore", capture ? "pipe" : "inherit", "inherit"],
  });
  const ended = once(child, "close");
  let output = "";
  child.stdout?.setEncoding("utf8").on("data", (text: string) => (output += text));
  await ended;
  const outcome = child.exitCode ?? child.signalCode ?? "nothing";
  if (outcome !== 0) throw new Error(`${PROGRAM} ${args[0] ?? ""} ended with ${outcome}`);
  return output;
}

async function takeSnapshot(stage: Stage, name: string): Promise<void> {
  const [home, snapshot] = [join(stage.disk, "home"), join(stage.disk, "snapshots", name)];
  await shell(stage, "btrfs", "subvolume", "snapshot", "-r", home, snapshot);
}

async function makeHome(stage: Stage): Promise<void> {
  sayStep("A btrfs filesystem with a subvolume of about 70 MB, and two snapshots of it, with changes in between");
  const home = join(stage.disk, "home");
  await shell(stage, "btrfs", "subvolume", "create", home);
  await mkdir(join(stage.disk, "snapshots"));
  await makeTree(home, { seed: 1, files: 400, bytes: 70_000_000, zoo: true });
  await takeSnapshot(stage, SNAPSHOTS[0]);
  await changeTree(home, 2);
  await takeSnapshot(stage, SNAPSHOTS[1]);
}

async function syncTwice(stage: Stage): Promise<void> {
  const home = join(stage.disk, "home");
  const sync = ["sync", home, "--container-name", CONTAINER];
  sayStep("Both go to Swift: the first one in full, the second as an incremental against it");
  for (const [name, value] of Object.entries(stage.swift.environment)) showCommand(["export", `${name}=${value}`]);
  await ours(stage, sync);
  sayStep("The next day: only what changed is sent");
  await changeTree(home, 3);
  await takeSnapshot(stage, SNAPSHOTS[2]);
  await ours(stage, sync);
}

async function listAndRestore(stage: Stage): Promise<void> {
  sayStep("What is where");
  const list = ["list", "--container-name", CONTAINER];
  await ours(stage, list);
  sayStep("The last one is restored onto another filesystem, with those it builds on");
  const key = await findKey(stage, [...list, "--json"]);
  await ours(stage, ["restore", "--container-name", CONTAINER, key, "--target", stage.otherDisk]);
}

async function findKey(stage: Stage, list: readonly string[]): Promise<string> {
  const listed = JSON.parse(await ours(stage, list, true)) as { archives: readonly { key: string; path: string }[] };
  const archive = listed.archives.find(({ path }) => basename(path) === SNAPSHOTS[2]);
  if (archive === undefined) throw new Error(`${SNAPSHOTS[2]} is not in the list`);
  return archive.key;
}

async function compareAll(stage: Stage): Promise<void> {
  sayStep("Is what came back what was there? Every entry of every snapshot: content, owners, times, links, attributes");
  let entries = 0;
  const differences: string[] = [];
  for (const name of SNAPSHOTS) {
    stage.signal.throwIfAborted();
    const snapshot = join("snapshots", name);
    const comparison = await compareTrees(join(stage.disk, snapshot), join(stage.otherDisk, snapshot));
    entries += comparison.entries;
    differences.push(...comparison.differences.map((difference) => `${name}/${difference}`));
  }
  if (differences.length > 0) {
    throw new Error(`${differences.length} differences:\n   ${differences.slice(0, 20).join("\n   ")}`);
  }
  say(`\n${SNAPSHOTS.length} snapshots restored, ${entries} entries compared, all equal`);
}

/** Opens the stage, plays, and closes what was opened, in reverse. */
async function play(signal: AbortSignal): Promise<void> {
  const closers: (() => Promise<void>)[] = [];
  const keep = <T extends { close(): Promise<void> }>(opened: T): T => {
    closers.unshift(() => opened.close());
    return opened;
  };
  try {
    say("Starting a Swift and making two btrfs filesystems, all on this machine ...");
    const disk = keep(await openLoopback({ sizeBytes: 2 * 1024 ** 3 })).mountPoint;
    const otherDisk = keep(await openLoopback({ sizeBytes: 2 * 1024 ** 3 })).mountPoint;
    const swift = keep(await openSwift());
    await swift.createContainer(CONTAINER);
    const stage = { disk, otherDisk, swift, signal };
    for (const step of [makeHome, syncTwice, listAndRestore, compareAll]) await step(stage);
  } finally {
    for (const close of closers) await close();
  }
}

async function main(): Promise<number> {
  const reason = noBtrfsOrSwift();
  if (reason !== false) {
    say(`the demo cannot run here: ${reason}`);
    return 1;
  }
  const stopping = new AbortController();
  for (const name of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.on(name, () => stopping.abort());
  try {
    await play(stopping.signal);
    return 0;
  } catch (error) {
    const message = error instanceof Error ? error.message : String(error);
    process.stderr.write(`\n${stopping.signal.aborted ? "stopped, and cleaned up" : message}\n`);
    return 1;
  }
}

process.exitCode = await main();
