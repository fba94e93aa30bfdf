// Leftovers in a container beside complete archives, and which of them may be removed. s3api stores an object before it
// deletes the marker of its upload: a marker that stays makes a finished archive look like an open upload, and an abort
// of that deletes every byte of the archive.

import assert from "node:assert/strict";
import { join } from "node:path";
import { after, afterEach, before, beforeEach, describe, test } from "node:test";
import { cli, type Ran } from "../support/cli.ts";
import { openFaultProxy, type FaultProxy } from "../support/fault-proxy.ts";
import { btrfs, openLoopback, run, type Loopback } from "../support/loopback.ts";
import { noBtrfsOrSwift } from "../support/requirements.ts";
import { openSwift, type Swift } from "../support/swift.ts";

const MiB = 2 ** 20;

describe("leftovers beside archives", { skip: noBtrfsOrSwift() }, () => {
  let swift: Swift;
  let disk: Loopback;
  let home: string;
  let proxy: FaultProxy;

  before(async () => {
    [swift, disk] = await Promise.all([openSwift(), openLoopback({ sizeBytes: 256 * MiB })]);
    home = join(disk.mountPoint, "home");
    await btrfs("subvolume", "create", home);
    await run("sh", "-c", `head -c ${12 * MiB} /dev/urandom > ${home}/file`);
    await btrfs("subvolume", "snapshot", "-r", home, join(disk.mountPoint, "snapshot"));
  });
  after(async () => {
    await Promise.all([swift.close(), disk.close()]);
  });
  beforeEach(async () => {
    proxy = await openFaultProxy(swift.endpoint);
  });
  afterEach(() => proxy.close());

  async function sync(container: string, ...more: string[]): Promise<Ran> {
    await swift.createContainer(container);
    const env = { ...swift.environment, AWS_ENDPOINT_URL_S3: proxy.endpoint };
    return await cli([home, "--container-name", container, "--memory", "25Mi", "--no-encryption", ...more], { env });
  }

  async function names(container: string): Promise<string[]> {
    const answer = await swift.native.request("GET", `/${encodeURIComponent(container)}`);
    return answer.ok ? (await answer.text()).split("\n").filter((name) => name !== "") : [];
  }

  const segments = (container: string): Promise<string[]> => names(`${container}+segments`);
  const markers = async (container: string): Promise<string[]> =>
    (await segments(container)).filter((name) => !/\/\d+$/.test(name));

  /** The marker of the upload that made an object, as a store leaves it that failed between the object and the marker. */
  async function bringBackMarker(container: string): Promise<string> {
    const part = (await segments(container))[0] ?? assert.fail("no segments");
    const marker = part.slice(0, part.lastIndexOf("/"));
    await putSegment(container, marker, "");
    return marker;
  }

  async function putSegment(container: string, name: string, body: string): Promise<void> {
    const path = `/${container}%2Bsegments/${name.split("/").map(encodeURIComponent).join("/")}`;
    assert.equal((await swift.native.request("PUT", path, { body: Buffer.from(body) })).status, 201);
  }

  async function assertIntact(container: string): Promise<void> {
    const { code, stdout, stderr } = await cli(["verify", "--container-name", container, "--read-data"], {
      env: swift.environment,
    });
    assert.equal(code, 0, stderr);
    assert.match(stdout, /read 1 archive to the end, /);
  }

  test("an archive whose upload the store still lists as open keeps every byte", async () => {
    assert.equal((await sync("marked")).code, 0);
    const marker = await bringBackMarker("marked");
    for (const flags of [[], ["--leftover-age", "0"]]) {
      const { code, stderr } = await sync("marked", ...flags);
      assert.equal(code, 0, stderr);
      await assertIntact("marked");
    }
    const env = swift.environment;
    assert.equal(
      (await cli(["verify", "--container-name", "marked", "--remove-leftovers", "--leftover-age", "0"], { env })).code,
      0,
    );
    await assertIntact("marked");
    assert.deepEqual(await markers("marked"), [marker]);
  });

  test("a sync with nothing to send does not list open uploads, for which the store has to read every segment", async () => {
    assert.equal((await sync("idle")).code, 0);
    const before = proxy.seen.length;
    const { code, stdout } = await sync("idle");
    assert.equal(code, 0);
    assert.match(stdout, /^up to date/);
    assert.deepEqual(
      proxy.seen.slice(before).filter((line) => /[?&]uploads\b/.test(line)),
      [],
    );
  });

  test("snapshots are archived even if the store cannot list its open uploads", async () => {
    const isListing = (method: string, path: string): boolean => method === "GET" && /[?&]uploads\b/.test(path);
    proxy.plan({ when: isListing, fault: { kind: "answer", status: 500 }, times: "ever" });
    const { code, stderr } = await sync("unlisted", "--retry-for", "1s");
    assert.equal(code, 0, stderr);
    assert.match(stderr, /cannot look for an interrupted upload to resume/);
    assert.match(stderr, /leftovers of interrupted runs were not removed/);
    await assertIntact("unlisted");
  });

  test("a name that no listing can carry is refused alone, before anything of it is sent", async () => {
    const bad = join(disk.mountPoint, "bad\u0001");
    await btrfs("subvolume", "snapshot", "-r", home, bad);
    try {
      const { code, stderr } = await sync("named", "--retry-for", "1s");
      assert.equal(code, 3, stderr);
      assert.match(stderr, /cannot be archived: its path contains a control character/);
      await assertIntact("named");
      assert.deepEqual(await markers("named"), []);
    } finally {
      await btrfs("subvolume", "delete", bad);
    }
  });

  test("with volumes, a snapshot that vanishes before its turn fails like any other", async () => {
    const early = join(disk.mountPoint, "early");
    await btrfs("subvolume", "create", join(disk.mountPoint, "other"));
    await run("cp", join(home, "file"), join(disk.mountPoint, "other"));
    await btrfs("subvolume", "snapshot", "-r", join(disk.mountPoint, "other"), early);
    // The local snapshots have been listed by then; the stream fails while the store is asked whether one is archived.
    const isInventory = (_: string, path: string): boolean => path.includes("list-type=2") && path.includes("prefix=");
    let vanished = (): void => undefined;
    const until = new Promise<void>((resolve) => (vanished = resolve));
    const vanish = (): void => void btrfs("subvolume", "delete", early).then(vanished);
    proxy.plan({ when: isInventory, fault: { kind: "hold", until }, then: vanish });
    proxy.plan({ when: (method) => method === "HEAD", fault: { kind: "delay", ms: 2_000 } });
    const env = { ...swift.environment, AWS_ENDPOINT_URL_S3: proxy.endpoint };
    await swift.createContainer("vanished");
    const args = [
      join(disk.mountPoint, "other"),
      "--container-name",
      "vanished",
      "--memory",
      "25Mi",
      "--volume-size",
      "6Mi",
    ];
    const { code, stderr } = await cli([...args, "--no-encryption", "--no-estimate"], { env });
    assert.equal(code, 3, stderr);
    assert.match(stderr, /early is not archived/);
  });
});
