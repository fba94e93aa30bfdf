// `npm test`: node's own test runner over everything under test/, with its summary as the last lines. Tests that need
// btrfs or Swift skip themselves where there is none. Here that is reported once; and with CI=true or REQUIRE_ALL=1 any
// skipped test fails the run.
//
//   node dist/test/run.js [PART OF A PATH...]

import { readdirSync } from "node:fs";
import { availableParallelism } from "node:os";
import { join } from "node:path";
import { Readable } from "node:stream";
import { finished } from "node:stream/promises";
import { run } from "node:test";
import { spec } from "node:test/reporters";
import { bundleProgram } from "./support/program.ts";
import { noBtrfs, noSwift } from "./support/requirements.ts";

/** Those with long files first: none of them is left at the end, with nothing beside it. */
const LAYERS = ["integration", "fault", "btrfs", "property", "unit"];
/** Of these, the longest, from minutes down to one. */
const LONGEST = [
  "integration/keep",
  "integration/credentials",
  "integration/encoding",
  "integration/restore",
  "integration/rebase",
  "fault/encoding",
  "fault/upload",
];
/** Far beyond what the longest takes, also on a busy machine. */
const FILE_TIMEOUT_MS = 30 * 60_000;

/** The fields of node's test events that are read here. */
interface TestEvent {
  readonly type: string;
  readonly data: {
    readonly name?: string;
    readonly message?: string;
    /** The reason, or true; absent when it ran. */
    readonly skip?: string | boolean;
    readonly todo?: string | boolean;
  };
}

/** Compiled test files, found by their sources: what a deleted test was once compiled to does not run. */
function testFiles(parts: readonly string[]): string[] {
  return LAYERS.flatMap((layer) => namesUnder(join("test", layer)))
    .filter((source) => source.endsWith(".test.ts"))
    .map((source) => join("dist", source.replace(/ts$/, "js")))
    .filter((file) => parts.length === 0 || parts.some((part) => file.includes(part)))
    .sort((a, b) => rankOf(a) - rankOf(b));
}

function rankOf(file: string): number {
  const rank = LONGEST.findIndex((name) => file.endsWith(`${name}.test.js`));
  return rank === -1 ? LONGEST.length : rank;
}

function namesUnder(folder: string): readonly string[] {
  try {
    return readdirSync(folder, { recursive: true, encoding: "utf8" })
      .map((name) => join(folder, name))
      .sort();
  } catch {
    return []; // A layer without tests.
  }
}

/** Passes the events on. Before the summary, which stays last, it reports what was skipped. */
async function* withVerdict(events: AsyncIterable<TestEvent>, requireAll: boolean): AsyncGenerator<TestEvent> {
  const skipped: string[] = [];
  for await (const event of events) {
    const { type, data } = event;
    if (type === "test:fail" && data.todo === undefined) process.exitCode = 1;
    if (type === "test:pass" && data.skip !== undefined) skipped.push(`${data.name ?? ""} (${String(data.skip)})`);
    const summaryBegins = type === "test:diagnostic" && /^tests \d+$/.test(data.message ?? "");
    if (summaryBegins && requireAll && skipped.length > 0) {
      process.exitCode = 1;
      const message = `failed: nothing may be skipped here, but these were: ${skipped.join(", ")}`;
      yield { type: "test:diagnostic", data: { ...data, message } };
    }
    yield event;
  }
}

function sayWhatIsMissing(): void {
  const lacks = Object.entries({ btrfs: noBtrfs(), Swift: noSwift() }).filter(([, reason]) => reason !== false);
  if (lacks.length === 0) return;
  const reasons = lacks.map(([what, reason]) => `no ${what} here (${String(reason)})`);
  process.stdout.write(`${reasons.join(", ")}: tests that need it are skipped\n`);
}

async function main(parts: readonly string[]): Promise<void> {
  const files = testFiles(parts);
  if (files.length === 0) throw new Error(`no test file matches ${parts.join(" ")}`);
  sayWhatIsMissing();
  const requireAll = process.env["CI"] === "true" || process.env["REQUIRE_ALL"] === "1";
  // A file is often waiting for a server or a disk: half as many more as there are cores, and two also on one core.
  const concurrency = Math.max(2, Math.ceil(1.5 * availableParallelism()));
  const program = await bundleProgram();
  process.env["TEST_PROGRAM"] = program.main;
  const events: AsyncIterable<TestEvent> = run({ files, concurrency, timeout: FILE_TIMEOUT_MS });
  const report = Readable.from(withVerdict(events, requireAll)).pipe(new spec());
  report.pipe(process.stdout);
  await finished(report).finally(() => program.close());
}

await main(process.argv.slice(2));
