// A store that accepts no more: what is reported, what is left, and how a run resumes when there is room again.

import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { cli, type Ran } from "../support/cli.ts";
import { btrfs, openLoopback, type Loopback } from "../support/loopback.ts";
import { noBtrfsOrSwift } from "../support/requirements.ts";
import { openSwift, type Swift } from "../support/swift.ts";

const MiB = 2 ** 20;

describe("a quota", { skip: noBtrfsOrSwift() }, () => {
  let swift: Swift;
  let disk: Loopback;

  before(async () => {
    [swift, disk] = await Promise.all([openSwift(), openLoopback({ sizeBytes: 256 * MiB })]);
  });
  after(async () => {
    await Promise.all([swift.close(), disk.close()]);
  });

  /** With S3 keys alone: nothing can be seen of quotas before. */
  async function world(name: string, mebibytes = 6, count = 3): Promise<(...more: string[]) => Promise<Ran>> {
    await swift.createContainer(name);
    const subvolume = join(disk.mountPoint, name);
    await btrfs("subvolume", "create", subvolume);
    for (let number = 1; number <= count; number += 1) {
      await writeFile(join(subvolume, `file-${number}`), randomBytes(mebibytes * MiB));
      await btrfs("subvolume", "snapshot", "-r", subvolume, `${subvolume}.${number}`);
    }
    return (...more) =>
      cli(["sync", subvolume, "--container-name", name, "--no-encryption", ...more], {
        env: { ...swift.environment, HOME: disk.directory },
      });
  }

  /** Sets a quota, as an operator does. */
  async function setAccountQuota(bytes: string): Promise<void> {
    const login = { "x-auth-user": "admin:admin", "x-auth-key": "admin" };
    const token = (await fetch(`${swift.endpoint}/auth/v1.0`, { headers: login })).headers.get("x-auth-token") ?? "";
    const headers = { "x-auth-token": token, "x-account-meta-quota-bytes": bytes };
    const { status } = await fetch(`${swift.endpoint}/v1/AUTH_test`, { method: "POST", headers });
    assert.equal(status, 204);
  }

  test("in bytes of the account ends the run, counts what is not archived, and nothing is left of what does not fit", async () => {
    const sync = await world("bytes");
    await setAccountQuota("100000");
    const { code, stdout, stderr } = await sync();
    assert.equal(code, 3, stderr);
    assert.match(
      stderr,
      /bytes\.1 is not archived: 127\S+ accepts no more: a quota of the account or of container 'bytes' is used up: have the/,
    );
    assert.match(stderr, /; nothing of it stays in the store /);
    assert.match(
      stdout,
      /^0 snapshots archived, 0 B, 1 failed: bytes\.1, 2 not tried; not archived: 3 of 3 snapshots$/m,
    );
    const segments = await swift.native.request("GET", "/bytes%2Bsegments");
    assert.equal(await segments.text(), "");
    await setAccountQuota("");
    assert.equal((await sync()).code, 0);
  });

  test("in objects, which only refuses that an upload is completed, leaves parts that the next run resumes", async () => {
    const sync = await world("objects");
    await swift.native.request("POST", "/objects", { headers: { "x-container-meta-quota-count": "1" } });
    await swift.native.putObject("objects", "theirs", Buffer.from("x"));
    // All of its parts go up, one of 5 MiB and one of 1.
    const { code, stdout, stderr } = await sync("--json", "--memory", "40Mi");
    assert.equal(code, 3, stderr);
    const failure = stdout.split("\n").find((line) => line.includes('"failure"')) ?? "{}";
    assert.match(failure, /"QUOTA_EXCEEDED"/);
    assert.match(stderr, /what was sent of it stays in the store, and the next run resumes it/);
    assert.match(stdout, /"failed":1,"untried":2,"notArchived":3/);
    await swift.native.request("POST", "/objects", { headers: { "x-container-meta-quota-count": "" } });
    const again = await sync("--memory", "40Mi");
    assert.equal(again.code, 0, again.stderr);
    assert.match(again.stdout, /archived objects\.1 .* 6\.\d+ MiB were already stored/);
  });

  test("that is full after some volumes: the error reports that these stay", async () => {
    const sync = await world("volumes");
    await swift.native.request("POST", "/volumes", { headers: { "x-container-meta-quota-count": "1" } });
    const { code, stderr } = await sync("--volume-size", "5Mi");
    assert.equal(code, 3, stderr);
    assert.match(stderr, /\d volumes? of it stays? in the store, and the next run resumes it/);
    await swift.native.request("POST", "/volumes", { headers: { "x-container-meta-quota-count": "" } });
    const again = await sync("--volume-size", "5Mi");
    assert.equal(again.code, 0, again.stderr);
    assert.match(again.stdout, /archived volumes\.1 .* MiB were already stored/);
  });

  test("in bytes that is used up in the middle of a stream: the earlier parts are kept, and that is reported", async () => {
    const sync = await world("middle", 13, 1);
    const segments = "/middle%2Bsegments";
    await swift.createContainer("middle+segments");
    await swift.native.request("POST", segments, { headers: { "x-container-meta-quota-bytes": `${7 * MiB}` } });
    // For a minute the proxy would take the container for as full as it was at the first part.
    await swift.stop("memcached");
    const { code, stdout, stderr } = await sync("--memory", "10Mi", "--concurrency", "1");
    assert.equal(code, 3, stderr);
    assert.match(stderr, /middle\.1 is not archived: 127\S+ accepts no more: a quota .* is used up/);
    assert.match(stderr, /what was sent of it stays in the store, and the next run resumes it/);
    assert.match(stdout, /^0 snapshots archived, 0 B, 1 failed: middle\.1; not archived: 1 of 1 snapshot$/m);
  });
});
