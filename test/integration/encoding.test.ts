// Encrypted and compressed archives, end to end: by every way in which they can be stored, brought back by this program
// and by common tools alone.

import assert from "node:assert/strict";
import { mkdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { cli, MAIN, onTerminal, type Ran } from "../support/cli.ts";
import { btrfs, openLoopback, run, withLoopback, type Loopback } from "../support/loopback.ts";
import { noBtrfsOrSwift } from "../support/requirements.ts";
import { openSwift, type Swift } from "../support/swift.ts";
import { changeTree, compareTrees, makeTree } from "../support/tree.ts";

const MiB = 2 ** 20;
const AGE = Buffer.from("age-encryption.org/v1\n");
const ZSTD = Buffer.from("28b52ffd", "hex");
const STREAM = Buffer.from("btrfs-stream\0");

interface Listed {
  readonly key: string;
  readonly path: string;
  readonly encoding: string | null;
  readonly chainLength: number | null;
}

describe("encoded archives", { skip: noBtrfsOrSwift() }, () => {
  let swift: Swift;
  let disk: Loopback;
  let home: string;
  /** Files with the secret key of somebody, by who it is; and what encrypts for them. */
  const identities: Record<string, string> = {};
  const recipients: Record<string, string> = {};

  before(async () => {
    [swift, disk] = await Promise.all([openSwift(), openLoopback({ sizeBytes: 1024 * MiB })]);
    home = join(disk.mountPoint, "home");
    await btrfs("subvolume", "create", home);
    await mkdir(join(disk.mountPoint, "snapshots"));
    await makeTree(home, { seed: 1, files: 40, bytes: 10 * MiB, zoo: true });
    await run("sh", "-c", `yes 'text that shrinks' | head -c ${14 * MiB} > ${home}/text`);
    for (const number of [1, 2]) {
      if (number > 1) await changeTree(home, number);
      await btrfs("subvolume", "snapshot", "-r", home, join(disk.mountPoint, `snapshots/${number}`));
    }
    for (const name of ["owner", "stranger"]) {
      const file = (identities[name] = join(disk.directory, name));
      await run("age-keygen", "-o", file);
      recipients[name] = (await run("age-keygen", "-y", file)).trim();
    }
    const ssh = (identities["ssh"] = join(disk.directory, "ssh"));
    await run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", ssh);
    recipients["ssh"] = (await readFile(`${ssh}.pub`, "utf8")).trim();
  });
  after(async () => {
    await Promise.all([swift.close(), disk.close()]);
  });

  const program = (...args: string[]): Promise<Ran> =>
    cli(args, { env: { ...swift.environment, HOME: disk.directory } });

  async function listed(container: string): Promise<Listed[]> {
    const { stdout } = await program("list", "--container-name", container, "--json");
    return (JSON.parse(stdout) as { archives: Listed[] }).archives;
  }

  async function bodiesOf(container: string, key: string): Promise<Buffer[]> {
    const names = (await (await swift.native.request("GET", `/${container}`)).text()).split("\n");
    const volumes = names.filter((name) => name.startsWith(`${key}/0`));
    return await Promise.all(
      (volumes.length === 0 ? [key] : volumes).map((name) => swift.native.getObject(container, name)),
    );
  }

  async function assertRestored(
    restore: (mountPoint: string) => Promise<unknown>,
    place = "snapshots/",
  ): Promise<void> {
    await withLoopback({ sizeBytes: 512 * MiB }, async ({ mountPoint }) => {
      await restore(mountPoint);
      for (const name of ["1", "2"]) {
        const { differences } = await compareTrees(
          join(disk.mountPoint, "snapshots", name),
          join(mountPoint, `${place}${name}`),
        );
        assert.deepEqual(differences, []);
      }
    });
  }

  const age = (): string[] => ["--age-recipient", recipients["owner"] ?? ""];
  const zstd = ["--compress", "zstd"];
  // Parts of 5 MiB, in volumes of at the most 7 MiB.
  const volumes = ["--volume-size", "7Mi", "--memory", "40Mi"];
  const decoders = { age: "age -d -i IDENTITY", zstd: "zstd -dq" };
  const cases: [name: string, flags: () => string[], encoding: string, magic: Buffer, decode: string][] = [
    ["age", age, "age", AGE, decoders.age],
    ["zstd", () => zstd, "zstd", ZSTD, decoders.zstd],
    ["zstd-age", () => [...zstd, ...age()], "zstd+age", AGE, `${decoders.age} | ${decoders.zstd}`],
    ["age-volumes", () => [...age(), ...volumes], "age", AGE, decoders.age],
    ["zstd-volumes", () => [...zstd, ...volumes], "zstd", ZSTD, decoders.zstd],
    ["zstd-age-volumes", () => [...zstd, ...age(), ...volumes], "zstd+age", AGE, `${decoders.age} | ${decoders.zstd}`],
    ["age-spooled", () => [...age(), "--work-dir", disk.directory], "age", AGE, decoders.age],
    [
      "zstd-age-spooled-volumes",
      () => [...zstd, ...age(), ...volumes, "--work-dir", disk.directory],
      "zstd+age",
      AGE,
      `${decoders.age} | ${decoders.zstd}`,
    ],
  ];
  for (const [name, flags, encoding, magic, decode] of cases) {
    test(`${name}: every object is that and nothing else, and comes back in both ways`, async () => {
      await swift.createContainer(name);
      const sent = await program(home, "--container-name", name, "--no-estimate", ...flags());
      assert.equal(sent.code, 0, sent.stderr);
      assert.equal(/not encrypted/.test(sent.stderr), !encoding.includes("age"), sent.stderr);
      const archives = await listed(name);
      assert.deepEqual(
        archives.map((archive) => [archive.path, archive.encoding, archive.chainLength]),
        [
          ["snapshots/1", encoding, 1],
          ["snapshots/2", encoding, 2],
        ],
      );
      const key = encoding.includes("age") ? ["--identity", identities["owner"] ?? ""] : [];
      const files: string[] = [];
      for (const archive of archives) {
        const bodies = await bodiesOf(name, archive.key);
        assert.ok(name.includes("volumes") ? bodies.every(({ length }) => length <= 7 * MiB) : bodies.length === 1);
        for (const body of bodies) {
          assert.deepEqual(body.subarray(0, magic.length), magic);
          files.push(join(disk.directory, `${name}-${files.length}`));
          await writeFile(files.at(-1) ?? "", body);
        }
      }
      await assertRestored(async (mountPoint) => {
        const { code, stderr } = await program(
          "restore",
          "--container-name",
          name,
          "snapshots/2",
          "--target",
          mountPoint,
          ...key,
        );
        assert.equal(code, 0, stderr);
      });
      await assertRestored(async (mountPoint) => {
        const all = files.map((file) =>
          `${decode.replace("IDENTITY", identities["owner"] ?? "")} < ${file}`.replace(
            /^(.*?)( \|.*)? < (.*)$/,
            "$1 < $3$2",
          ),
        );
        await run("bash", "-o", "pipefail", "-ec", `{ ${all.join(" && ")}; } | btrfs receive -q -C ${mountPoint}`);
      }, "");
      const verified = await program("verify", "--container-name", name, "--read-data", "--no-progress", ...key);
      assert.deepEqual([verified.code, verified.stderr], [0, ""]);
    });
  }

  test("each of several recipients opens it, of every kind; nobody else does", async () => {
    await swift.createContainer("many");
    const file = join(disk.directory, "recipients");
    await writeFile(file, `# of the company\n${recipients["ssh"] ?? ""}\n`);
    const { code, stderr } = await program(home, "--container-name", "many", ...age(), "--age-recipients-file", file);
    assert.equal(code, 0, stderr);
    for (const [name, expected] of [
      ["owner", 0],
      ["ssh", 0],
      ["stranger", 12],
    ] as const) {
      const args = [
        "restore",
        "--container-name",
        "many",
        "snapshots/1",
        "--stdout",
        "--identity",
        identities[name] ?? "",
      ];
      const ran = await program(...args);
      assert.equal(ran.code, expected, ran.stderr);
    }
    const without = await program("restore", "--container-name", "many", "snapshots/1", "--stdout");
    assert.equal(without.code, 12, without.stderr);
  });

  test("what cannot shrink is stored as it is, and that is reported", async () => {
    const random = join(disk.mountPoint, "random");
    await btrfs("subvolume", "create", random);
    await run("sh", "-c", `head -c ${6 * MiB} /dev/urandom > ${random}/file`);
    await btrfs("subvolume", "snapshot", "-r", random, join(disk.mountPoint, "snapshots/random"));
    await swift.createContainer("random");
    const { code, stdout, stderr } = await program(random, "--container-name", "random", ...zstd);
    assert.equal(code, 0, stderr);
    assert.match(stdout, /not compressed: it would hardly shrink/);
    const [archive] = await listed("random");
    assert.equal(archive?.encoding, "identity");
    assert.deepEqual((await bodiesOf("random", archive.key))[0]?.subarray(0, STREAM.length), STREAM);
  });

  test("nothing depends on metadata that is lost or wrong", async () => {
    for (const [name, encoding] of [
      ["zstd-age", null],
      ["age", "identity"],
    ] as const) {
      const [first] = await listed(name);
      const path = `/${name}/${encodeURIComponent(first?.key ?? "")}`;
      const headers: Record<string, string> = encoding === null ? {} : { "x-object-meta-btrfs-encoding": encoding };
      assert.equal((await swift.native.request("POST", path, { headers })).status, 202);
      const key = ["--identity", identities["owner"] ?? ""];
      await assertRestored(async (mountPoint) => {
        const { code, stderr } = await program(
          "restore",
          "--container-name",
          name,
          "snapshots/2",
          "--target",
          mountPoint,
          ...key,
        );
        assert.equal(code, 0, stderr);
      });
    }
  });

  test("an identity behind a passphrase is asked for on the terminal, once for a whole chain", async () => {
    const locked = join(disk.directory, "locked");
    const typed = { prompt: "passphrase", input: "correct horse\n" };
    await onTerminal(["age", "-p", "-o", locked, identities["owner"] ?? ""], typed, {});
    const words = [
      process.execPath,
      MAIN,
      "restore",
      "--container-name",
      "age",
      "snapshots/2",
      "--identity",
      locked,
      "--target",
    ];
    await assertRestored(async (mountPoint) => {
      const ran = await onTerminal([...words, mountPoint], typed, swift.environment);
      assert.equal(ran.code, 0, ran.stdout);
      assert.equal(ran.stdout.match(/Enter passphrase/g)?.length, 1, ran.stdout);
    });
    const wrong = await onTerminal([...words, disk.mountPoint], { ...typed, input: "wrong\n" }, swift.environment);
    assert.equal(wrong.code, 2, wrong.stdout);
    assert.match(wrong.stdout, /cannot unlock the identity/);
    const nobody = await program("restore", "--container-name", "age", "snapshots/2", "--stdout", "--identity", locked);
    assert.equal(nobody.code, 2, nobody.stderr);
  });

  describe("a run with impossible options ends at once, with one sentence", () => {
    const wrong: [string, string[], RegExp, Record<string, string>][] = [
      [
        "a recipient that is none",
        ["--age-recipient", "age1nobody"],
        /age does not accept the recipients: .*age1nobody/,
        {},
      ],
      ["a recipients file that is not there", ["--age-recipients-file", "/nowhere"], /recipients: .*\/nowhere/, {}],
      [
        "a plugin that is not there",
        ["--age-recipient", "age1yubikey1qwt50d05nh5vutpdzmlg5wn80xq5negm4uj9ghv0snvdd3yysf5yw3rhl3t"],
        /age-plugin-yubikey/,
        {},
      ],
      ["required, and nobody is named", ["--require-encryption"], /--require-encryption requires.*no recipient/, {}],
      [
        "required by the environment",
        [],
        /REQUIRE_ENCRYPTION requires/,
        { BTRFS_SNAPSHOTS_TO_SWIFT_REQUIRE_ENCRYPTION: "yes" },
      ],
      ["required and forbidden", ["--require-encryption", "--no-encryption"], /--require-encryption forbids/, {}],
      ["forbidden, with a recipient", ["--no-encryption", "--age-recipient", "x"], /exclude each other/, {}],
      ["a compression that is none", ["--compress", "gzip"], /zstd:LEVEL/, {}],
    ];
    for (const [name, args, sentence, env] of wrong) {
      test(name, async () => {
        const ran = await cli([home, "--container-name", "none", ...args], { env: { ...swift.environment, ...env } });
        assert.equal(ran.code, 2, ran.stderr);
        assert.match(ran.stderr, sentence);
        assert.deepEqual([ran.stderr.trim().split("\n").length, ran.stdout], [1, ""]);
      });
    }
  });

  test("encryption is dropped only on request, and begun with a warning about what stays readable", async () => {
    const letters = join(disk.mountPoint, "letters");
    await btrfs("subvolume", "create", letters);
    const takeSnapshot = (name: string) =>
      btrfs("subvolume", "snapshot", "-r", letters, join(disk.mountPoint, `snapshots/${name}`));
    await takeSnapshot("letters-1");
    await swift.createContainer("letters");
    const store = ["--container-name", "letters"];
    assert.equal((await program(letters, ...store, ...age())).code, 0);
    await takeSnapshot("letters-2");
    const [first] = await listed("letters");
    for (const metadata of ["kept", "lost"]) {
      if (metadata === "lost")
        await swift.native.request("POST", `/letters/${encodeURIComponent(first?.key ?? "")}`, {});
      for (const how of metadata === "lost" ? [[]] : [[], ["--plan"], ["--dry-run"]]) {
        const refused = await program(letters, ...store, ...how);
        assert.deepEqual([refused.code, refused.stdout], [2, ""], `${metadata} ${how.join()}: ${refused.stderr}`);
        assert.match(refused.stderr, /letters are encrypted.*--age-recipient.*--no-encryption/);
        assert.doesNotMatch(refused.stderr, /archives are not encrypted/, "nothing is stored, and nothing is readable");
      }
    }
    const examined = await program("doctor", letters, ...store);
    assert.equal(examined.code, 2, examined.stdout);
    assert.match(examined.stdout, /^failed +encryption .*--no-encryption/m);
    assert.equal((await listed("letters")).length, 1);
    const meant = await program(letters, ...store, "--no-encryption");
    assert.equal(meant.code, 0, meant.stderr);
    await takeSnapshot("letters-3");
    const begun = await program(letters, ...store, ...age());
    assert.equal(begun.code, 0, begun.stderr);
    assert.match(begun.stderr, /older archives of .*letters are not encrypted and stay readable/);
  });

  test("there is no warning with --no-encryption", async () => {
    await swift.createContainer("meant");
    const { code, stderr } = await program(home, "--container-name", "meant", "--no-encryption", "--no-progress");
    assert.deepEqual([code, stderr], [0, ""]);
  });
});
