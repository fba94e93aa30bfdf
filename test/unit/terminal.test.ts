import assert from "node:assert/strict";
import { PassThrough } from "node:stream";
import { describe, test } from "node:test";
import { formatBytes, formatDuration, formatTable, printable } from "../../src/terminal/format.ts";
import { openLog, type LogFormat } from "../../src/terminal/log.ts";
import { openOutput } from "../../src/terminal/output.ts";
import { describeTransfer, openProgress } from "../../src/terminal/progress.ts";
import { confirm } from "../../src/terminal/prompt.ts";
import { openScreen, type Terminal } from "../../src/terminal/screen.ts";

function terminal(isTTY: boolean): { stream: Terminal; text: () => string } {
  const stream = Object.assign(new PassThrough(), { isTTY, columns: 40 });
  const chunks: Buffer[] = [];
  stream.on("data", (chunk: Buffer) => chunks.push(chunk));
  return { stream, text: () => Buffer.concat(chunks).toString() };
}

describe("formats", () => {
  test("sizes and durations", () => {
    assert.deepEqual([0, 1023, 1024, 1536, 200 * 2 ** 20, 2 ** 50].map(formatBytes), [
      "0 B", "1023 B", "1.0 KiB", "1.5 KiB", "200 MiB", "1.0 PiB",
    ]);
    assert.deepEqual([420, 12_000, 185_000, 7_380_000].map(formatDuration), ["0.4 s", "12 s", "3:05 min", "2:03 h"]);
  });
  test("tables line their columns up", () => {
    assert.deepEqual(formatTable([["a", "1"], ["bbb", "22"]], [1]), ["a     1", "bbb  22"]);
  });
  test("a name cannot break a line or move the cursor", () => {
    assert.equal(printable("a\nb\u001b[2Jc\u009bd"), "a\\x0ab\\x1b[2Jc\\x9bd");
  });
});

describe("the screen", () => {
  test("lines go above the status line, which is redrawn and never longer than the terminal", () => {
    const { stream, text } = terminal(true);
    const screen = openScreen(stream, {});
    screen.status("x".repeat(100));
    screen.line("a line");
    screen.status(null);
    assert.equal(text(), `${"x".repeat(39)}\r\u001b[Ka line\n${"x".repeat(39)}\r\u001b[K`);
  });
  test("without a terminal there is no status line, only lines appended", () => {
    const { stream, text } = terminal(false);
    const screen = openScreen(stream, {});
    screen.status("busy");
    screen.line("one");
    openProgress(screen, () => 0).start("x", 1);
    screen.line("two");
    assert.equal(text(), "one\ntwo\n");
  });
  test("results on stdout step around the status line", () => {
    const { stream, text } = terminal(true);
    const screen = openScreen(stream, {});
    screen.status("busy");
    openOutput(stream, screen, false).line("result");
    assert.equal(text(), "busy\r\u001b[Kresult\nbusy");
  });
  test("colour needs a terminal and nobody who minds", () => {
    const coloured = (isTTY: boolean, env: Record<string, string>): boolean =>
      openScreen(terminal(isTTY).stream, env).coloured;
    assert.deepEqual(
      [coloured(true, {}), coloured(false, {}), coloured(true, { NO_COLOR: "1" }), coloured(true, { TERM: "dumb" })],
      [true, false, false, false],
    );
  });
});

describe("output", () => {
  test("is for people or for programs, never both", () => {
    for (const json of [false, true]) {
      const { stream, text } = terminal(false);
      const output = openOutput(stream, openScreen(stream, {}), json);
      output.line("hello");
      output.table([["a"]]);
      output.record({ type: "x" });
      assert.equal(text(), json ? '{"type":"x"}\n' : "hello\na\n");
    }
  });
});

describe("the log", () => {
  function logged(isTTY: boolean, format: LogFormat, syslog: { write(line: string): void } | null = null): string {
    const { stream, text } = terminal(isTTY);
    const log = openLog(openScreen(stream, { NO_COLOR: "1" }), { level: "info", format, run: "r1", syslog });
    log.debug("unseen");
    log.info("done");
    log.warn({ bytes: 5, secretAccessKey: "hunter2", nested: { token: "hunter2" } }, "careful\n");
    return text();
  }
  test("is short text on a terminal, with its fields and without secrets", () => {
    assert.equal(
      logged(true, "auto"),
      'done\nwarning: careful\\x0a  bytes=5  secretAccessKey=[redacted]  nested={"token":"[redacted]"}\n',
    );
  });
  test("is a JSON object a line elsewhere", () => {
    const lines = logged(false, "auto").trimEnd().split("\n").map((line) => JSON.parse(line) as Record<string, unknown>);
    assert.deepEqual(lines.map(({ level, msg, run, bytes }) => [level, msg, run, bytes]), [
      ["info", "done", "r1", undefined],
      ["warn", "careful\n", "r1", 5],
    ]);
    assert.equal(logged(false, "json").includes("hunter2"), false);
    assert.ok(!Number.isNaN(Date.parse(String(lines[0]?.["time"]))));
  });
  test("goes to the syslog with real priorities, and then not to the screen", () => {
    const lines: string[] = [];
    assert.equal(logged(false, "auto", { write: (line) => lines.push(line) }), "");
    assert.deepEqual(lines.map((line) => line.slice(0, 3)), ["<6>", "<4>"]);
    assert.equal(lines.every((line) => line.split("\n").length === 2), true);
  });
});

describe("progress", () => {
  test("never says 100 % before the end, nor more when the estimate was short", () => {
    assert.equal(describeTransfer(999, 1000, null), "999 B of 1000 B (99 %)");
    assert.equal(describeTransfer(1000, 1000, null), "1000 B of 1000 B (100 %)");
    assert.equal(describeTransfer(2000, 1000, 10), "2.0 KiB of 1000 B (99 %), 10 B/s");
    assert.equal(describeTransfer(500, null, null), "500 B");
    assert.equal(describeTransfer(0, 1000, 100), "0 B of 1000 B (0 %), 100 B/s, 10 s left");
    assert.equal(describeTransfer(0, 1000, 0), "0 B of 1000 B (0 %), 0 B/s");
  });
  test("draws at most every 200 ms", () => {
    const { stream, text } = terminal(true);
    let now = 0;
    const progress = openProgress(openScreen(stream, {}), () => now);
    progress.start("a", 1000);
    for (now = 1; now <= 1000; now += 1) progress.update(now);
    assert.equal(text().split("\r").length - 1, 5);
  });
});

describe("the question", () => {
  async function ask(input: string): Promise<[boolean, string]> {
    const { stream, text } = terminal(true);
    const answers = new PassThrough();
    answers.end(input);
    return [await confirm("send it?", { input: answers, output: stream }, new AbortController().signal), text()];
  }
  test("Enter and y are yes, n and the end of the input are no, in any case", async () => {
    for (const input of ["\n", "y\n", "YES\n", " Yes \n"]) assert.equal((await ask(input))[0], true, input);
    for (const input of ["n\n", "No\n", ""]) assert.equal((await ask(input))[0], false, input);
  });
  test("anything else is asked again", async () => {
    const [answer, text] = await ask("what\nmaybe\nno\n");
    assert.equal(answer, false);
    assert.equal(text.split("[Y/n]").length - 1, 3);
  });
});
