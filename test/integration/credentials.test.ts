// Logins as real OpenStack clouds have them: the program with what its users have, a Keystone, and a Swift that asks it.

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { readdirSync, readFileSync } from "node:fs";
import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { promisify } from "node:util";
import { openContainer } from "../../src/swift/container.ts";
import { cli, MAIN, type Ran } from "../support/cli.ts";
import { openFaultProxy } from "../support/fault-proxy.ts";
import { openCloud, type Cloud } from "../support/keystone.ts";
import { btrfs, openLoopback, type Loopback } from "../support/loopback.ts";
import { noBtrfs, noKeystone } from "../support/requirements.ts";
import { openTlsProxy } from "../support/tls.ts";
import { compareTrees, makeTree } from "../support/tree.ts";

const MiB = 2 ** 20;
const REGION = "RegionOne";
const { signal } = new AbortController();
const PASSWORD = "pass word's $x";

describe("with a login at Keystone", { skip: noBtrfs() || noKeystone() }, () => {
  let cloud: Cloud;
  let disk: Loopback;
  let home: string;
  let project: string;
  let user: string;
  let dotEnv: Record<string, string>;

  before(async () => {
    [cloud, disk] = await Promise.all([openCloud(REGION), openLoopback({ sizeBytes: 256 * MiB })]);
    const { keystone, swift } = cloud;
    project = cloud.project;
    user = await keystone.addUser("me", PASSWORD, { [project]: "member" });
    dotEnv = {
      ST_AUTH_VERSION: "3",
      OS_USERNAME: "me",
      OS_PASSWORD: PASSWORD,
      OS_PROJECT_NAME: "demo",
      OS_AUTH_URL: keystone.authUrl,
      OS_REGION_NAME: REGION,
    };
    home = join(disk.mountPoint, "home");
    await btrfs("subvolume", "create", home);
    await makeTree(home, { seed: 1, files: 20, bytes: MiB, zoo: false });
    await btrfs("subvolume", "snapshot", "-r", home, join(disk.mountPoint, "one"));
    await swift.createContainer("backup");
  });
  after(() => Promise.all([cloud.close(), disk.close()]));

  const list = (env: Record<string, string>, ...args: string[]): Promise<Ran> =>
    cli(["list", "--container-name", "backup", ...args], { env });

  async function pairsOf(someone: string): Promise<readonly { readonly access: string; readonly secret: string }[]> {
    const { credentials = [] } = await cloud.keystone.request("GET", `/users/${someone}/credentials/OS-EC2`);
    return credentials.map(({ access, secret }) => ({ access: String(access), secret: String(secret) }));
  }

  test("the Python tool's .env and a container's name are enough for sync and restore", async (t) => {
    const file = join(disk.directory, ".env");
    await writeFile(
      file,
      Object.entries(dotEnv)
        .map(([name, value]) => `${name}="${value}"`)
        .join("\n"),
    );
    const store = ["--container-name", "backup", "--env-file", file];
    await t.test("the first run creates S3 keys, and reports that in one line", async () => {
      const { code, stderr } = await cli([home, ...store, "--log-format", "text"]);
      assert.equal(code, 0, stderr);
      assert.equal(
        stderr.split("\n").filter((line) => /created S3 keys for project 'demo'/.test(line)).length,
        1,
        stderr,
      );
      assert.equal((await pairsOf(user)).length, 1);
    });
    await t.test("later runs use them, and create no others", async () => {
      const { code, stdout, stderr } = await cli([home, ...store]);
      assert.equal(code, 0, stderr);
      assert.match(stdout, /up to date/);
      assert.doesNotMatch(stderr, /S3 keys/);
      assert.equal((await pairsOf(user)).length, 1);
    });
    await t.test("restore brings the snapshot back", async () => {
      const target = await openLoopback({ sizeBytes: 256 * MiB });
      try {
        const { stdout } = await cli(["list", ...store, "--json"]);
        const [archive] = (JSON.parse(stdout) as { archives: { key: string }[] }).archives;
        const { code, stderr } = await cli(["restore", ...store, archive?.key ?? "", "--target", target.mountPoint]);
        assert.equal(code, 0, stderr);
        const { differences } = await compareTrees(join(disk.mountPoint, "one"), join(target.mountPoint, "one"));
        assert.deepEqual(differences, []);
      } finally {
        await target.close();
      }
    });
  });

  test("simultaneous runs create one pair, and one of them reports that", async () => {
    const racer = await cloud.keystone.addUser("racer", PASSWORD, { [project]: "member" });
    const runs = await Promise.all([1, 2, 3].map(() => list({ ...dotEnv, OS_USERNAME: "racer" })));
    for (const { code, stderr } of runs) assert.equal(code, 0, stderr);
    assert.equal(runs.filter(({ stderr }) => /created S3 keys/.test(stderr)).length, 1);
    assert.equal((await pairsOf(racer)).length, 1);
  });

  test("a pair is made where users may not choose its name", async () => {
    const proxy = await openFaultProxy(new URL(cloud.keystone.authUrl).origin);
    const early = await cloud.keystone.addUser("early", PASSWORD, { [project]: "member" });
    proxy.plan({
      when: (method, path) => method === "POST" && path === "/v3/credentials",
      fault: { kind: "answer", status: 403 },
    });
    const { code, stderr } = await list({ ...dotEnv, OS_USERNAME: "early", OS_AUTH_URL: proxy.endpoint });
    await proxy.close();
    assert.deepEqual([code, (await pairsOf(early)).length], [0, 1], stderr);
    assert.match(stderr, /created S3 keys/);
  });

  test("no keys are made where that is forbidden", async () => {
    const careful = await cloud.keystone.addUser("careful", PASSWORD, { [project]: "member" });
    const { code, stderr } = await list({ ...dotEnv, OS_USERNAME: "careful" }, "--no-create-credentials");
    assert.deepEqual([code, await pairsOf(careful)], [2, []]);
    assert.match(stderr, /user 'careful' .* has no S3 keys for project 'demo'.*openstack ec2 credentials create/);
  });

  test("keys of another project are not used", async () => {
    const other = await cloud.keystone.addProject("other");
    const both = await cloud.keystone.addUser("both", PASSWORD, { [project]: "member", [other]: "member" });
    await cloud.keystone.request("POST", `/users/${both}/credentials/OS-EC2`, { tenant_id: other });
    const { code, stderr } = await list({ ...dotEnv, OS_USERNAME: "both" });
    assert.equal(code, 0, stderr);
    assert.equal((await pairsOf(both)).length, 2);
    const undecided = await list({ ...dotEnv, OS_USERNAME: "both", OS_PROJECT_NAME: "" });
    assert.equal(undecided.code, 2);
    assert.match(
      undecided.stderr,
      /no project given for user 'both' .*: OS_PROJECT_NAME may be (demo, other|other, demo)/,
    );
  });

  test("clouds.yaml, the project's id, and the user's: each is enough", async () => {
    const config = join(disk.directory, ".config/openstack");
    await mkdir(config, { recursive: true });
    const auth = { auth_url: dotEnv["OS_AUTH_URL"], username: "me", password: PASSWORD, project_name: "demo" };
    await writeFile(join(config, "clouds.yaml"), JSON.stringify({ clouds: { mine: { auth, region_name: REGION } } }));
    const HOME = disk.directory;
    for (const [env, ...args] of [
      [{ HOME, OS_CLOUD: "mine" }],
      [{ HOME, AWS_ACCESS_KEY_ID: "x", AWS_SECRET_ACCESS_KEY: "y" }, "--os-cloud", "mine"],
      [{ ...dotEnv, OS_PROJECT_NAME: "", OS_PROJECT_ID: project, OS_REGION_NAME: "" }],
      [{ ...dotEnv, OS_USERNAME: "", OS_USER_ID: user, OS_AUTH_URL: dotEnv["OS_AUTH_URL"]?.replace("/v3", "") ?? "" }],
    ] as readonly (readonly [Record<string, string>, ...string[]])[]) {
      const { code, stderr } = await list(env, ...args);
      assert.equal(code, 0, stderr);
    }
  });

  test("a token is enough, with or without a project", async () => {
    const { OS_AUTH_URL = "" } = dotEnv;
    for (const env of [{ OS_PROJECT_NAME: "demo" }, {}]) {
      const { code, stderr } = await list({ OS_AUTH_URL, OS_TOKEN: await cloud.requestToken("me", PASSWORD), ...env });
      assert.equal(code, 0, stderr);
    }
    const { code, stderr } = await list({ OS_AUTH_URL, OS_TOKEN: "gAAAAnonsense" });
    assert.equal(code, 13, stderr);
    assert.match(stderr, /refuses this token/);
  });

  test("an s3 service in the catalog comes first, and the region is the one that the store reports", async () => {
    await cloud.keystone.addEndpoint("object-store", "Elsewhere", "http://127.0.0.1:1/v1/AUTH_%(project_id)s");
    await cloud.keystone.addEndpoint("s3", "Elsewhere", cloud.swift.endpoint);
    const { code, stderr } = await list({ ...dotEnv, OS_REGION_NAME: "Elsewhere" });
    assert.equal(code, 0, stderr);
    const undecided = await list({ ...dotEnv, OS_REGION_NAME: "" });
    assert.equal(undecided.code, 0, "one region has S3");
    const lingering = await list({ ...dotEnv, AWS_REGION: "eu-west-1" });
    assert.equal(lingering.code, 0, lingering.stderr);
  });

  describe("what goes wrong is one true sentence and an exit code", () => {
    let without: Cloud["swift"];
    let credential: { readonly id: string; readonly secret: string };
    before(async () => {
      without = await cloud.openSwift({ without: ["s3api", "s3token"] });
      await cloud.keystone.addEndpoint("object-store", "NoS3", `${without.endpoint}/v1/AUTH_%(project_id)s`);
      await cloud.keystone.addUser("reader", PASSWORD, { [project]: "reader" });
      credential = await cloud.addApplicationCredential("me", PASSWORD);
    });
    after(() => without.close());

    const cases: readonly (readonly [
      name: string,
      code: number,
      sentence: RegExp,
      env: () => Record<string, string>,
    ])[] = [
      ["a wrong password", 13, /refuses user 'me' .*OS_PASSWORD/, () => ({ OS_PASSWORD: "wrong of course" })],
      ["an unknown user", 13, /refuses user 'nobody'/, () => ({ OS_USERNAME: "nobody" })],
      [
        "a wrong project",
        13,
        /knows user 'me' .* not as a member of project 'theirs'.* may be demo/,
        () => ({ OS_PROJECT_NAME: "theirs" }),
      ],
      [
        "no endpoint for the region",
        2,
        /no public object store in region 'Mars': .*RegionOne \(public\)/,
        () => ({ OS_REGION_NAME: "Mars" }),
      ],
      ["no endpoint for the interface", 2, /no admin object store/, () => ({ OS_INTERFACE: "admin" })],
      ["no rights", 13, /no right to use container 'backup'/, () => ({ OS_USERNAME: "reader" })],
      ["no s3api in the pipeline", 2, /does not answer like an S3 API.*s3api/, () => ({ OS_REGION_NAME: "NoS3" })],
      [
        "keys that linger in the environment",
        13,
        /refuses these credentials: check AWS_.* come before OS_\*/,
        () => ({ AWS_ACCESS_KEY_ID: "x", AWS_SECRET_ACCESS_KEY: "y" }),
      ],
      [
        "nobody at Keystone's URL",
        75,
        /Keystone cannot be reached: nothing answers at 127\.0\.0\.1:1\b/,
        () => ({ OS_AUTH_URL: "http://127.0.0.1:1/v3" }),
      ],
      [
        "another server at Keystone's URL",
        2,
        /does not answer like Keystone/,
        () => ({ OS_AUTH_URL: cloud.swift.endpoint }),
      ],
      [
        "an application credential", 13, /gives no S3 keys to an application credential.*openstack ec2 credentials create.*AWS_ENDPOINT_URL_S3=http/,
        () => ({ OS_AUTH_TYPE: "v3applicationcredential", OS_APPLICATION_CREDENTIAL_ID: credential.id, OS_APPLICATION_CREDENTIAL_SECRET: credential.secret }),
      ], // prettier-ignore
    ];
    for (const [name, code, sentence, env] of cases) {
      test(name, async () => {
        const ran = await list({ ...dotEnv, ...env() }, "-vv", "--log-format", "text");
        assert.equal(ran.code, code, ran.stderr);
        const errors = ran.stderr.split("\n").filter((line) => line.startsWith("error: "));
        assert.equal(errors.length, 1, ran.stderr);
        assert.match(errors[0] ?? "", sentence);
        for (const secret of [PASSWORD, "wrong of course", credential.secret]) {
          assert.equal((ran.stderr + ran.stdout).includes(secret), false, name);
        }
      });
    }

    test("Keystone down", async () => {
      await cloud.keystone.stop();
      const { code, stderr } = await list(dotEnv);
      await cloud.keystone.start();
      assert.equal(code, 75, stderr);
      assert.match(stderr, /Keystone cannot be reached: nothing answers at 127\.0\.0\.1/);
    });
  });

  test("a Keystone that answers 429 or 503 for a while ends no run whose keys were accepted before", async () => {
    const keystone = await openFaultProxy(new URL(cloud.keystone.authUrl).origin);
    const swift = await cloud.openSwift({}, { s3tokenUrl: `${keystone.endpoint}/v3`, secretCacheSeconds: 0 });
    await swift.createContainer("backup");
    const [pair] = await pairsOf(user);
    const credentials = { accessKeyId: pair?.access ?? "", secretAccessKey: pair?.secret ?? "" };
    const options = {
      containerName: "backup",
      endpoint: swift.endpoint,
      region: REGION,
      credentials,
      userAgent: "test/1",
      retryForMs: 60_000,
      connections: 4,
    };
    const asks = (_: string, path: string): boolean => path === "/v3/s3tokens";
    try {
      const patient = await openContainer(options, undefined, signal);
      for (const status of [429, 503]) {
        keystone.plan({ when: asks, fault: { kind: "answer", status }, times: 2 });
        assert.deepEqual(await patient.list("none", signal), []);
      }
      patient.close();
      const hasty = await openContainer({ ...options, retryForMs: 300 }, undefined, signal);
      keystone.plan({ when: asks, fault: { kind: "answer", status: 503 }, times: "ever" });
      await assert.rejects(hasty.list("none", signal), { code: "STORE_UNAVAILABLE" });
      hasty.close();
      await assert.rejects(openContainer(options, undefined, signal), { code: "ACCESS_DENIED" });
    } finally {
      await swift.close();
      await keystone.close();
    }
  });

  test("no secret is in a log at any level, in an argument of any process, or in a child's environment", async () => {
    const secrets = [PASSWORD, ...(await pairsOf(user)).map(({ secret }) => secret), "gAAAAA"];
    const seen = new Set<string>();
    let text = "";
    for (const [index, level] of [["-vv"], ["-vv", "--log-format", "json"]].entries()) {
      await btrfs("subvolume", "snapshot", "-r", home, join(disk.mountPoint, `logged-${index}`));
      const watching = new AbortController();
      const ran = await cli([home, "--container-name", "backup", ...level], {
        env: dotEnv,
        during: ({ pid = 0 }) => void watchProcesses(pid, seen, watching.signal),
      });
      watching.abort();
      assert.equal(ran.code, 0, ran.stderr);
      text += ran.stdout + ran.stderr;
    }
    const processes = [...seen].join("\n");
    assert.match(processes, /send/);
    for (const secret of secrets) {
      assert.equal(text.includes(secret), false, "in the log");
      assert.equal(processes.includes(secret), false, "in a process");
    }
  });

  test("an authority of one's own is trusted by any of its names, or as one of the system's, and else is not", async () => {
    const [keystone, swift] = await Promise.all([
      openTlsProxy(dotEnv["OS_AUTH_URL"] ?? "", disk.directory),
      openTlsProxy(cloud.swift.endpoint, disk.directory),
    ]);
    try {
      const env = { ...dotEnv, OS_AUTH_URL: `${keystone.url}/v3` };
      for (const name of ["OS_CACERT", "AWS_CA_BUNDLE", "NODE_EXTRA_CA_CERTS", "SSL_CERT_FILE"]) {
        const { code, stderr } = await list({ ...env, [name]: keystone.authority }, "--endpoint", swift.url);
        assert.equal(code, 0, `${name}: ${stderr}`);
      }
      const file = join(disk.directory, "tls.env");
      const lines = Object.entries({ ...env, NODE_EXTRA_CA_CERTS: keystone.authority }).map(
        ([name, value]) => `${name}="${value}"`,
      );
      await writeFile(file, lines.join("\n"));
      const everything = await cli([
        "doctor",
        home,
        "--container-name",
        "backup",
        "--env-file",
        file,
        "--endpoint",
        swift.url,
      ]);
      assert.equal(everything.code, 0, everything.stdout);
      const ofSystem = `mount --bind "$0" /etc/ssl/certs/ca-certificates.crt && exec "$@" list --container-name backup --endpoint ${swift.url}`;
      const { OS_AUTH_URL } = env;
      await promisify(execFile)(
        "unshare",
        ["--mount", "sh", "-c", ofSystem, keystone.authority, process.execPath, MAIN],
        { env: { PATH: "/usr/bin:/bin", ...dotEnv, OS_AUTH_URL } },
      );
      const { code, stderr } = await list(env, "--endpoint", swift.url);
      assert.equal(code, 2, stderr);
      assert.match(
        stderr,
        /Keystone cannot be reached: the certificate of 127\.0\.0\.1:\d+ is signed by an authority that is not known here.*OS_CACERT/,
      );
      const missing = await list({ ...env, OS_CACERT: "/nowhere.pem" });
      assert.equal(missing.code, 2);
      assert.match(missing.stderr, /cannot read the certificates of \/nowhere\.pem: it does not exist/);
    } finally {
      await Promise.all([keystone.close(), swift.close()]);
    }
  });

  test("doctor reports the login, and what only Swift's own API shows", async () => {
    await cloud.setQuota("backup", 10 * MiB * 1024);
    const { code, stdout, stderr } = await cli(["doctor", home, "--container-name", "backup"], { env: dotEnv });
    assert.equal(code, 0, stdout + stderr);
    assert.match(
      stdout,
      /^ok +credentials +Keystone at 127\.0\.0\.1:\d+: the S3 keys of user 'me' \(domain default\) for project 'demo'$/m,
    );
    assert.match(
      stdout,
      /^ok +quota +account: \d+ [KM]iB used, no quota; container backup: \d+ [KM]iB used, quota 10 GiB(; container backup\+segments: \d+ [KM]iB used, no quota)?$/m,
    );
    assert.equal((stdout + stderr).includes(PASSWORD), false);
  });

  test("a quota that is used up is detected before anything is sent", async () => {
    const { native } = cloud.swift;
    await native.putContainer("full");
    await native.putObject("full", "theirs", Buffer.from("x"));
    await native.request("POST", "/full", { headers: { "x-container-meta-quota-count": "1" } });
    const { code, stderr } = await cli([home, "--container-name", "full", "--no-encryption"], { env: dotEnv });
    assert.equal(code, 3, stderr);
    assert.match(stderr, /the quota of the container full is used up: nothing was sent: have the quota raised/);
    assert.equal((await native.request("HEAD", "/full%2Bsegments")).status, 404);
  });
});

/** Arguments of the process and of its children, and the environments of these, as often as can be looked. */
async function watchProcesses(pid: number, seen: Set<string>, signal: AbortSignal): Promise<void> {
  while (!signal.aborted) {
    seen.add(read(`/proc/${pid}/cmdline`));
    for (const child of childrenOf(pid)) {
      const command = read(`/proc/${child}/cmdline`);
      seen.add(command);
      // Until it has become the program it is to be, it still is its parent, environment and all.
      if (!command.includes("main.js")) seen.add(read(`/proc/${child}/environ`));
    }
    await new Promise((resolve) => setImmediate(resolve));
  }
}

function childrenOf(pid: number): readonly number[] {
  try {
    return readdirSync(`/proc/${pid}/task`).flatMap((task) =>
      read(`/proc/${pid}/task/${task}/children`).split(" ").filter(Boolean).map(Number),
    );
  } catch {
    return []; // It has ended.
  }
}

function read(path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return ""; // It has ended meanwhile.
  }
}
