// Text for people: formats, the screen, and the result.

import assert from "node:assert/strict";
import { PassThrough } from "node:stream";
import { describe, mock, test } from "node:test";
import { formatBytes, formatDuration, formatTable, printable } from "../../../src/terminal/format.ts";
import { openLog, type LogFormat, type LogTarget } from "../../../src/terminal/log.ts";
import { openOutput, type Output } from "../../../src/terminal/output.ts";
import { describeTransfer, openProgress } from "../../../src/terminal/progress.ts";
import { confirm } from "../../../src/terminal/prompt.ts";
import { openScreen, type Terminal } from "../../../src/terminal/screen.ts";

function terminal(isTTY: boolean): { stream: Terminal; text: () => string } {
  const stream = Object.assign(new PassThrough(), { isTTY, columns: 40 });
  const chunks: Buffer[] = [];
  stream.on("data", (chunk: Buffer) => chunks.push(chunk));
  return { stream, text: () => Buffer.concat(chunks).toString() };
}

describe("formats", () => {
  test("sizes and durations", () => {
    assert.deepEqual([0, 1023, 1024, 1536, 200 * 2 ** 20, 2 ** 50].map(formatBytes), [
      "0 B",
      "1023 B",
      "1.0 KiB",
      "1.5 KiB",
      "200 MiB",
      "1.0 PiB",
    ]);
    assert.deepEqual([420, 12_000, 185_000, 7_380_000].map(formatDuration), ["0.4 s", "12 s", "3:05 min", "2:03 h"]);
  });
  test("tables line their columns up", () => {
    assert.deepEqual(
      formatTable(
        [
          ["a", "1"],
          ["bbb", "22"],
        ],
        { right: [1] },
      ),
      ["a     1", "bbb  22"],
    );
  });
  test("a table that is too wide is cut in the middle of what may be cut, nearer to the beginning, and never to nothing", () => {
    const row = ["2026-11-23", "@home/.snapshots/123/snapshot", "incremental, parent x", "1 B"];
    assert.deepEqual(formatTable([row], { right: [3], flexible: [1, 2] }, 50), [
      "2026-11-23  @hom…3/snapshot  incre…, parent x  1 B",
    ]);
    assert.equal(formatTable([row], { flexible: [1] }, 10)[0]?.split("  ")[1], "@ho…snapshot");
    assert.equal(formatTable([row], { flexible: [1] })[0]?.includes("…"), false);
    const why = "one of the last 3, the newest whose snapshot is here";
    assert.deepEqual(formatTable([["a", "snapshots/of/a/long/name", why]], { flexible: [1], prose: 2 }, 50), [
      `a  snap…/long/name  ${why}`,
    ]);
  });
  test("a name cannot break a line or move the cursor", () => {
    assert.equal(printable("a\nb\u001b[2Jc\u009bd"), "a\\x0ab\\x1b[2Jc\\x9bd");
    assert.equal(printable("a\u202eb\u200bc\u2028"), "a\\u202eb\\u200bc\\u2028");
    assert.equal(printable(printable("a\n\u202e")), printable("a\n\u202e"));
    assert.equal(printable("Grüße \u4f60\u597d \u{1f600}"), "Grüße \u4f60\u597d \u{1f600}");
  });
});

describe("no character that a terminal obeys", () => {
  const evil = "name\u001b]0;evil\u0007\u009b2J\u007f\r\u202e";
  const harmless = (text: string): void => {
    assert.match(text, /name/);
    assert.doesNotMatch(text, /[\u0000-\u0009\u000b-\u001f\u007f-\u009f\u202e]/);
  };
  const shown = (show: (stream: Terminal) => unknown, isTTY = false): string => {
    const { stream, text } = terminal(isTTY);
    show(stream);
    return text();
  };

  test("comes out of a result, as text, table or JSON", () => {
    const output = (json: boolean, use: (output: Output) => void) => (stream: Terminal) =>
      use(openOutput(stream, openScreen(stream, {}), { json }));
    harmless(shown(output(false, (to) => to.line(evil))));
    harmless(shown(output(false, (to) => to.table([[evil, "x"]]))));
    const json = shown(output(true, (to) => to.record({ evil })));
    harmless(json);
    assert.deepEqual(JSON.parse(json), { evil });
  });

  test("comes out of the log, in whatever form and wherever it goes", () => {
    for (const format of ["text", "json"] as const) {
      for (const to of ["screen", "journal"] as const) {
        const log = (stream: Terminal): void => {
          const options = { level: "info", format, run: "r", target: { to } } as const;
          openLog(openScreen(stream, {}), options).warn({ field: evil, deep: [evil], err: new Error(evil) }, evil);
        };
        harmless(shown(log));
      }
    }
  });

  test("comes out of the screen, its status line, or a question", async () => {
    harmless(shown((stream) => openScreen(stream, {}).line(`${evil}\nsecond`)));
    harmless(shown((stream) => openScreen(stream, {}).status(evil), true));
    const { stream, text } = terminal(false);
    await confirm(evil, { input: PassThrough.from(["y\n"]), output: stream }, new AbortController().signal);
    harmless(text());
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
  test("a status line that a narrower terminal split into several is erased completely", () => {
    const { stream, text } = terminal(true);
    const screen = openScreen(stream, {});
    screen.status("x".repeat(39));
    Object.assign(stream, { columns: 15 });
    screen.status("y".repeat(20));
    screen.status(null);
    assert.equal(text(), `${"x".repeat(39)}\r\u001b[2A\u001b[J${"y".repeat(14)}\r\u001b[K`);
  });
  test("without a terminal there is no status line, only lines appended", () => {
    const { stream, text } = terminal(false);
    const screen = openScreen(stream, {});
    screen.status("busy");
    screen.line("one");
    openProgress(screen, { now: () => 0, report: () => undefined }).start("x", 1);
    screen.line("two");
    assert.equal(text(), "one\ntwo\n");
  });
  test("results on stdout step around the status line", () => {
    const { stream, text } = terminal(true);
    const screen = openScreen(stream, {});
    screen.status("busy");
    openOutput(stream, screen, { json: false }).line("result");
    assert.equal(text(), "busy\r\u001b[Kresult\nbusy");
  });
  test("colour needs a terminal and no NO_COLOR", () => {
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
      const output = openOutput(stream, openScreen(stream, {}), { json });
      output.line("hello");
      output.table([["a"]]);
      output.record({ type: "x" });
      assert.equal(text(), json ? '{"type":"x"}\n' : "hello\na\n");
    }
  });
});

describe("the log", () => {
  function logged(isTTY: boolean, format: LogFormat, target: LogTarget = { to: "screen" }): string {
    const { stream, text } = terminal(isTTY);
    const log = openLog(openScreen(stream, { NO_COLOR: "1" }), { level: "info", format, run: "r1", target });
    log.debug("unseen");
    log.info("done");
    log.warn({ bytes: 5, secretAccessKey: "hunter2", nested: { token: "hunter2" } }, "careful\n");
    return text();
  }
  test("is short text on a terminal and elsewhere, with its fields and without secrets", () => {
    for (const isTTY of [true, false]) {
      assert.equal(
        logged(isTTY, "text"),
        'done\nwarning: careful\\x0a  bytes=5  secretAccessKey=[redacted]  nested={"token":"[redacted]"}\n',
      );
    }
  });
  test("is a JSON object a line where that is wanted", () => {
    const lines = logged(false, "json")
      .trimEnd()
      .split("\n")
      .map((line) => JSON.parse(line) as Record<string, unknown>);
    assert.deepEqual(
      lines.map(({ level, msg, run, bytes }) => [level, msg, run, bytes]),
      [
        ["info", "done", "r1", undefined],
        ["warn", "careful\n", "r1", 5],
      ],
    );
    assert.equal(logged(false, "json").includes("hunter2"), false);
    assert.ok(!Number.isNaN(Date.parse(String(lines[0]?.["time"]))));
  });
  test("goes to the syslog with real priorities, and then not to the screen", () => {
    const lines: string[] = [];
    assert.equal(logged(false, "text", { to: "syslog", sink: { write: (line) => lines.push(line) } }), "");
    assert.deepEqual(
      lines.map((line) => line.slice(0, 3)),
      ["<6>", "<4>"],
    );
    assert.equal(
      lines.every((line) => line.split("\n").length === 2),
      true,
    );
  });
  test("has priorities in the journal, for every line of a stack, and for JSON where that is wanted", () => {
    const { stream, text } = terminal(false);
    const log = openLog(openScreen(stream, {}), {
      level: "debug",
      format: "text",
      run: "r1",
      target: { to: "journal" },
    });
    log.error({ err: new Error("x") }, "failed");
    const lines = text().trimEnd().split("\n");
    assert.deepEqual(
      [lines[0], lines.every((line) => line.startsWith("<3>")), lines.length > 3],
      ["<3>failed", true, true],
    );
    assert.match(logged(false, "json", { to: "journal" }), /^<6>\{"level":"info".*\n<4>\{/);
  });
});

describe("progress", () => {
  test("never says 100 % before the end, nor more when the estimate was short", () => {
    const shown = (bytes: number, total: number | null, rate: number | null): string =>
      describeTransfer({ bytes, total, rate });
    assert.equal(shown(999, 1000, null), "999 B of 1000 B (99 %)");
    assert.equal(shown(1000, 1000, null), "1000 B of 1000 B (100 %)");
    assert.equal(shown(2000, 1000, 10), "2.0 KiB of 1000 B (99 %), 10 B/s");
    assert.equal(shown(500, null, null), "500 B");
  });
  test("shows the time left no finer than it can be known, and not at all if it is absurd", () => {
    const left = (seconds: number): string =>
      describeTransfer({ bytes: 0, total: seconds * 10, rate: 10 }).split(", ")[2] ?? "nothing";
    assert.deepEqual([1, 32, 58, 100, 3500, 7900, 14_400, 360_000].map(left), [
      "5 s left",
      "35 s left",
      "1 min left",
      "2 min left",
      "58 min left",
      "2 h 10 min left",
      "4 h left",
      "nothing",
    ]);
    assert.equal(describeTransfer({ bytes: 0, total: 10, rate: 0 }), "0 B of 10 B (0 %), stalled");
  });
  test("of several it shows the position and the total; resumed bytes are shown and do not count in the rate", () => {
    const { stream, text } = terminal(true);
    Object.assign(stream, { columns: 200 });
    let now = 0;
    const progress = openProgress(openScreen(stream, {}), { now: () => now, report: () => undefined });
    const last = (): string => text().split("\r\u001b[K").at(-1) ?? "";
    progress.expect(2, 3000);
    progress.start("a", 1000);
    for (now = 500; now <= 3000; now += 500) progress.update(400 + now / 10, 400);
    assert.equal(
      last(),
      "700 B of 2.9 KiB (23 %), 100 B/s, 25 s left; 1 of 2: 700 B of 1000 B (70 %), 400 B resumed: a",
    );
    progress.stop();
    progress.start("b", 2000);
    assert.equal(last(), "1000 B of 2.9 KiB (33 %), 86 B/s, 25 s left; 2 of 2: 0 B of 2.0 KiB (0 %): b");
  });
  test("is stalled only while nothing moves: neither what is read nor what is sent again", () => {
    const { stream, text } = terminal(true);
    Object.assign(stream, { columns: 200 });
    let now = 0;
    const progress = openProgress(openScreen(stream, {}), { now: () => now, report: () => undefined });
    const last = (): string => text().split("\r\u001b[K").at(-1) ?? "";
    progress.start("a", 1000);
    for (now = 1000; now <= 20_000; now += 1000) progress.update(0, 0, now / 100);
    assert.equal(last(), "0 B of 1000 B (0 %), reading: a");
    for (; now <= 50_000; now += 1000) progress.update(now % 2000 === 0 ? 100 : 0, 0, 200);
    assert.match(last(), /^\d+ B of 1000 B \(\d+ %\), \d+ B\/s, .* left: a$/);
    for (; now <= 70_000; now += 1000) progress.update(100, 0, 200);
    assert.equal(last(), "100 B of 1000 B (10 %), stalled: a");
  });
  test("draws at most every 200 ms", () => {
    const { stream, text } = terminal(true);
    let now = 0;
    const progress = openProgress(openScreen(stream, {}), { now: () => now, report: () => undefined });
    progress.start("a", 1000);
    for (now = 1; now <= 1000; now += 1) progress.update(now);
    assert.equal(text().split("\r").length - 1, 5);
  });
  test("shows only the name of a transfer without a size", () => {
    const { stream, text } = terminal(true);
    openProgress(openScreen(stream, {}), { now: () => 0, report: () => undefined }).start("looking around", null);
    assert.equal(text(), "looking around");
  });
  test("while nothing moves the rate sinks, with and without a terminal, until it stops", () => {
    mock.timers.enable({ apis: ["setInterval"] });
    try {
      for (const isTTY of [true, false]) {
        const { stream, text } = terminal(isTTY);
        Object.assign(stream, { columns: 200 });
        let now = 0;
        const lines: string[] = [];
        const progress = openProgress(openScreen(stream, {}), { now: () => now, report: (line) => lines.push(line) });
        progress.start("a", 1000);
        for (now = 1000; now <= 5000; now += 1000) progress.update(now / 10);
        const shown = (): string | undefined => (isTTY ? text().split("\r\u001b[K").at(-1) : lines.at(-1));
        if (isTTY) {
          now = 10_000;
          mock.timers.tick(1000);
          assert.equal(shown(), "500 B of 1000 B (50 %), 50 B/s, 10 s left: a");
        }
        now = 40_000;
        mock.timers.tick(1000);
        assert.equal(shown(), "500 B of 1000 B (50 %), stalled: a");
        progress.stop();
        const before = text() + lines.join();
        now = 80_000;
        mock.timers.tick(1000);
        assert.equal(text() + lines.join(), before);
      }
    } finally {
      mock.timers.reset();
    }
  });
  test("without a terminal is a line every 30 s; when nobody wants to see it, nothing", () => {
    for (const wanted of [true, false]) {
      const { stream, text } = terminal(false);
      const lines: string[] = [];
      let now = 0;
      const progress = openProgress(openScreen(stream, {}), {
        now: () => now,
        report: wanted ? (line) => lines.push(line) : null,
      });
      progress.start("a", 100_000);
      for (now = 0; now <= 65_000; now += 1000) progress.update(now);
      assert.deepEqual(
        lines,
        wanted
          ? [
              "29.3 KiB of 97.7 KiB (30 %), 1000 B/s, 1 min left: a",
              "58.6 KiB of 97.7 KiB (60 %), 1000 B/s, 40 s left: a",
            ]
          : [],
      );
      assert.equal(text(), "");
    }
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
