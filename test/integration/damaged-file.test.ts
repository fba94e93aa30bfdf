// A file that the disk does not give out as it was written: btrfs finds that its checksum does not fit.

import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { open, readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { cli, type Ran } from "../support/cli.ts";
import { btrfs, openLoopback, run } from "../support/loopback.ts";
import { noBtrfsOrSwift } from "../support/requirements.ts";
import { openSwift } from "../support/swift.ts";

const MiB = 2 ** 20;

test(
  "a snapshot with a damaged file is left out, and what follows builds on what is archived",
  { skip: noBtrfsOrSwift() },
  async () => {
    const [swift, disk] = await Promise.all([openSwift(), openLoopback({ sizeBytes: 128 * MiB })]);
    const subvolume = join(disk.mountPoint, "home");
    const take = (number: number): Promise<string> =>
      btrfs("subvolume", "snapshot", "-r", subvolume, `${subvolume}.${number}`);
    const sync = (): Promise<Ran> =>
      cli(["sync", subvolume, "--container-name", "damaged", "--no-encryption", "--json"], {
        env: { ...swift.environment, HOME: disk.directory },
      });
    /** `2<1`; failures with their code. */
    const outcomes = ({ stdout }: Ran): string[] =>
      stdout
        .trim()
        .split("\n")
        .map((line) => JSON.parse(line) as Record<string, unknown>)
        .flatMap(({ type, path, sendParent, code }) => {
          const parent = (sendParent as { path: string } | null | undefined)?.path ?? "";
          if (type === "receipt") return `${String(path)}<${parent}`;
          return type === "failure" ? `${String(path)} ${String(code)}` : [];
        });
    try {
      await swift.createContainer("damaged");
      await btrfs("subvolume", "create", subvolume);
      await take(1);
      assert.equal((await sync()).code, 0);
      const content = randomBytes(64 * 1024);
      await writeFile(join(subvolume, "file"), content);
      await take(2);
      await rm(join(subvolume, "file"));
      await writeFile(join(subvolume, "other"), "3");
      await take(3);
      await take(4);
      await run("btrfs", "filesystem", "sync", disk.mountPoint);
      const at = (await readFile(disk.image)).indexOf(content);
      assert.ok(at > 0, "the file is on the disk as it was written");
      const image = await open(disk.image, "r+");
      await image.write(Buffer.alloc(4096, 7), 0, 4096, at + 8192).finally(() => image.close());

      const ran = await sync();
      assert.equal(ran.code, 3, ran.stderr);
      assert.deepEqual(outcomes(ran), ["home.2 SEND_FAILED", "home.3<home.1", "home.4<home.3"]);
      assert.match(
        ran.stderr,
        /home\.2 is not archived: .*the disk did not give back what was written to it: dmesg names the file/,
      );
      assert.match(ran.stdout, /"sent":2,"failed":1,"untried":0,"notArchived":1/);
      const again = await sync();
      assert.deepEqual([again.code, outcomes(again)], [3, ["home.2 SEND_FAILED"]], "the next run tries it again");
      const verified = await cli(["verify", "--container-name", "damaged", "--read-data"], { env: swift.environment });
      assert.equal(verified.code, 0, verified.stderr);
    } finally {
      await Promise.all([swift.close(), disk.close()]);
    }
  },
);
