// Runs that nobody watches: two at once, several subvolumes, what cron and systemd get, and how a run is stopped.

import assert from "node:assert/strict";
import type { ChildProcess } from "node:child_process";
import { once } from "node:events";
import { readFile, writeFile } from "node:fs/promises";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { cli, type Ran } from "../support/cli.ts";
import { parseExposition } from "../support/exposition.ts";
import { openFaultProxy } from "../support/fault-proxy.ts";
import { btrfs, openLoopback, run, type Loopback } from "../support/loopback.ts";
import { noBtrfsOrSwift } from "../support/requirements.ts";
import { openSwift, type Swift } from "../support/swift.ts";

const MiB = 2 ** 20;

describe("a run that nobody watches", { skip: noBtrfsOrSwift() }, () => {
  let swift: Swift;
  let disk: Loopback;
  let small: string;
  let big: string;

  before(async () => {
    [swift, disk] = await Promise.all([openSwift(), openLoopback({ sizeBytes: 512 * MiB })]);
    [small, big] = [join(disk.mountPoint, "small"), join(disk.mountPoint, "big")];
    for (const [subvolume, bytes] of [
      [small, 1000],
      [big, 40 * MiB],
    ] as const) {
      await btrfs("subvolume", "create", subvolume);
      await run("sh", "-c", `head -c ${bytes} /dev/urandom > ${subvolume}/file`);
      await btrfs("subvolume", "snapshot", "-r", subvolume, `${subvolume}-1`);
    }
  });
  after(async () => {
    await Promise.all([swift.close(), disk.close()]);
  });

  const program = (args: string[], during?: (child: ChildProcess) => unknown): Promise<Ran> =>
    cli(args, { env: swift.environment, ...(during === undefined ? {} : { during }) });

  /** A run that is disturbed once a part is stored; no other one comes through before `goOn`, if ever. */
  async function slowSync(
    container: string,
    disturb: (child: ChildProcess, goOn: () => void) => unknown,
    more: string[] = [],
  ): Promise<Ran> {
    const proxy = await openFaultProxy(swift.endpoint);
    let goOn = (): void => undefined;
    const until = new Promise<void>((resolve) => (goOn = resolve));
    const isPart = (method: string, path: string): boolean => method === "PUT" && path.includes("partNumber=");
    proxy.plan({ when: isPart, fault: { kind: "delay", ms: 0 } });
    proxy.plan({ when: isPart, fault: { kind: "hold", until }, times: "ever" });
    const args = ["sync", big, "--container-name", container, "--memory", "20Mi", "-vv", ...more];
    const env = { ...swift.environment, AWS_ENDPOINT_URL_S3: proxy.endpoint };
    const during = (child: ChildProcess): void => {
      let begun = false;
      child.stderr?.on("data", (chunk: Buffer) => {
        if (begun || !/method=PUT .*status=200/.test(chunk.toString())) return;
        begun = true;
        disturb(child, goOn);
      });
    };
    const ran = await cli(args, { env, during });
    await proxy.close();
    return ran;
  }

  test("two at once: the second names the first and exits with 11, or continues after waiting", async () => {
    await swift.createContainer("twice");
    const others: Promise<Ran>[] = [];
    const first = await slowSync("twice", (_, goOn) => {
      others.push(program(["sync", big, "--container-name", "twice"]));
      others.push(program(["sync", big, "--container-name", "twice", "--dry-run"]));
      const waits = new Promise<void>((resolve) => {
        const during = (child: ChildProcess): void =>
          void child.stderr?.on("data", (chunk: Buffer) => {
            if (/waiting for another run/.test(chunk.toString())) resolve();
          });
        others.push(program(["sync", big, "--container-name", "twice", "--wait-lock", "5m"], during));
      });
      void Promise.all([...others.slice(0, 2), waits]).then(goOn);
    });
    assert.equal(first.code, 0, first.stderr);
    const [refused, dry, waited] = await Promise.all(others);
    assert.equal(refused?.code, 11, refused?.stderr);
    assert.match(
      refused.stderr,
      /another run is at work on subvolume .* and container twice: process \d+, since .*: sync .*big/,
    );
    assert.equal(dry?.code, 0, dry?.stderr);
    assert.equal(waited?.code, 0, waited?.stderr);
    assert.match(waited.stderr, /waiting for another run/);
    assert.match(waited.stdout, /up to date: 1 snapshot/);
  });

  test("a restore keeps away from what is being archived", async () => {
    await swift.createContainer("restored");
    assert.equal((await program(["sync", small, "--container-name", "restored"])).code, 0);
    const restore = ["restore", "--container-name", "restored", "small-1", "--target", disk.mountPoint];
    const { lockOfSource, lockDirectory, takeLocks } = await import("../../src/state/lock.ts");
    const uuid = /UUID:\s+(\S{36})/.exec(await btrfs("subvolume", "show", small))?.[1] ?? "";
    const options = {
      directory: lockDirectory({}),
      holder: { pid: 1, command: "sync" },
      waitMs: 0,
      now: () => 0,
      onWait: () => undefined,
    };
    const lock = await takeLocks([lockOfSource("restored", uuid)], options, new AbortController().signal);
    try {
      assert.equal((await program(restore)).code, 11);
      assert.equal((await program([...restore, "--dry-run"])).code, 0);
    } finally {
      lock.close();
    }
  });

  test("several subvolumes: one that fails does not stop the others; the code is 3, and 2 for a path that is none", async () => {
    await swift.createContainer("several");
    const { code, stdout, stderr } = await program([
      join(disk.mountPoint, "nothing"),
      small,
      "/proc",
      big,
      "--container-name",
      "several",
      "--json",
    ]);
    assert.equal(code, 2, stderr);
    const records = stdout
      .trim()
      .split("\n")
      .map((line) => JSON.parse(line) as Record<string, unknown>);
    const summaries = records.filter(({ type }) => type === "summary").map(({ subvolume, sent }) => [subvolume, sent]);
    assert.deepEqual(summaries, [
      [small, 1],
      [big, 1],
    ]);
    assert.match(stderr, /nothing: .*\n(.*\n)*.*\/proc: .*btrfs/);
    assert.equal((await program([small, "/proc", "--container-name", "several"])).code, 3);
    assert.equal((await program([small, big, "--container-name", "several"])).code, 0);
  });

  test("several subvolumes: the others are not tried when the store is unreachable", async () => {
    const { code, stderr } = await program([small, big, "--container-name", "missing-one"]);
    assert.equal(code, 10);
    assert.equal(stderr.trim().split("\n").length, 1, stderr);
  });

  test("reports each subvolume to monitoring, and an unreachable service fails nothing", async () => {
    await swift.createContainer("watched");
    const file = join(disk.directory, "run.prom");
    const args = [small, join(disk.mountPoint, "nothing"), "--container-name", "watched"];
    const { code, stderr } = await program([...args, "--metrics-file", file, "--ping-url", "http://127.0.0.1:1/x"]);
    assert.equal(code, 2);
    assert.match(stderr, /^warning: .*ping to the healthcheck service at 127\.0\.0\.1:1 failed/m);
    const samples = parseExposition(await readFile(file, "utf8"));
    const of = (path: string): unknown =>
      Object.fromEntries(
        samples.filter(({ labels }) => labels["path"] === path).map(({ name, value }) => [name.slice(25), value]),
      );
    const metrics = of(small) as Record<string, number>;
    assert.deepEqual(
      [metrics["exit_code"], metrics["sent_snapshots"], metrics["pending_snapshots"], metrics["chain_length"]],
      [0, 1, 0, 1],
    );
    assert.equal((of(join(disk.mountPoint, "nothing")) as Record<string, number>)["exit_code"], 2);
  });

  test("sends parts over a slow line that leave within half a minute", async () => {
    await swift.createContainer("slow");
    for (const [subvolume, rate, partBytes] of [
      [small, "100Ki", 5 * MiB],
      [big, "100Mi", 16 * MiB],
    ] as const) {
      const args = ["sync", subvolume, "--container-name", "slow", "--limit-upload", rate, "--json"];
      const { code, stdout, stderr } = await program(args);
      assert.equal(code, 0, stderr);
      const key = /"key":"([^"]+)"/.exec(stdout)?.[1] ?? "";
      const head = await swift.native.request("HEAD", `/slow/${encodeURIComponent(JSON.parse(`"${key}"`) as string)}`);
      assert.equal(head.headers.get("x-object-meta-btrfs-part-size"), String(partBytes));
    }
  });

  test("-q prints nothing when all is well, -vv each request", async () => {
    await swift.createContainer("quiet");
    const args = ["sync", small, "--container-name", "quiet", "--log-format", "json"];
    const quiet = await program([...args, "-q"]);
    assert.deepEqual([quiet.code, quiet.stdout], [0, ""]);
    assert.doesNotMatch(quiet.stderr, /"level":"(info|debug|trace)"/);
    const loud = await program([...args, "-vv"]);
    assert.match(loud.stderr, /"level":"trace".*"method":"GET","path":"\/quiet\/".*"status":200/);
    assert.equal(loud.stderr.includes(swift.secretKey), false);
  });

  test("in the journal, lines have priorities", async () => {
    const script = `export JOURNAL_STREAM=$(stat -L -c %d:%i /dev/stderr); exec "$@"`;
    const { MAIN } = await import("../support/cli.ts");
    const journal = await run(
      "sh",
      "-c",
      `( ${script} ) 2>&1 || true`,
      "sh",
      process.execPath,
      MAIN,
      "sync",
      "/proc",
      "--container-name",
      "x",
    );
    assert.match(journal, /^<3>\/proc .*btrfs/);
  });

  for (const [signal, code] of [
    ["SIGINT", 130],
    ["SIGTERM", 143],
    ["SIGHUP", 129],
  ] as const) {
    test(`${signal} stops cleanly with ${code} and reports what will be resumed, and the next run resumes it`, async () => {
      const container = signal.toLowerCase();
      await swift.createContainer(container);
      const stopped = await slowSync(container, (child) => child.kill(signal));
      assert.equal(stopped.code, code, stopped.stderr);
      assert.match(
        stopped.stderr,
        new RegExp(`^stopped by ${signal}; the next run resumes big-1: .* MiB of it are already stored$`, "m"),
      );
      assert.doesNotMatch(stopped.stderr, /^error|code=ABORTED/m);
      const next = await program(["sync", big, "--container-name", container, "--memory", "20Mi"]);
      assert.equal(next.code, 0, next.stderr);
    });
  }

  test("the second signal ends it at once, whatever the first one still waits for", async () => {
    await swift.createContainer("at-once");
    // It receives the last ping, and does not answer: the clean stop hangs, and then comes the second signal.
    let hurry = (): unknown => undefined;
    const service = createServer((request, answer) => {
      if (request.url === "/run/start") answer.end();
      else hurry();
    }).listen(0, "127.0.0.1");
    await once(service, "listening");
    const ping = ["--ping-url", `http://127.0.0.1:${(service.address() as AddressInfo).port}/run`];
    try {
      const stopped = await slowSync(
        "at-once",
        (child) => {
          hurry = () => child.kill("SIGTERM");
          child.kill("SIGINT");
        },
        ping,
      );
      assert.equal(stopped.code, 143, stopped.stderr);
      assert.match(stopped.stderr, /stopped by SIGINT/);
      assert.doesNotMatch(stopped.stderr, /the ping to/);
    } finally {
      service.closeAllConnections();
      service.close();
    }
  });

  test("a target of the configuration file is the only argument needed", async () => {
    await swift.createContainer("by-file");
    const owner = join(disk.directory, "owner.key");
    await run("age-keygen", "-o", owner);
    const recipient = (await run("age-keygen", "-y", owner)).trim();
    const file = join(disk.directory, "config.yaml");
    const target = {
      container: "by-file",
      endpoint: swift.endpoint,
      region: swift.region,
      paths: [small, big],
      recipients: [recipient],
    };
    const limits = { upload: "16Mi", memory: "20Mi", "retry-for": "1m" };
    // JSON is YAML.
    await writeFile(
      file,
      JSON.stringify({ targets: { home: { ...target, limits }, other: { container: "elsewhere" } } }),
    );
    const { AWS_ACCESS_KEY_ID = "", AWS_SECRET_ACCESS_KEY = "" } = swift.environment;
    const env = { AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY };
    const use = ["--config", file, "--use", "home"];
    const started = performance.now();
    const { code, stdout, stderr } = await cli(["sync", ...use, "--json", "-vv"], { env });
    assert.equal(code, 0, stderr);
    assert.ok(performance.now() - started > 2000, "faster than the limit of the file");
    const receipts = stdout
      .trim()
      .split("\n")
      .map((line) => JSON.parse(line) as Record<string, unknown>)
      .filter(({ type }) => type === "receipt");
    assert.deepEqual(
      receipts.map(({ path, stored }) => [path, (stored as Record<string, unknown>)["encoding"]]),
      [
        ["small-1", "age"],
        ["big-1", "age"],
      ],
    );
    const restored = await cli(["restore", ...use, "--identity", owner, "small-1", "--stdout"], { env });
    assert.deepEqual([restored.code, restored.stdout.startsWith("btrfs-stream")], [0, true], restored.stderr);
  });

  test("a reader that goes away is not a failure, and is not reported", async () => {
    const gone = await program(["list", "--container-name", "several"], (child) => child.stdout?.destroy());
    assert.deepEqual([gone.code, gone.stderr], [0, ""]);
  });
});
