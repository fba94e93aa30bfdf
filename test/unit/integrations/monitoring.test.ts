// The reports to monitoring: the text of the metrics file, and pings, which never fail a run.

import assert from "node:assert/strict";
import { once } from "node:events";
import { lchown, mkdir, mkdtemp, readdir, readFile, rm, stat, symlink, writeFile } from "node:fs/promises";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir, userInfo } from "node:os";
import { join } from "node:path";
import { describe, test } from "node:test";
import { pino } from "pino";
import { openReporting } from "../../../src/commands/monitoring.ts";
import { lockOfFile, takeLocks, type Lock } from "../../../src/state/lock.ts";
import { formatMetrics, writeMetrics, type SourceReport } from "../../../src/integrations/prometheus.ts";
import { openPing } from "../../../src/integrations/healthcheck.ts";
import { parseExposition } from "../../support/exposition.ts";
import { run } from "../../support/loopback.ts";

const report: SourceReport = {
  container: "backup",
  path: '/home/"x"\\\n',
  exitCode: 0,
  durationMs: 1234.5,
  sentBytes: 2 ** 40,
  sentSnapshots: 2,
  pendingSnapshots: 0,
  chainLength: 7,
  brokenArchives: 0,
  newestArchiveSeconds: 1_699_999_000,
};

describe("the metrics file", () => {
  const value = (text: string, name: string, path: string): number | undefined =>
    parseExposition(text).find((sample) => sample.name.endsWith(name) && sample.labels["path"] === path)?.value;

  test("is what Prometheus reads, whatever paths are called", () => {
    const samples = parseExposition(formatMetrics("", [report], 1_700_000_000_000));
    assert.equal(samples.length, 10);
    assert.deepEqual(new Set(samples.map(({ labels }) => labels["path"])), new Set([report.path]));
    assert.deepEqual(
      samples.map(({ name, value: number }) => [name.replace("btrfs_snapshots_to_swift_", ""), number]),
      [
        ["last_run_timestamp_seconds", 1_700_000_000],
        ["last_success_timestamp_seconds", 1_700_000_000],
        ["exit_code", 0],
        ["duration_seconds", 1.235],
        ["sent_bytes", 2 ** 40],
        ["sent_snapshots", 2],
        ["pending_snapshots", 0],
        ["chain_length", 7],
        ["broken_archives", 0],
        ["newest_archive_timestamp_seconds", 1_699_999_000],
      ],
    );
  });

  test("keeps the last success, what this run did not find out, and the values of others", () => {
    const first = formatMetrics("", [report, { ...report, path: "/srv", chainLength: 3 }], 1000_000);
    const failed = { ...report, path: "/srv", exitCode: 75, pendingSnapshots: null, chainLength: null };
    const second = formatMetrics(first, [failed], 2000_000);
    const kept = ["last_run_timestamp_seconds", "last_success_timestamp_seconds", "exit_code", "chain_length"];
    assert.deepEqual(
      kept.map((name) => value(second, name, "/srv")),
      [2000, 1000, 75, 3],
    );
    assert.deepEqual(
      kept.map((name) => value(second, name, report.path)),
      [1000, 1000, 0, 7],
    );
  });

  test("does not keep the length of a chain that has broken since", () => {
    const first = formatMetrics("", [report], 1000_000);
    const second = formatMetrics(first, [{ ...report, chainLength: Number.NaN, brokenArchives: 2 }], 2000_000);
    assert.match(second, /_chain_length\{.*\} NaN\n/);
    assert.equal(value(second, "broken_archives", report.path), 2);
    assert.match(formatMetrics(second, [{ ...report, path: "/srv" }], 3000_000), /_chain_length\{.*\} NaN\n/);
  });

  test("is replaced in one step, readable for others, and nothing else is left", async () => {
    const directory = await mkdtemp(join(tmpdir(), "metrics-"));
    try {
      const file = join(directory, "b.prom");
      await writeMetrics(file, [report]);
      await writeMetrics(file, [{ ...report, path: "/srv" }]);
      assert.equal(parseExposition(await readFile(file, "utf8")).length, 20);
      assert.equal((await stat(file)).mode & 0o777, 0o644);
      await mkdir(join(directory, "taken"));
      await assert.rejects(writeMetrics(join(directory, "taken"), [report]));
      assert.deepEqual((await readdir(directory)).sort(), ["b.prom", "taken"]);
    } finally {
      await rm(directory, { recursive: true });
    }
  });

  test(
    "is not written through a link of another user",
    { skip: userInfo().uid === 0 ? false : "needs root" },
    async () => {
      const directory = await mkdtemp(join(tmpdir(), "metrics-"));
      try {
        await mkdir(join(directory, "roots"));
        await symlink("roots", join(directory, "link"));
        await lchown(join(directory, "link"), 65534, 65534);
        await assert.rejects(writeMetrics(join(directory, "link/b.prom"), [report]), /link is a link of another user/);
        assert.deepEqual(await readdir(join(directory, "roots")), []);
        // A link in the place of the file is replaced; what it leads to is neither read nor written.
        await writeFile(join(directory, "roots/other"), formatMetrics("", [{ ...report, path: "/other" }], 0));
        await symlink("other", join(directory, "roots/b.prom"));
        await writeMetrics(join(directory, "roots/b.prom"), [report]);
        assert.equal(parseExposition(await readFile(join(directory, "roots/b.prom"), "utf8")).length, 10);
        assert.match(await readFile(join(directory, "roots/other"), "utf8"), /path="\/other"\} 0\n/);
        // Nor does a pipe hold the run.
        await run("mkfifo", join(directory, "roots/pipe.prom"));
        await writeMetrics(join(directory, "roots/pipe.prom"), [report]);
        assert.equal((await stat(join(directory, "roots/pipe.prom"))).isFile(), true);
      } finally {
        await rm(directory, { recursive: true });
      }
    },
  );
});

describe("pings", () => {
  async function pinged(
    status: number,
    exitCode: number,
  ): Promise<{ readonly asked: string[]; readonly warned: string[] }> {
    const asked: string[] = [];
    const server = createServer((request, answer) => {
      asked.push(request.url ?? "");
      answer.writeHead(status).end();
    });
    server.listen(0, "127.0.0.1");
    await once(server, "listening");
    const warned: string[] = [];
    const { port } = server.address() as AddressInfo;
    const ping = openPing(`http://127.0.0.1:${port}/secret?q=1`, (sentence) => warned.push(sentence));
    ping.start();
    await ping.end(exitCode);
    server.close();
    return { asked, warned };
  }

  test("report the start and the end", async () => {
    assert.deepEqual((await pinged(200, 0)).asked, ["/secret/start?q=1", "/secret?q=1"]);
    assert.deepEqual((await pinged(200, 75)).asked, ["/secret/start?q=1", "/secret/75?q=1"]);
  });

  test("are tried twice, and what goes wrong is a warning without the secret in the URL", async () => {
    const { asked, warned } = await pinged(500, 0);
    assert.equal(asked.length, 4);
    assert.match(warned.join("\n"), /at 127\.0\.0\.1:\d+ failed: it answered 500/);
    assert.equal(warned.join("\n").includes("secret"), false);
    const refused: string[] = [];
    await openPing("http://127.0.0.1:1/secret", (sentence) => refused.push(sentence)).end(0);
    assert.equal(refused.length, 1);
  });

  test("need a URL", () => {
    for (const text of ["", "hc-ping.com/x", "file:///etc/passwd"])
      assert.throws(() => openPing(text, () => undefined), { code: "USAGE" });
  });
});

describe("runs that share a metrics file", () => {
  test("keep each other's values", async () => {
    const directory = await mkdtemp(join(tmpdir(), "shared-"));
    const metricsFile = join(directory, "run.prom");
    const log = pino({ level: "silent" });
    const lockFile = (file: string): Promise<Lock> => {
      const holder = { pid: 1, command: "" };
      const options = { directory, holder, waitMs: 30_000, now: () => performance.now(), onWait: () => undefined };
      return takeLocks([lockOfFile(file)], options, new AbortController().signal);
    };
    try {
      const paths = ["/a", "/b", "/c", "/d"];
      const open = paths.map(async (path) => {
        const reporting = await openReporting({ metricsFile, pingUrl: undefined }, { log, lockFile });
        reporting.record({ path, container: "c", exitCode: 0, durationMs: 1, receipts: [], state: null });
        await reporting.end(0);
      });
      await Promise.all(open);
      const samples = parseExposition(await readFile(metricsFile, "utf8")).filter(({ name }) =>
        name.endsWith("exit_code"),
      );
      assert.deepEqual(samples.map(({ labels }) => labels["path"]).sort(), paths);
    } finally {
      await rm(directory, { recursive: true });
    }
  });
});
