// A line that becomes a ladder: archives are sent again on better parents, and nothing is ever lost on the way.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { cli, type Ran } from "../support/cli.ts";
import { openFaultProxy, type FaultProxy } from "../support/fault-proxy.ts";
import { btrfs, openLoopback, type Loopback } from "../support/loopback.ts";
import { noBtrfsOrSwift } from "../support/requirements.ts";
import { openSwift, type Swift } from "../support/swift.ts";
import { compareTrees } from "../support/tree.ts";

const MiB = 2 ** 20;
const NAMES = ["a", "b", "c", "d", "e"];

interface Listed {
  readonly path: string;
  readonly key: string;
  readonly bytes: number;
  readonly chainLength: number | null;
  readonly sendParent: { readonly uuid: string } | null;
  readonly uuid: string;
}

describe("rebase", { skip: noBtrfsOrSwift() }, () => {
  let swift: Swift;
  let disk: Loopback;
  let other: Loopback;
  let subvolume: string;
  let identity: string;
  let recipient: string;
  let proxy: FaultProxy;

  before(async () => {
    [swift, disk, other] = await Promise.all([
      openSwift({ limits: { minSegmentSize: 64 * 1024 } }),
      openLoopback({ sizeBytes: 256 * MiB }),
      openLoopback({ sizeBytes: 256 * MiB }),
    ]);
    proxy = await openFaultProxy(swift.endpoint);
    subvolume = join(disk.mountPoint, "vol");
    await btrfs("subvolume", "create", subvolume);
    await mkdir(join(disk.mountPoint, "snaps"));
    for (const [at, name] of NAMES.entries()) {
      await writeFile(join(subvolume, "same"), Buffer.alloc(300_000, at + 1));
      await writeFile(join(subvolume, name), name.repeat(50_000));
      await btrfs("subvolume", "snapshot", "-r", subvolume, local(name));
    }
    identity = join(disk.mountPoint, "identity.txt");
    execFileSync("age-keygen", ["-o", identity], { stdio: "ignore" });
    recipient = execFileSync("age-keygen", ["-y", identity], { encoding: "utf8" }).trim();
  });
  after(async () => {
    proxy.clear();
    await proxy.close();
    await Promise.all([swift.close(), disk.close(), other.close()]);
  });

  const local = (name: string): string => join(disk.mountPoint, "snaps", name);
  /** Only the newest, a and d are kept: d could build on a, and then b and c could go. */
  const rules = ["--keep-last", "1", "--keep", "snaps/a", "--keep", "snaps/d"];

  function program(container: string, words: readonly string[], endpoint = swift.endpoint): Promise<Ran> {
    const env = { ...swift.environment, AWS_ENDPOINT_URL_S3: endpoint };
    return cli([...words, "--container-name", container, "--no-progress"], { env });
  }

  async function succeed(container: string, ...words: string[]): Promise<Ran> {
    const ran = await program(container, words);
    assert.equal(ran.code, 0, `${words.join(" ")}: ${ran.stderr}`);
    return ran;
  }

  /** A line of all snapshots. */
  async function archive(container: string, ...words: string[]): Promise<void> {
    await swift.createContainer(container);
    await succeed(container, "sync", subvolume, "--no-encryption", ...words);
  }

  async function listed(container: string, ...words: string[]): Promise<ReadonlyMap<string, Listed>> {
    const { stdout } = await succeed(container, "list", "--json", ...words);
    const { archives } = JSON.parse(stdout) as { archives: Listed[] };
    return new Map(archives.map((each) => [each.path.replace("snaps/", ""), each]));
  }

  async function lengths(container: string): Promise<string> {
    const found = await listed(container);
    return [...found].map(([name, { chainLength }]) => `${name}${chainLength ?? "!"}`).join(" ");
  }

  async function keysIn(container: string): Promise<string[]> {
    return (await (await swift.native.request("GET", `/${container}`)).text()).split("\n").filter((key) => key !== "");
  }

  async function assertRestores(container: string, name: string, ...words: string[]): Promise<void> {
    const target = join(other.mountPoint, container);
    await mkdir(target, { recursive: true });
    const { stdout } = await succeed(container, "restore", `snaps/${name}`, "--target", target, ...words);
    // Another container's restore may have brought it.
    const restored = /the snapshot is (\S+),/.exec(stdout)?.[1] ?? assert.fail(stdout);
    assert.deepEqual((await compareTrees(local(name), restored)).differences, []);
  }

  test("puts an archive on a better parent, and prune deletes what only it needed", async () => {
    await archive("ladder");
    assert.equal(await lengths("ladder"), "a1 b2 c3 d4 e5");
    const before = await succeed("ladder", "prune", subvolume, ...rules);
    assert.match(before.stdout, /nothing can be deleted/);
    assert.match(
      before.stdout,
      new RegExp(`1 rebase would let .* more be deleted, for example:\n  rebase ${local("d")} `),
    );

    const planned = await succeed("ladder", "rebase", local("d"), ...rules, "-n");
    assert.match(planned.stdout, /snaps\/d: on snaps\/a, at most .* to send, .* to be replaced/);
    assert.equal(await lengths("ladder"), "a1 b2 c3 d4 e5");
    const rebased = await succeed("ladder", "rebase", local("d"), ...rules, "--no-encryption");
    assert.match(rebased.stdout, /rebased snaps\/d/);
    assert.equal(await lengths("ladder"), "a1 b2 c3 d2 e3");
    assert.equal((await program("ladder", ["rebase", local("d"), ...rules])).code, 3);

    await succeed("ladder", "prune", subvolume, ...rules, "--confirm");
    assert.equal(await lengths("ladder"), "a1 d2 e3");
    await succeed("ladder", "verify", "--read-data");
    assert.match((await succeed("ladder", "sync", subvolume, "--no-encryption", ...rules)).stdout, /up to date/);
    await assertRestores("ladder", "e");
    assert.deepEqual(
      (await keysIn("ladder")).filter((key) => /replacement/.test(key)),
      [],
    );
    // The list of volumes, the one volume, and the proof: nothing of the old archive.
    const parts = (await (await swift.native.request("GET", "/ladder+segments")).text()).split("\n");
    assert.equal(parts.filter((part) => part.includes("x2fd/")).length, 3);
  });

  test("keeps encryption, and replaces an archive in volumes as well, again and again", async () => {
    const secret = ["--age-recipient", recipient, "--volume-size", "128Ki"];
    await swift.createContainer("volumes");
    await succeed("volumes", "sync", subvolume, ...secret);
    const refused = await program("volumes", ["rebase", local("d"), ...rules]);
    assert.equal(refused.code, 2);
    assert.match(refused.stderr, /encrypted/);
    await succeed("volumes", "rebase", local("d"), ...rules, ...secret);
    const first = (await keysIn("volumes")).filter((key) => /d\/\d{6}$/.test(key));
    assert.ok(first.length > 0 && !first.some((key) => key.endsWith("/000001")), first.join(" "));
    // Back on the line, and once more.
    await succeed("volumes", "rebase", local("d"), "--keep-last", "9", ...secret);
    assert.match((await program("volumes", ["list", "--identity", identity])).stdout, /d +\S+ \S+ +4/);
    await succeed("volumes", "rebase", local("d"), ...rules, ...secret);
    await succeed("volumes", "prune", subvolume, ...rules, "--confirm");
    await succeed("volumes", "verify", "--read-data", "--identity", identity);
    await assertRestores("volumes", "e", "--identity", identity);
  });

  test("that dies after the old archive was deleted is finished by the next run of anything", async () => {
    const runs: readonly (readonly string[])[] = [
      ["list"],
      ["verify", "--read-data"],
      ["sync", subvolume, "--no-encryption"],
      ["prune", "--leftovers", "--leftover-age", "0s"],
      ["restore", "snaps/e", "--target", join(other.mountPoint), "-n"],
    ];
    for (const [at, words] of runs.entries()) {
      const container = `killed-${at}`;
      await archive(container);
      const ran = await cli(["rebase", local("d"), ...rules, "--no-encryption", "--container-name", container], {
        env: { ...swift.environment, AWS_ENDPOINT_URL_S3: proxy.endpoint },
        during: (child) => {
          proxy.plan({
            when: (method, path) => method === "PUT" && /d(\?|$)/.test(path),
            fault: { kind: "hang", ms: 2000 },
            then: () => child.kill("SIGKILL"),
          });
        },
      });
      assert.equal(ran.code, "SIGKILL", ran.stderr);
      const left = await keysIn(container);
      assert.ok(!left.some((key) => key.endsWith("x2fd")), "the old archive is still there");
      assert.ok(left.some((key) => key.endsWith("x2fd/replacement")));
      const { code, stderr } = await program(container, words);
      assert.equal(code, 0, `${words.join(" ")}: ${stderr}`);
      assert.equal(await lengths(container), "a1 b2 c3 d2 e3", words.join(" "));
      assert.ok(!(await keysIn(container)).some((key) => key.endsWith("replacement")));
      await succeed(container, "verify", "--read-data");
    }
  });

  test("that dies right at its end leaves nothing that the next run of anything does not clear away", async () => {
    await archive("end");
    const ran = await cli(["rebase", local("d"), ...rules, "--no-encryption", "--container-name", "end"], {
      env: { ...swift.environment, AWS_ENDPOINT_URL_S3: proxy.endpoint },
      during: (child) => {
        proxy.plan({
          when: (method, path) => method === "DELETE" && path.includes("d/replacement"),
          fault: { kind: "hang", ms: 2000 },
          then: () => child.kill("SIGKILL"),
        });
      },
    });
    assert.equal(ran.code, "SIGKILL", ran.stderr);
    assert.ok((await keysIn("end")).some((key) => key.endsWith("replacement")));
    assert.equal(await lengths("end"), "a1 b2 c3 d2 e3");
    assert.ok(!(await keysIn("end")).some((key) => key.endsWith("replacement")));
  });

  test("that dies at any other moment leaves intact chains, and the next one finishes", async () => {
    await archive("moments");
    for (let moment = 1; moment <= 40; moment += 1) {
      const ran = await cli(["rebase", local("d"), ...rules, "--no-encryption", "--container-name", "moments"], {
        env: { ...swift.environment, AWS_ENDPOINT_URL_S3: proxy.endpoint },
        during: (child) => {
          let requests = 0;
          proxy.clear();
          proxy.plan({
            when: (_, path) => path.includes("x2fd"),
            fault: { kind: "delay", ms: 0 },
            times: "ever",
            then: () => {
              requests += 1;
              if (requests === moment * 2) child.kill("SIGKILL");
            },
          });
        },
      });
      assert.match(await lengths("moments"), /^a1 b2 c3 (d4 e5|d2 e3)$/);
      if (ran.code !== "SIGKILL") break;
    }
    assert.equal(await lengths("moments"), "a1 b2 c3 d2 e3");
    await succeed("moments", "verify", "--read-data");
    assert.ok(!(await keysIn("moments")).some((key) => /replacement|d\/00000[2-9]/.test(key)));
  });
});
