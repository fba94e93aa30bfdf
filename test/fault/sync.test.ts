// `btrfs send` that comes to harm while its stream is on its way into the store: nothing may stand there afterwards that
// looks like an archive.

import assert from "node:assert/strict";
import type { ChildProcess } from "node:child_process";
import { chmod, mkdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { cli, type Ran } from "../support/cli.ts";
import { openFaultProxy } from "../support/fault-proxy.ts";
import { btrfs, openLoopback, run, type Loopback } from "../support/loopback.ts";
import { noBtrfsOrSwift } from "../support/requirements.ts";
import { openSwift, type Swift } from "../support/swift.ts";

const MiB = 2 ** 20;

describe("a sender with faults", { skip: noBtrfsOrSwift() }, () => {
  let swift: Swift;
  let disk: Loopback;
  let home: string;

  before(async () => {
    [swift, disk] = await Promise.all([openSwift(), openLoopback({ sizeBytes: 512 * MiB })]);
    home = join(disk.mountPoint, "home");
    await btrfs("subvolume", "create", home);
    await run("sh", "-c", `head -c ${40 * MiB} /dev/urandom > ${home}/file`);
    await btrfs("subvolume", "snapshot", "-r", home, join(disk.mountPoint, "first"));
    await btrfs("subvolume", "snapshot", "-r", home, join(disk.mountPoint, "second"));
  });
  after(async () => {
    await Promise.all([swift.close(), disk.close()]);
  });

  async function sync(container: string, env: Record<string, string> = {}): Promise<Ran> {
    await swift.createContainer(container);
    const args = [home, "--container-name", container, "--memory", "25Mi", "--no-estimate"];
    return await cli(args, { env: { ...swift.environment, ...env } });
  }

  /**
   * The same over a way that holds up the first part until something was done to `btrfs send`. More than fits the memory
   * is still to come then: it waits for room in its pipe.
   */
  async function syncHarmed(container: string, harm: (sender: number) => Promise<void>): Promise<Ran> {
    await swift.createContainer(container);
    const proxy = await openFaultProxy(swift.endpoint);
    const args = [home, "--container-name", container, "--memory", "25Mi", "--no-estimate"];
    const env = { ...swift.environment, AWS_ENDPOINT_URL_S3: proxy.endpoint };
    let goOn = (): void => undefined;
    const until = new Promise<void>((resolve) => (goOn = resolve));
    let harmed: Promise<void> = Promise.resolve();
    const ran = await cli(args, {
      env,
      during: (child) => {
        const then = (): void => void (harmed = senderOf(child).then(harm).finally(goOn));
        const isPart = (method: string, path: string): boolean => method === "PUT" && path.includes("partNumber=");
        proxy.plan({ when: isPart, fault: { kind: "hold", until }, then });
        // Others that come at the same time.
        proxy.plan({ when: isPart, fault: { kind: "hold", until }, times: "ever" });
      },
    });
    await harmed;
    await proxy.close();
    return ran;
  }

  async function objects(container: string): Promise<string[]> {
    const answer = await swift.native.request("GET", `/${container}`);
    return (await answer.text()).split("\n").filter((name) => name !== "" && !name.endsWith("/proof"));
  }

  /** The first snapshot is not stored, `others` that do not need it are, and a good run then stores what is missing. */
  async function assertFirstNotStored(
    container: string,
    ran: Ran,
    reason: RegExp,
    others: string[] = [],
  ): Promise<void> {
    assert.equal(ran.code, 3, ran.stderr);
    assert.match(ran.stderr, reason);
    assert.deepEqual(
      (await objects(container)).map((key) => key.slice(40)),
      others,
    );
    assert.equal((await sync(container)).code, 0);
    assert.equal((await objects(container)).length, 2);
    const verify = ["verify", "--container-name", container, "--read-data"];
    const verified = await cli(verify, { env: swift.environment });
    assert.equal(verified.code, 0, verified.stderr);
  }

  test("killed", async () => {
    const ran = await syncHarmed("killed", async (sender) => void process.kill(sender, "SIGKILL"));
    await assertFirstNotStored("killed", ran, /first is not archived: .*was killed by SIGKILL/, ["second"]);
  });

  test("stopped and continued, after which it may write what is no stream and exit with 0", async () => {
    const ran = await syncHarmed("paused", async (sender) => {
      for (let times = 0; times < 5; times += 1) {
        if (!signal(sender, "SIGSTOP")) return; // Found out, and ended, already.
        await sleep(50);
        signal(sender, "SIGCONT");
        await sleep(50);
      }
    });
    await assertFirstNotStored("paused", ran, /first is not archived: .*the send stream is damaged/, ["second"]);
  });

  test("exits with 1 after some of its data", async () => {
    const env = await standIn("exits", 'head -c 15000000 "$stream"; echo "ERROR: planned" >&2; exit 1');
    await assertFirstNotStored("exits", await sync("exits", env), /exited with status 1: planned/);
  });

  test("exits with 0 after some of its data", async () => {
    const env = await standIn("lies", 'head -c 15000000 "$stream"; exit 0');
    await assertFirstNotStored("lies", await sync("lies", env), /the send stream is damaged/);
  });

  test("writes nothing and exits with 0", async () => {
    const env = await standIn("silent", "exit 0");
    await assertFirstNotStored("silent", await sync("silent", env), /there is nothing at byte 0/);
  });

  /** A `btrfs` that is first in PATH and does this instead of sending; everything else it leaves to the real one. */
  async function standIn(name: string, instead: string): Promise<Record<string, string>> {
    const folder = join(disk.directory, name);
    const stream = join(folder, "stream");
    await mkdir(folder);
    await btrfs("send", "-q", "--proto", "2", "--compressed-data", "-f", stream, join(disk.mountPoint, "first"));
    const real = (await run("sh", "-c", "command -v btrfs")).trim();
    const script = `#!/bin/sh\nstream=${stream}\ncase "$*" in *help*) exec ${real} "$@";; send*) ${instead};; esac\nexec ${real} "$@"\n`;
    await writeFile(join(folder, "btrfs"), script);
    await chmod(join(folder, "btrfs"), 0o755);
    return { PATH: `${folder}:/usr/bin:/bin` };
  }
});

/** False when there is no such process any more. */
function signal(pid: number, name: "SIGSTOP" | "SIGCONT"): boolean {
  try {
    return process.kill(pid, name);
  } catch {
    return false;
  }
}

/** The process id of the `btrfs send` that a process has started. */
async function senderOf({ pid = 0 }: ChildProcess): Promise<number> {
  const children = await readFile(`/proc/${pid}/task/${pid}/children`, "utf8");
  for (const child of children.split(" ").filter(Boolean)) {
    const command = await readFile(`/proc/${child}/cmdline`, "utf8").catch(() => "");
    if (command.includes("\0send\0-q")) return Number(child);
  }
  throw new Error("no btrfs send is running");
}
