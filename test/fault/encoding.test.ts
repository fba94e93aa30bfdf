// The programs of the row between btrfs and the store come to harm, one after the other, at moments left to chance: what
// is committed is always the complete stream, and what was to be encrypted never lies there in any other form.
//
//   KILLS=100 SEED=2 node dist/test/run.js fault/encoding      as often as that, at other moments

import assert from "node:assert/strict";
import type { ChildProcess } from "node:child_process";
import { createHash } from "node:crypto";
import { chmod, mkdir, readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { chanceOf } from "../campaign/chance.ts";
import { cli, type Ran, type Surroundings } from "../support/cli.ts";
import { openFaultProxy } from "../support/fault-proxy.ts";
import { btrfs, openLoopback, run, type Loopback } from "../support/loopback.ts";
import { noBtrfsOrSwift } from "../support/requirements.ts";
import { openSwift, type Swift } from "../support/swift.ts";

const MiB = 2 ** 20;
const KILLS = Number(process.env["KILLS"] ?? 16);
/** Of the moments; which programs are hit, and by what, goes in turn. */
const SEED = process.env["SEED"] ?? "1";
const SIGNALS = ["SIGKILL", "SIGTERM", "SIGSEGV", "SIGPIPE", "SIGSTOP"] as const;

describe("the programs that encode", { skip: noBtrfsOrSwift() }, () => {
  let swift: Swift;
  let disk: Loopback;
  let home: string;
  let identity: string;
  let recipient: string;
  let digest: string;

  before(async () => {
    [swift, disk] = await Promise.all([openSwift(), openLoopback({ sizeBytes: 512 * MiB })]);
    home = join(disk.mountPoint, "home");
    await btrfs("subvolume", "create", home);
    await run(
      "sh",
      "-c",
      `head -c ${9 * MiB} /dev/urandom > ${home}/random; yes text | head -c ${9 * MiB} > ${home}/text`,
    );
    await btrfs("subvolume", "snapshot", "-r", home, join(disk.mountPoint, "snapshot"));
    await btrfs("filesystem", "sync", disk.mountPoint);
    identity = join(disk.directory, "identity");
    await run("age-keygen", "-o", identity);
    recipient = (await run("age-keygen", "-y", identity)).trim();
    const send = `btrfs send -q --proto 2 --compressed-data ${join(disk.mountPoint, "snapshot")} | sha256sum`;
    digest = (await run("sh", "-c", send)).slice(0, 64);
  });
  after(async () => {
    await Promise.all([swift.close(), disk.close()]);
  });

  async function sync(container: string, flags: readonly string[], surroundings: Surroundings = {}): Promise<Ran> {
    await swift.createContainer(container);
    const args = [
      home,
      "--container-name",
      container,
      "--age-recipient",
      recipient,
      "--no-estimate",
      "--memory",
      "25Mi",
      ...flags,
    ];
    return await cli(args, {
      ...surroundings,
      env: { ...swift.environment, HOME: disk.directory, ...surroundings.env },
    });
  }

  async function namesIn(container: string): Promise<string[]> {
    const answer = await swift.native.request("GET", `/${encodeURIComponent(container)}`);
    return answer.ok ? (await answer.text()).split("\n").filter((name) => name !== "" && !name.endsWith("/proof")) : [];
  }

  /** Everything that is stored is encrypted, also the parts of failed uploads; an archive always holds the complete stream. */
  async function assertSound(container: string, { code, stderr }: Ran): Promise<void> {
    const names = await namesIn(container);
    const key = names.find((name) => !name.includes("/"));
    assert.equal(key !== undefined, code === 0, `${String(code)}: ${stderr}`);
    const volumes = names.filter((name) => name.includes("/"));
    const bodies = volumes.length > 0 || key === undefined ? volumes : [key];
    const streams: Buffer[] = [];
    for (const name of bodies) {
      const body = await swift.native.getObject(container, name);
      assert.equal(body.subarray(0, 21).toString("latin1"), "age-encryption.org/v1");
      const file = join(disk.directory, container);
      await writeFile(file, body);
      const plain = `age -d -i ${identity} ${file} > ${file}.1; if zstd -qt ${file}.1 2>/dev/null; then zstd -dqf ${file}.1 -o ${file}.2; else mv ${file}.1 ${file}.2; fi`;
      await run("bash", "-ec", plain);
      streams.push(await readFile(`${file}.2`));
    }
    for (const name of await namesIn(`${container}+segments`)) {
      if (!/\/\d+$/.test(name) || !name.endsWith("/1")) continue;
      const part = await swift.native.getObject(`${container}+segments`, name);
      // Manifests and proofs have sizes and checksums of the stored objects, and nothing of the stream.
      if (isList(part)) continue;
      assert.equal(part.subarray(0, 21).toString("latin1"), "age-encryption.org/v1");
    }
    if (key === undefined) return;
    assert.equal(createHash("sha256").update(Buffer.concat(streams)).digest("hex"), digest);
  }

  test(`${KILLS} of them, killed or stopped at a moment left to chance`, async () => {
    const ways = [[], ["--compress", "zstd"], ["--volume-size", "6Mi"], ["--compress", "zstd", "--volume-size", "6Mi"]];
    const outcomes = { stored: 0, failed: 0 };
    let turn = 0;
    const player = async (): Promise<void> => {
      for (let mine = turn++; mine < KILLS; mine = turn++) {
        const flags = [...(ways[mine % ways.length] ?? []), "--limit-upload", "16Mi"];
        const container = `killed-${mine}`;
        const ran = await sync(container, flags, { during: harm(mine) });
        await assertSound(container, ran);
        outcomes[ran.code === 0 ? "stored" : "failed"] += 1;
      }
    };
    await Promise.all([player(), player()]);
    console.log(
      `seed ${SEED}: ${outcomes.failed} runs failed and left no archive, ${outcomes.stored} were done before they were hit`,
    );
    assert.ok(outcomes.failed > KILLS / 4);
  });

  /** Hits one of the programs that a run has started; one that is only stopped holds the run up, which is then ended. */
  function harm(number: number) {
    return async (child: ChildProcess): Promise<void> => {
      const victims = [/^btrfs\0send\0-q/, /^age\0--encrypt/, /^zstd\0--compress/];
      const pattern = victims[number % victims.length] ?? /^age\0/;
      const signal = SIGNALS[number % SIGNALS.length] ?? "SIGKILL";
      await sleep(chanceOf(SEED, number).int(0, 1000));
      let isHit = false;
      while (!isHit && child.exitCode === null) {
        // Where nothing is compressed there is no zstd.
        const pid = (await findChild(child, pattern)) ?? (await findChild(child, /^age\0--encrypt/));
        isHit = pid !== null && hit(pid, signal);
        if (!isHit) await sleep(10);
      }
      if (signal !== "SIGSTOP") return;
      await sleep(500);
      child.kill("SIGTERM");
    };
  }

  const stand: [name: string, script: string, reason: RegExp][] = [
    ["dies at once", "exit 1", /age exited with status 1/],
    ["dies in the middle", `head -c 3000000 | "$real" "$@"; kill -9 $$`, /age was killed by SIGKILL/],
    ["exits with 0 in the middle", `head -c 3000000 | "$real" "$@"; exit 0`, /age did not read all of its input/],
    ["reads nothing and exits with 0", "exit 0", /age (did not read all of its input|wrote what does not begin)/],
    ["passes everything on as it is", "exec cat", /age wrote what does not begin like the output of age/],
    [
      "reads everything and writes nothing",
      "exec cat >/dev/null",
      /age wrote what does not begin like the output of age/,
    ],
  ];
  for (const [index, [name, script, reason]] of stand.entries()) {
    test(`an age that ${name} commits nothing, and the next run does`, async () => {
      const PATH = await standIn(`age-${index}`, script);
      const ran = await sync(`stand-${index}`, [], { env: { PATH } });
      assert.equal(ran.code, 3, ran.stderr);
      assert.match(ran.stderr, reason);
      await assertSound(`stand-${index}`, ran);
      const again = await sync(`stand-${index}`, []);
      assert.equal(again.code, 0, again.stderr);
      await assertSound(`stand-${index}`, again);
    });
  }

  test("waits for an age that never reads, until the run is stopped", async () => {
    const PATH = await standIn("age-deaf", "exec sleep 1000");
    const during = async (child: ChildProcess): Promise<void> => {
      while ((await findChild(child, /^sleep\0/)) === null) await sleep(20);
      await sleep(500);
      child.kill("SIGTERM");
    };
    const ran = await sync("deaf", [], { env: { PATH }, during });
    assert.equal(ran.code, 143, ran.stderr);
    await assertSound("deaf", ran);
  });

  test("reuses finished volumes; for other recipients, or without the checkpoints, they are sent again", async () => {
    const others = join(disk.directory, "others");
    await run("age-keygen", "-o", others);
    const other = ["--age-recipient", (await run("age-keygen", "-y", others)).trim()];
    const state = join(disk.directory, "state");
    const env = { STATE_DIRECTORY: state };
    for (const [container, more, forget] of [
      ["same", [], false],
      ["other", other, false],
      ["forgotten", [], true],
    ] as const) {
      const flags = ["--volume-size", "6Mi"];
      const proxy = await openFaultProxy(swift.endpoint);
      const during = (child: ChildProcess): void => {
        // The note on the second was written before the third is begun.
        const when = (method: string, path: string): boolean => method === "POST" && /000003\?uploads/.test(path);
        proxy.plan({ when, fault: { kind: "hang" }, then: () => child.kill("SIGKILL") });
      };
      const byProxy = { ...env, AWS_ENDPOINT_URL_S3: proxy.endpoint };
      assert.equal((await sync(container, flags, { during, env: byProxy })).code, "SIGKILL");
      await proxy.close();
      assert.match(await run("find", state, "-name", "*.json", "-perm", "600"), /json/);
      if (forget) await rm(state, { recursive: true });
      const resumed = await sync(container, [...flags, ...more, "--json"], { env });
      assert.equal(resumed.code, 0, resumed.stderr);
      const receipt = resumed.stdout.split("\n").find((line) => line.includes('"receipt"')) ?? "{}";
      const { stored } = JSON.parse(receipt) as { stored: { bytes: number; resumedBytes: number } };
      if (container === "same")
        assert.ok(stored.resumedBytes > 11 * MiB && stored.resumedBytes < stored.bytes, receipt);
      else assert.equal(stored.resumedBytes, 0);
      await assertSound(container, resumed);
      // Nothing of it was left that was made for the first one alone.
      if (more.length > 0) await run("age", "-d", "-i", others, "-o", "/dev/null", join(disk.directory, container));
      assert.equal(await run("find", state, "-name", "*.json"), "", "a note outlives its archive");
    }
  });

  /** An `age` that is the real one when it is tried for the first time, and then does something else. */
  async function standIn(name: string, script: string): Promise<string> {
    const folder = join(disk.directory, name);
    await mkdir(folder);
    const first = `if mkdir ${folder}/tried 2>/dev/null; then exec "$real" "$@"; fi`;
    await writeFile(join(folder, "age"), `#!/bin/bash\nreal=/usr/bin/age\n${first}\n${script}\n`);
    await chmod(join(folder, "age"), 0o755);
    return `${folder}:/usr/bin:/bin`;
  }
});

/** False when there is no such process any more. */
function hit(pid: number, signal: NodeJS.Signals): boolean {
  try {
    return process.kill(pid, signal);
  } catch {
    return false;
  }
}

async function findChild({ pid }: ChildProcess, command: RegExp): Promise<number | null> {
  const children = await readFile(`/proc/${pid}/task/${pid}/children`, "utf8").catch(() => "");
  for (const child of children
    .trim()
    .split(" ")
    .filter((word) => word !== "")) {
    if (command.test(await readFile(`/proc/${child}/cmdline`, "utf8").catch(() => ""))) return Number(child);
  }
  return null;
}

function isList(part: Buffer): boolean {
  try {
    return (JSON.parse(part.toString("latin1")) as { readonly format?: unknown }).format === 1;
  } catch {
    return false;
  }
}
