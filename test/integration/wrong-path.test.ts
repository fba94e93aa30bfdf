// A PATH that has nothing to archive: never a green run that archives nothing forever, and always advice on what to
// name.

import assert from "node:assert/strict";
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { cli, type Ran } from "../support/cli.ts";
import { btrfs, openLoopback, run, type Loopback } from "../support/loopback.ts";
import { noBtrfsOrSwift } from "../support/requirements.ts";

describe("a PATH without snapshots to archive", { skip: noBtrfsOrSwift() }, () => {
  let disk: Loopback;
  let top: string;
  const at = (name: string): string => join(top, name);
  const snapshot = async (of: string, name: string, ...flags: string[]): Promise<unknown> =>
    btrfs("subvolume", "snapshot", ...flags, at(of), at(name));
  /** The store is not asked: nothing answers there. */
  const sync = async (...args: string[]): Promise<Ran> =>
    cli(["sync", ...args, "--container-name", "backup", "--log-format", "text"], {
      env: { AWS_ACCESS_KEY_ID: "a", AWS_SECRET_ACCESS_KEY: "b", AWS_ENDPOINT_URL_S3: "http://127.0.0.1:1" },
    });

  before(async () => {
    disk = await openLoopback({ sizeBytes: 128 * 2 ** 20 });
    top = disk.mountPoint;
    for (const name of ["@home", "@home/.snapshots", "@mint", "rolled", "lonely"])
      await btrfs("subvolume", "create", at(name));
    for (const name of ["timeshift-btrfs/snapshots/2026-11-23", "timeshift-btrfs/snapshots/2026-11-24", "kept"])
      await mkdir(at(name), { recursive: true });
    for (const number of [1, 2]) {
      await mkdir(at(`@home/.snapshots/${number}`));
      await snapshot("@home", `@home/.snapshots/${number}/snapshot`, "-r");
    }
    await snapshot("@home", "kept/home-1", "-r");
    for (const day of [23, 24]) await snapshot("@mint", `timeshift-btrfs/snapshots/2026-11-${day}/@mint`);
    for (const number of [1, 2]) await snapshot("rolled", `rolled-${number}`, "-r");
    await run("mv", at("rolled"), at("rolled.old"));
    await snapshot("rolled-1", "rolled");
  });
  after(() => disk.close());

  const cases: readonly (readonly [what: string, code: number, path: string, sentences: readonly RegExp[]])[] = [
    [
      "a subvolume that holds the snapshots of another",
      2,
      "@home/.snapshots",
      [/has no read-only snapshots/, / 3 of @home /, /use \S+\/@home$/m],
    ],
    [
      "a directory of snapshots",
      15,
      "kept",
      [/is not the root of a btrfs subvolume/, /the read-only snapshot in it is of @home: use \S+\/@home$/m],
    ],
    ["a snapshot", 2, "@home/.snapshots/1/snapshot", [/is itself a read-only snapshot, of @home/, /use \S+\/@home$/m]],
    [
      "what was rolled back",
      2,
      "rolled",
      [/ 2 of rolled\.old /, /was made from rolled-1, as in a rollback/, /snapshot -r \S+\/rolled /],
    ],
    [
      "Timeshift's snapshots",
      2,
      "@mint",
      [
        /2 snapshots of it are writable/,
        /timeshift-btrfs\/snapshots\/2026-11-23\/@mint/,
        /btrfs property set -ts SNAPSHOT ro true/,
      ],
    ],
    [
      "a subvolume of which nobody has taken one",
      2,
      "lonely",
      [/has no read-only snapshots/, /btrfs subvolume snapshot -r \S+\/lonely /, /--allow-empty/],
    ],
  ];
  for (const [what, code, path, sentences] of cases) {
    test(`of ${what} ends with ${code}, and suggests what to name`, async () => {
      const ran = await sync(at(path));
      assert.equal(ran.code, code, ran.stderr);
      for (const sentence of sentences) assert.match(ran.stderr, sentence);
      assert.equal(ran.stdout, "");
      const doctor = await cli(["doctor", at(path), "--container-name", "backup"]);
      assert.match(
        doctor.stdout.split("\n").find((line) => line.startsWith("failed")) ?? "",
        sentences.at(-1) ?? /nothing/,
      );
    });
  }

  test("is not a failure with --allow-empty, and is still reported", async () => {
    const { code, stderr } = await sync(at("lonely"), "--allow-empty");
    assert.equal(code, 0, stderr);
    assert.match(stderr, /lonely has no read-only snapshots/);
  });

  test("fails a run of several, after the others had their turn", async () => {
    const { code, stderr } = await sync(at("lonely"), at("@mint"));
    assert.equal(code, 2, stderr);
    assert.match(stderr, /lonely has[^]*@mint has/);
  });

  test("does not succeed in a plan or a dry run either", async () => {
    for (const flag of ["--plan", "--dry-run"]) assert.equal((await sync(at("lonely"), flag)).code, 2);
  });
});
