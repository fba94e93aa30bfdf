// A backup disk of other programs (btrbk, snbk): what lies on it was received from elsewhere, and has no living source.

import assert from "node:assert/strict";
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { cli, type Ran } from "../support/cli.ts";
import { parseExposition } from "../support/exposition.ts";
import { btrfs, openLoopback, run, type Loopback } from "../support/loopback.ts";
import { noBtrfsOrSwift } from "../support/requirements.ts";
import { openSwift, type Swift } from "../support/swift.ts";

const MiB = 2 ** 20;
const CONTAINER = "received";

describe("a disk of received snapshots", { skip: noBtrfsOrSwift() }, () => {
  let swift: Swift;
  let machine: Loopback;
  let disk: Loopback;
  let other: Loopback;

  before(async () => {
    [swift, machine, disk, other] = await Promise.all([
      openSwift(), openLoopback({ sizeBytes: 256 * MiB }), openLoopback({ sizeBytes: 256 * MiB }), openLoopback({ sizeBytes: 256 * MiB }),
    ]); // prettier-ignore
    await swift.createContainer(CONTAINER);
    await run(
      "mkdir",
      join(machine.mountPoint, "snapshots"),
      join(disk.mountPoint, "backup"),
      join(other.mountPoint, "backup"),
    );
    for (const name of ["home", "www"]) {
      await btrfs("subvolume", "create", join(machine.mountPoint, name));
      for (const day of [1, 2, 3, 4]) await take(name, day);
    }
    // As thinning leaves them: 3 was received on top of 2, which is gone, and 4 on top of another one than the last.
    await copy(disk, "home", 1);
    await copy(disk, "home", 2, 1);
    await copy(disk, "www", 1);
    await copy(disk, "home", 3, 2);
    await copy(disk, "www", 2, 1);
    await copy(disk, "home", 4, 2);
    await btrfs("subvolume", "delete", join(disk.mountPoint, "backup/home.20260102"));
  });
  after(async () => {
    await Promise.all([swift.close(), machine.close(), disk.close(), other.close()]);
  });

  const program = (...args: string[]): Promise<Ran> =>
    cli(args, { env: { ...swift.environment, HOME: disk.directory } });
  const sync = (path: string, ...more: string[]): Promise<Ran> =>
    program("sync", path, "--container-name", CONTAINER, "--no-encryption", ...more);
  const pathOf = ({ mountPoint }: Loopback, name: string, day: number, folder = "backup"): string =>
    join(mountPoint, folder, `${name}.2026010${day}`);

  async function take(name: string, day: number): Promise<void> {
    const subvolume = join(machine.mountPoint, name);
    await writeFile(join(subvolume, `file-${day}`), `${name} ${day} `.repeat(20_000));
    await btrfs("subvolume", "snapshot", "-r", subvolume, pathOf(machine, name, day, "snapshots"));
  }

  /** As btrbk does it. */
  async function copy(to: Loopback, name: string, day: number, parent?: number): Promise<void> {
    const base = parent === undefined ? [] : ["-p", pathOf(machine, name, parent, "snapshots")];
    await pipe(join(to.mountPoint, "backup"), ...base, pathOf(machine, name, day, "snapshots"));
  }

  async function pipe(directory: string, ...sent: readonly string[]): Promise<void> {
    const script = 'set -o pipefail; into="$1"; shift; btrfs send -q "$@" | btrfs receive -q "$into"';
    await run("bash", "-c", script, "pipe", directory, ...sent);
  }

  const differences = async (one: string, two: string): Promise<string> =>
    await run("rsync", "-aHAXn", "--checksum", "--delete", "-i", `${one}/`, `${two}/`);

  /** `home.4<home.3` */
  const steps = ({ stdout }: Ran): string[] =>
    stdout
      .trim()
      .split("\n")
      .map((line) => JSON.parse(line) as Record<string, unknown>)
      .filter(({ type }) => type === "step")
      .map(({ path, sendParent }) =>
        [path, ...(sendParent === null ? [] : [(sendParent as { path: string }).path])]
          .map((each) => String(each).replace(/.*\/(.*)\.2026010/, "$1."))
          .join("<"),
      );

  test("is recognised without --received, with advice", async () => {
    const { code, stderr } = await sync(disk.mountPoint);
    assert.equal(code, 2);
    assert.match(
      stderr,
      /has no read-only snapshots; 5 snapshots were received here from another disk or machine \(backup\/home\.20260101, /,
    );
    assert.match(stderr, new RegExp(`use ${disk.mountPoint}/backup --received to archive them`));
    const directory = await sync(join(disk.mountPoint, "backup"));
    assert.equal(directory.code, 15);
    assert.match(directory.stderr, /5 snapshots were received here from another disk or machine .*: use --received/);
    const snapshot = await sync(pathOf(disk, "home", 1));
    assert.match(
      snapshot.stderr,
      /is itself a read-only snapshot, received from another disk or machine: use --received/,
    );
    const none = await sync(join(machine.mountPoint, "snapshots"), "--received");
    assert.equal(none.code, 2);
    assert.match(none.stderr, /no read-only snapshot in \S+ was received: use the path of the subvolume/);
  });

  const doctor = (path: string, ...more: string[]): Promise<Ran> =>
    program("doctor", path, "--container-name", CONTAINER, "--no-encryption", ...more);

  test("is examined by the doctor, with the findings of sync", async () => {
    const { code, stdout, stderr } = await doctor(disk.mountPoint, "--received");
    assert.equal(code, 0, stdout + stderr);
    assert.match(stdout, /^ok +snapshots +5 received$/m);
    assert.match(stdout, /^ok +archives +0 snapshots archived, 5 to send$/m);
    const nothing = join(machine.mountPoint, "snapshots");
    const [none, synced] = [await doctor(nothing, "--received"), await sync(nothing, "--received")];
    assert.deepEqual([none.code, synced.code], [2, 2], none.stdout);
    const sentence = /no read-only snapshot in \S+ was received: use the path of the subvolume.*/;
    assert.equal(sentence.exec(none.stdout)?.[0], sentence.exec(synced.stderr)?.[0]);
    const empty = await doctor(nothing, "--received", "--allow-empty");
    assert.deepEqual([empty.code, /^warning +snapshots .* was received/m.test(empty.stdout)], [0, true], empty.stdout);
  });

  test("is archived, each origin as a chain of its own", async () => {
    const planned = await sync(disk.mountPoint, "--received", "--plan", "--json");
    assert.deepEqual(
      [planned.code, steps(planned)],
      [0, ["home.1", "home.3<home.1", "home.4<home.3", "www.1", "www.2<www.1"]],
    );
    const metrics = join(disk.directory, "received.prom");
    const { code, stderr, stdout } = await sync(disk.mountPoint, "--received", "--metrics-file", metrics);
    assert.equal(code, 0, stderr);
    assert.match(stdout, /\(backup\/home\.\*\): 3 snapshots, 0 archived/);
    assert.match(stdout, /\(backup\/www\.\*\): 2 snapshots, 0 archived/);
    const samples = parseExposition(await readFile(metrics, "utf8"));
    const value = (metric: string): number | undefined => samples.find(({ name }) => name.endsWith(metric))?.value;
    assert.deepEqual([value("pending_snapshots"), value("sent_snapshots"), value("broken_archives")], [0, 5, 0]);
    const again = await sync(join(disk.mountPoint, "backup"), "--received", "--json");
    assert.deepEqual([again.code, steps(again), again.stderr], [0, [], ""], "the directory means the same");
    const config = join(disk.directory, "received.yaml");
    await writeFile(config, `targets: { disk: { container: ${CONTAINER}, received: true } }\n`);
    const examined = await program("doctor", disk.mountPoint, "--config", config);
    assert.match(examined.stdout, /^ok +archives +5 snapshots archived, 0 to send$/m);
  });

  test("is listed and verified by chain", async () => {
    const listed = await program("list", "--container-name", CONTAINER, disk.mountPoint, "--received");
    assert.equal(listed.code, 0, listed.stderr);
    assert.equal(listed.stdout.match(/^subvolume /gm)?.length, 2);
    assert.equal(listed.stdout.match(/ both$/gm)?.length, 5);
    const verified = await program(
      "verify",
      "--container-name",
      CONTAINER,
      disk.mountPoint,
      "--received",
      "--against-local",
    );
    assert.equal(verified.code, 0, verified.stderr);
    assert.match(verified.stdout, /5 of 5 archives compared with the snapshots here/);
    assert.match(verified.stdout, /no damage found$/m);
  });

  test("archives later snapshots incrementally, also when the first ones are gone", async () => {
    await take("home", 5);
    await copy(disk, "home", 5, 4);
    await btrfs("subvolume", "delete", pathOf(disk, "home", 1));
    const { code, stderr, stdout } = await sync(disk.mountPoint, "--received", "--json");
    assert.deepEqual([code, steps({ code, stderr, stdout })], [0, ["home.5<home.4"]], stderr);
    assert.match(
      (await program("list", "--container-name", CONTAINER)).stdout,
      /4 archived[^]*2 archived|2 archived[^]*4 archived/,
    );
  });

  test("is restored to an empty filesystem, and to the disk that lost one", async () => {
    const [original, target] = [pathOf(machine, "home", 5, "snapshots"), join(machine.directory, "empty")];
    const empty = await openLoopback({ sizeBytes: 256 * MiB });
    try {
      const restored = await program(
        "restore",
        "--container-name",
        CONTAINER,
        pathOf(disk, "home", 5),
        "--target",
        empty.mountPoint,
      );
      assert.equal(restored.code, 0, `${restored.stderr} ${target}`);
      assert.match(restored.stdout, /4 archives received/);
      assert.equal(await differences(original, pathOf(empty, "home", 5)), "");
    } finally {
      await empty.close();
    }
    await btrfs("subvolume", "delete", pathOf(disk, "home", 5));
    const restored = await program(
      "restore",
      "--container-name",
      CONTAINER,
      "backup/home.20260105",
      "--target",
      disk.mountPoint,
    );
    assert.equal(restored.code, 0, restored.stderr);
    assert.match(restored.stdout, /1 archive received/);
    assert.equal(await differences(original, pathOf(disk, "home", 5)), "");
    const synced = await sync(disk.mountPoint, "--received", "--json");
    assert.deepEqual([synced.code, steps(synced), synced.stderr], [0, [], ""], "it is the one that is archived");
  });

  test("that is one of several sends nothing again that another one has sent, and continues from there", async () => {
    await take("home", 6);
    for (const [day, parent] of [[3, undefined], [4, 3], [5, 4], [6, 5]] as const) await copy(other, "home", day, parent); // prettier-ignore
    const { code, stderr, stdout } = await sync(other.mountPoint, "--received", "--json");
    assert.deepEqual([code, steps({ code, stderr, stdout })], [0, ["home.6<home.5"]], stderr);
    const empty = await openLoopback({ sizeBytes: 256 * MiB });
    try {
      const restored = await program(
        "restore",
        "--container-name",
        CONTAINER,
        "backup/home.20260106",
        "--target",
        empty.mountPoint,
      );
      assert.equal(restored.code, 0, restored.stderr);
      assert.equal(await differences(pathOf(machine, "home", 6, "snapshots"), pathOf(empty, "home", 6)), "");
    } finally {
      await empty.close();
    }
    const verified = await program("verify", "--container-name", CONTAINER, "--read-data");
    assert.equal(verified.code, 0, verified.stderr);
  });

  test("gives one back: what builds on it is sent in full, with the reason", async () => {
    const container = "returned";
    await swift.createContainer(container);
    const archive = (name: string): Promise<Ran> =>
      program("sync", join(machine.mountPoint, name), "--container-name", container, "--no-encryption", "--json");
    assert.equal((await archive("www")).code, 0);
    await run("mkdir", join(machine.mountPoint, "back"));
    await pipe(join(machine.mountPoint, "back"), pathOf(disk, "www", 2));
    await btrfs("subvolume", "snapshot", pathOf(machine, "www", 2, "back"), join(machine.mountPoint, "again"));
    await btrfs("subvolume", "snapshot", "-r", join(machine.mountPoint, "again"), pathOf(machine, "again", 1, "back"));
    const { code, stdout, stderr } = await archive("again");
    assert.deepEqual([code, steps({ code, stdout, stderr })], [0, ["again.1"]], stderr);
    assert.match(
      stderr,
      /back\/www\.20260102, from which this subvolume was made, was received from a copy of snapshots\/www\.20260102, .*sent in full/,
    );
  });

  test("reports a snapshot that is there twice", async () => {
    await run("mkdir", join(disk.mountPoint, "again"));
    await pipe(join(disk.mountPoint, "again"), pathOf(machine, "www", 1, "snapshots"));
    const twice = await sync(disk.mountPoint, "--received");
    assert.equal(twice.code, 0, twice.stderr);
    assert.match(
      twice.stderr,
      /again\/www\.20260101 is a copy of the same snapshot as backup\/www\.20260101: one archive serves both/,
    );
    assert.match(
      (await doctor(disk.mountPoint, "--received")).stdout,
      /^warning +archives .*again\/www\.20260101 is a copy of the same snapshot as backup\/www\.20260101/m,
    );
    await btrfs("subvolume", "delete", pathOf(disk, "www", 1, "again"));
    await btrfs("subvolume", "snapshot", "-r", pathOf(disk, "www", 2), join(disk.mountPoint, "again/www.20260109"));
    assert.match((await sync(disk.mountPoint, "--received")).stderr, /again\/www\.20260109 is a copy of the same/);
  });
});
