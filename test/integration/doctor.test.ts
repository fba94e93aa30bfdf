// The doctor as users start it: an exit code that is the sync's, one line a check, and nothing left behind.

import assert from "node:assert/strict";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { cli, type Ran } from "../support/cli.ts";
import { openFaultProxy } from "../support/fault-proxy.ts";
import { btrfs, openLoopback, type Loopback } from "../support/loopback.ts";
import { noBtrfsOrSwift } from "../support/requirements.ts";
import { openSwift, type Swift } from "../support/swift.ts";

interface Told {
  readonly ok: boolean;
  readonly checks: readonly {
    readonly name: string;
    readonly status: string;
    readonly message: string;
    readonly code: string | null;
  }[];
}

describe("doctor", { skip: noBtrfsOrSwift() }, () => {
  let swift: Swift;
  let disk: Loopback;
  let home: string;

  before(async () => {
    [swift, disk] = await Promise.all([openSwift(), openLoopback({ sizeBytes: 128 * 2 ** 20 })]);
    await swift.createContainer("examined");
    home = join(disk.mountPoint, "home");
    const other = join(disk.mountPoint, "other");
    for (const path of [home, other]) await btrfs("subvolume", "create", path);
    await btrfs("subvolume", "snapshot", "-r", home, join(disk.mountPoint, "counted"));
    await btrfs("subvolume", "snapshot", home, join(disk.mountPoint, "writable"));
    await btrfs("subvolume", "snapshot", "-r", other, join(disk.mountPoint, "of-other"));
  });
  after(() => Promise.all([swift.close(), disk.close()]));

  const doctor = (env: Record<string, string> = {}, path = home, ...args: string[]): Promise<Ran> =>
    cli(["doctor", path, "--container-name", "examined", ...args], { env: { ...swift.environment, ...env } });

  test("reports that a sync can succeed, and leaves nothing in the container", async () => {
    const { code, stdout, stderr } = await doctor();
    assert.deepEqual([code, stderr], [0, ""]);
    const lines = stdout.trim().split("\n");
    const names = lines.map((line) => line.split(/ +/).slice(0, 2).join(" "));
    assert.deepEqual(names, [
      "ok program", "ok privileges", "ok btrfs", "ok age", "ok zstd", "ok path", "ok snapshots", "ok credentials", "ok endpoint", "ok clock",
      "ok container", "ok rights", "ok limits", "ok quota",
      "ok archives", "ok chains", "warning encryption", "ok uploads",
    ]); // prettier-ignore
    assert.match(stdout, /1 read-only; not counted: 1 that can be written to \(writable\), 1 of other subvolumes/);
    assert.match(stdout, /Linux \d.*, btrfs-progs \d.*, libbtrfsutil \d/);
    assert.match(stdout, /program .*\d\.\d+\.\d+.*, Node \d.*, AWS SDK 3/);
    assert.match(stdout, /endpoint .*, Swift 2\.\d/);
    const { versions } = JSON.parse((await doctor({}, home, "--json")).stdout) as { versions: Record<string, string> };
    const all = ["program", "kernel", "btrfsProgs", "libbtrfsutil", "age", "zstd", "node", "sdk", "swift"];
    assert.deepEqual(Object.keys(versions), all);
    for (const [name, version] of Object.entries(versions)) assert.match(version, /^\d+(\.\d+)+/, name);
    assert.match(stdout, /objects of up to 5000 GiB: 1000 parts of 5 MiB to 5 GiB/);
    const left = await swift.native.request("GET", "/examined");
    assert.equal(await left.text(), "");
  });

  const cases: readonly (readonly [
    what: string,
    code: number,
    failed: string,
    env: () => Record<string, string>,
    path?: string,
  ])[] = [
    [
      "no rights",
      13,
      "container",
      () => ({ AWS_ACCESS_KEY_ID: swift.reader.accessKey, AWS_SECRET_ACCESS_KEY: swift.reader.secretKey }),
    ],
    [
      "somebody else's keys",
      10,
      "container",
      () => ({ AWS_ACCESS_KEY_ID: swift.stranger.accessKey, AWS_SECRET_ACCESS_KEY: swift.stranger.secretKey }),
    ],
    ["wrong keys", 13, "container", () => ({ AWS_SECRET_ACCESS_KEY: "wrong" })],
    ["nobody at the endpoint", 75, "endpoint", () => ({ AWS_ENDPOINT_URL_S3: "http://127.0.0.1:1" })],
    ["half of the keys", 2, "credentials", () => ({ AWS_SECRET_ACCESS_KEY: "" })],
    ["no btrfs", 15, "path", () => ({}), "/proc"],
  ];
  for (const [what, code, failed, env, path] of cases) {
    test(`exits as the sync would: ${what}`, async () => {
      const ran = await doctor(env(), path, "--json");
      const { ok, checks } = JSON.parse(ran.stdout) as Told;
      assert.deepEqual([ran.code, ok], [code, false]);
      assert.deepEqual(
        checks.filter(({ status }) => status === "failed").map(({ name }) => name),
        [failed],
      );
      assert.equal(ran.stdout.includes(swift.secretKey), false);
    });
  }

  test("does not wait long for a store that begins to fail", async () => {
    const proxy = await openFaultProxy(swift.endpoint);
    proxy.plan({ when: (method) => method === "HEAD", fault: { kind: "answer", status: 503 }, times: "ever" });
    const start = performance.now();
    const { code, stdout } = await doctor({ AWS_ENDPOINT_URL_S3: proxy.endpoint });
    await proxy.close();
    assert.equal(code, 75, stdout);
    assert.match(stdout, /^failed +rights +write failed: .* answers 503/m);
    assert.match(stdout, /^skipped +uploads/m);
    assert.ok(performance.now() - start < 60_000);
  });

  test("a profile of the AWS files is enough: keys, endpoint, and a region that need not be right", async () => {
    const config = join(disk.directory, "config");
    const keys = `aws_access_key_id = ${swift.accessKey}\naws_secret_access_key = ${swift.secretKey}`;
    const services = `[services local]\ns3 =\n  endpoint_url = ${swift.endpoint}\n`;
    await writeFile(
      config,
      `[default]\nregion = x\n[profile mine]\nregion = mars-1\nservices = local\n${keys}\n${services}`,
    );
    const file = join(disk.directory, "profile.env");
    await writeFile(file, `AWS_PROFILE=mine\nAWS_CONFIG_FILE=${config}\n`);
    // The AWS library itself looks into the environment: what lies there must not win over the profile.
    const env = {
      PATH: "/usr/bin:/bin",
      AWS_CONFIG_FILE: "/nowhere",
      AWS_ACCESS_KEY_ID: "lingers",
      AWS_SECRET_ACCESS_KEY: "x",
    };
    const { code, stdout } = await cli(["doctor", home, "--container-name", "examined", "--env-file", file], { env });
    assert.equal(code, 0, stdout);
    assert.match(stdout, /^ok +credentials +the AWS profile 'mine'$/m);
    await writeFile(file, `AWS_PROFILE=other\nAWS_CONFIG_FILE=${config}\nAWS_ENDPOINT_URL_S3=${swift.endpoint}\n`);
    const other = await cli(["doctor", home, "--container-name", "examined", "--env-file", file], { env });
    assert.equal(other.code, 2, other.stdout);
    assert.match(other.stdout, /no credentials for the store: check the AWS profile 'other'/);
    const keysOnly = {
      ...swift.environment,
      AWS_ENDPOINT_URL_S3: "",
      AWS_REGION: "",
      AWS_PROFILE: "mine",
      AWS_CONFIG_FILE: config,
    };
    const beside = await cli(["doctor", home, "--container-name", "examined"], { env: keysOnly });
    assert.equal(beside.code, 0, beside.stdout);
    assert.match(beside.stdout, /^ok +credentials +AWS_ACCESS_KEY_ID and/m);
  });

  test("TempAuth's variables are used as S3 keys, and its proxy is the endpoint", async () => {
    const env = {
      PATH: "/usr/bin:/bin",
      ST_AUTH: `${swift.endpoint}/auth/v1.0`,
      ST_USER: swift.accessKey,
      ST_KEY: swift.secretKey,
    };
    const { code, stdout } = await cli(["doctor", home, "--container-name", "examined"], { env });
    assert.equal(code, 0, stdout);
    assert.match(stdout, /^ok +credentials +ST_USER and ST_KEY$/m);
    const refused = await cli(["doctor", home, "--container-name", "examined"], { env: { ...env, ST_KEY: "wrong" } });
    assert.equal(refused.code, 13);
    assert.match(refused.stdout, /refuses these credentials: check ST_USER and ST_KEY$/m);
  });
});
