// `npm run bench`: how fast the program is compared with others that do the same, on this machine at this moment. Only
// the ratios of one run are meaningful.
//
//   npm run bench -- [MEBIBYTES [ROUNDS]] [sink | swift | reads | parts]... [CONTENDER]...      as root
//
// Without names everything runs: uploads to a server that discards everything, uploads to a real Swift, reads from it
// (BEFORE=MAIN.js adds the program of another checkout), and the parts (the checker of send streams, the listing of 20,000
// subvolumes, lists and plans of 20,000 archives, MD5). Contenders are named as in contenders.ts; without any, all of
// them take part.

import { spawn } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { openSource } from "../../src/btrfs/source.ts";
import { sendCommand } from "../../src/btrfs/commands.ts";
import { btrfs, run, withLoopback, type Loopback } from "../support/loopback.ts";
import { PUBLISHED } from "../support/cli.ts";
import { noBtrfsOrSwift } from "../support/requirements.ts";
import { contenders, type Contender, type ContenderName } from "./contenders.ts";
import { openMeter, quote } from "./measure.ts";
import { race, type Course } from "./race.ts";
import { compareReads } from "./reads.ts";
import { openRealSwift, openSink, type Store } from "./stores.ts";
import { formatAims, formatTable, formatTargets, median } from "./table.ts";

const MEBIBYTE = 2 ** 20;

const grounds = ["sink", "swift", "reads", "parts"] as const;
type Ground = (typeof grounds)[number];

interface Wish {
  readonly mebibytes: number;
  readonly rounds: number;
  readonly grounds: readonly Ground[];
  readonly contenders: readonly ContenderName[];
}

const everybody = Object.keys(contenders) as ContenderName[];

function parseArguments(words: readonly string[]): Wish {
  const [mebibytes = 1024, rounds = 3] = words.filter((word) => /^\d+$/.test(word)).map(Number);
  const named = grounds.filter((ground) => words.includes(ground));
  const invited = everybody.filter((name) => words.includes(name));
  return {
    mebibytes,
    rounds,
    grounds: named.length === 0 ? grounds : named,
    contenders: invited.length === 0 ? everybody : invited,
  };
}

/** Those whose program is here, after trying to install what is missing. */
async function findEntrants(names: readonly ContenderName[]): Promise<readonly ContenderName[]> {
  const here = await Promise.all(names.map((name) => isHere(contenders[name])));
  const missing = names.flatMap((name, i) => (here[i] === true ? [] : (contenders[name].needs?.package ?? [])));
  if (missing.length === 0) return names;
  say(`missing packages: ${missing.join(" ")}; installing them with apt-get`);
  const install = ["apt-get", "-q", "-y", "install", "--no-install-recommends", ...missing];
  await run("env", "DEBIAN_FRONTEND=noninteractive", ...install).catch((error: unknown) => say(String(error)));
  const found: ContenderName[] = [];
  for (const name of names) {
    if (await isHere(contenders[name])) found.push(name);
    else say(`left out, as there is no ${contenders[name].needs?.program ?? ""}: ${contenders[name].name}`);
  }
  return found;
}

async function isHere({ needs }: Contender): Promise<boolean> {
  if (needs === null) return true;
  return run("sh", "-c", 'PATH=/usr/local/bin:/usr/bin:/bin command -v "$1"', "sh", needs.program).then(
    () => true,
    () => false,
  );
}

/** A subvolume with a file of random bytes, and its snapshot. */
async function layCourse(loopback: Loopback, { mebibytes, rounds }: Wish, signal: AbortSignal): Promise<Course> {
  const { mountPoint, directory } = loopback;
  const [home, snapshot] = [join(mountPoint, "home"), join(mountPoint, "snapshot")];
  await btrfs("-q", "subvolume", "create", home);
  await run("sh", "-ec", 'head -c "$2" /dev/urandom >"$1"', "sh", join(home, "file"), String(mebibytes * MEBIBYTE));
  await btrfs("-q", "subvolume", "snapshot", "-r", home, snapshot);
  await btrfs("filesystem", "sync", mountPoint);
  const source = await openSource(home, { sendProto: null }, signal);
  await source.close();
  const { program, args } = sendCommand({ paths: [snapshot], enter: [], root: "" }, source, false);
  const send = [program, ...args];
  const counted = await run("sh", "-c", `${send.map(quote).join(" ")} | wc -c`);
  const identity = join(directory, "identity");
  await run("age-keygen", "-o", identity);
  const recipient = (await run("age-keygen", "-y", identity)).trim();
  return { source: home, send, streamBytes: Number(counted), recipient, directory, rounds };
}

async function compare(
  store: Store,
  course: Course,
  entrants: readonly ContenderName[],
  signal: AbortSignal,
): Promise<void> {
  try {
    const able = entrants.filter((name) => contenders[name].stores !== "Swift" || store.isSwift);
    const results = await race(store, course, able, signal);
    const size = (course.streamBytes / 2 ** 30).toFixed(2);
    say(`\n${size} GiB to ${store.name}, medians of ${course.rounds}:\n\n${formatTable(results, course)}\n`);
    say(`${formatAims(results, { partBytes: 16 * MEBIBYTE })}\n`);
  } finally {
    await store.close();
  }
}

async function compareUploads(wish: Wish, signal: AbortSignal): Promise<void> {
  const entrants = await findEntrants(wish.contenders);
  await withLoopback({ sizeBytes: (3 * wish.mebibytes + 1024) * MEBIBYTE }, async (loopback) => {
    const course = await layCourse(loopback, wish, signal);
    if (wish.grounds.includes("sink")) await compare(await openSink(loopback.directory), course, entrants, signal);
    if (wish.grounds.includes("swift")) await compare(await openRealSwift(), course, entrants, signal);
    if (wish.grounds.includes("reads")) await compareReading(course, wish, signal);
    await measureStart(loopback.directory);
  });
}

async function compareReading(course: Course, { mebibytes }: Wish, signal: AbortSignal): Promise<void> {
  const store = await openRealSwift();
  try {
    await withLoopback({ sizeBytes: (2 * mebibytes + 1024) * MEBIBYTE }, async (scratch) => {
      say(await compareReads(store, { course, scratch, before: process.env["BEFORE"] ?? null }, signal));
    });
  } finally {
    await store.close();
  }
}

async function measureStart(directory: string): Promise<void> {
  const meter = await openMeter(directory);
  const medianCpu = async (...words: readonly string[]): Promise<number> => {
    const times: number[] = [];
    for (let round = 0; round < 9; round += 1) {
      const { costs } = await meter.run(meter.measured("start", words), { PATH: process.env["PATH"] ?? "" });
      times.push(costs["start"]?.cpu ?? NaN);
    }
    return median(times);
  };
  const [own, node] = [await medianCpu(PUBLISHED, "--version"), await medianCpu(process.execPath, "-e", "0")];
  say(`start (--version): ${(own * 1000).toFixed(0)} ms of CPU`);
  say(`${formatTargets([{ what: "CPU, --version ÷ node -e 0", value: own / node, limit: 1.6 }])}\n`);
}

/** The benches of single parts, which are programs of their own. */
async function measureParts(): Promise<void> {
  for (const part of ["send-stream", "subvolumes", "many", "md5"]) {
    say(`${part}:`);
    const script = fileURLToPath(new URL(`${part}.js`, import.meta.url));
    const child = spawn(process.execPath, [script], { stdio: ["ignore", "inherit", "inherit"] });
    await once(child, "exit");
    if (child.exitCode !== 0) throw new Error(`${part} ended with ${child.exitCode ?? child.signalCode}`);
    say("");
  }
}

function say(text: string): void {
  process.stdout.write(`${text}\n`);
}

async function main(): Promise<void> {
  const wish = parseArguments(process.argv.slice(2));
  const lack = noBtrfsOrSwift();
  if (lack !== false) throw new Error(`nothing can be measured here: ${lack}`);
  const stop = new AbortController();
  // The terminal signals the running programs itself; what was opened here is closed.
  for (const name of ["SIGINT", "SIGTERM"]) process.on(name, () => stop.abort(new Error(`stopped by ${name}`)));
  if (wish.grounds.some((ground) => ground !== "parts")) await compareUploads(wish, stop.signal);
  if (wish.grounds.includes("parts")) await measureParts();
}

await main();
