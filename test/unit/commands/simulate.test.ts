// The command simulate with a history: no network, no login, no btrfs.

import assert from "node:assert/strict";
import { copyFileSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { cli } from "../../support/cli.ts";

describe("simulate", () => {
  let directory: string;
  let history: string;
  let config: string;
  before(() => {
    directory = mkdtempSync(join(tmpdir(), "simulate-"));
    [history, config] = [join(directory, "history"), join(directory, "config.yaml")];
    const day = (number: number): string => new Date(Date.UTC(2026, 0, 1 + number, 3)).toISOString();
    const lines = Array.from({ length: 41 }, (_, at) => JSON.stringify({ otime: day(at), bytes: at === 0 ? 4096 : 8 }));
    writeFileSync(history, lines.join("\n"));
    const target = (name: string, keep: string): string => `  ${name}: { container: c, keep: { daily: ${keep} } }\n`;
    writeFileSync(config, `targets:\n${target("home", "5")}${target("srv", "7")}`);
  });
  after(() => rmSync(directory, { recursive: true }));

  test("shows what was assumed, the states over time, and the end without rules", async () => {
    const { code, stdout, stderr } = await cli(["simulate", "--history", history, "--keep-last", "3"], {
      env: { TZ: "Europe/Berlin" },
    });
    assert.deepEqual([code, stderr], [0, ""]);
    assert.match(stdout, /: 41 snapshots, 2026-01-01 04:00 to 2026-02-10 04:00$/m);
    assert.match(stdout, /^keep rules: the last 3 \(days of Europe\/Berlin\)$/m);
    assert.match(stdout, /by the same rules \(assumed; --keep-local/);
    assert.match(stdout, /^30 days +31 +28 +4\.2 KiB +4\.2 KiB +31 +4\.2 KiB$/m);
    assert.match(stdout, /^40 days +41 +38 +4\.3 KiB/m);
    assert.match(stdout, /^without rules +41 +0 +4\.3 KiB +4\.3 KiB +41 /m);
  });

  test("prints records, from stdin, by the rules of the configuration file", async () => {
    const words = ["simulate", "--history", "-", "--days", "50", "--config", config, "--use", "srv", "--json"];
    const input = `${readFileSync(history, "utf8")}\n`;
    const { code, stdout } = await cli([...words, "--keep-local", "2d"], { input, env: { TZ: "UTC" } });
    assert.equal(code, 0);
    const records = stdout
      .trimEnd()
      .split("\n")
      .map((each) => JSON.parse(each) as Record<string, unknown>);
    assert.deepEqual(records[0], {
      type: "history",
      snapshots: 41,
      from: "2026-01-01T03:00:00.000000000Z",
      to: "2026-02-10T03:00:00.000000000Z",
      fulls: 0,
    });
    assert.deepEqual(records[1], { type: "rules", keep: "7 days", keepLocal: "2 days", timeZone: "UTC" });
    assert.deepEqual(
      records
        .slice(2)
        .map(({ type, rules, days, archives, uploadedBytes }) => [...[type, rules, days, archives, uploadedBytes]]),
      [
        ["state", true, 30, 31, 4096 + 30 * 8],
        ["state", true, 50, 51, 4096 + 50 * 8],
        ["state", false, 50, 51, 4096 + 50 * 8],
      ],
    );
  });

  test("needs no target where the rules are typed, although the configuration file has several", async () => {
    const env = { XDG_CONFIG_HOME: directory, HOME: directory };
    const at = join(directory, "btrfs-snapshots-to-swift");
    mkdirSync(at);
    copyFileSync(config, join(at, "config.yaml"));
    const typed = await cli(["simulate", "--history", history, "--keep", "3d"], { env });
    assert.equal(typed.code, 0, typed.stderr);
    assert.match(typed.stderr, /has several targets, and none is used: choose one with --use NAME/);
    const none = await cli(["simulate", "--history", history], { env });
    assert.equal(none.code, 2);
    assert.match(none.stderr, /no keep rules are given: give some, as in --keep "30d/);
  });

  test("ends at Ctrl-C", async () => {
    const words = ["simulate", "--history", history, "--days", "3650", "--keep-daily", "all"];
    const { code, stderr } = await cli(words, {
      during: (child) => child.stdout?.once("data", () => child.kill("SIGINT")),
    });
    assert.deepEqual([code, stderr], [130, "stopped by SIGINT\n"]);
  });

  test("refuses what it cannot simulate in one sentence", async () => {
    const broken = join(directory, "broken");
    writeFileSync(broken, `{"otime":"2026-01-01T03:00:00Z","bytes":1}\n{"otime":"2026-01-02T03:00:00Z","bytes":-1}\n`);
    const refused: readonly (readonly [words: readonly string[], sentence: RegExp])[] = [
      [["--history", broken], /^error: line 2 of the history cannot be used: bytes is no whole number of 0 or more\n$/],
      [["--history", join(directory, "missing")], /^error: cannot read the history \S+missing: it does not exist\n$/],
      [["--history", history, "--days", "4000"], /^error: --days takes a whole number from 1 to 3650, not "4000"\n$/],
      [["--history", history, "/home"], /^error: PATH and --history are both given: /],
      [["--history", history, "--keep-local", "0d"], /^error: --keep-local keeps nothing: /],
      [["--history", history, "--keep-local", "x"], /^error: --keep-local takes counts /],
      [[], /^error: no PATH given: use simulate PATH.*--history FILE\n$/],
    ];
    for (const [words, sentence] of refused) {
      const { code, stdout, stderr } = await cli(["simulate", "--keep", "3d", ...words]);
      assert.deepEqual([code, stdout], [2, ""], words.join(" "));
      assert.match(stderr, sentence);
    }
  });
});
