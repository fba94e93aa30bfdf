// The contents of a container, as people and programs see them.

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import type { Snapshot } from "../../src/plan/model.ts";
import { snapshot, source, uuid } from "../support/builders.ts";
import { cli, type Ran } from "../support/cli.ts";
import { openFaultProxy } from "../support/fault-proxy.ts";
import { putArchive } from "../support/put-archive.ts";
import { noSwift } from "../support/requirements.ts";
import { openSwift, type Swift } from "../support/swift.ts";

const facts = { encoding: "identity", sendProto: 2, partBytes: 5242880, volumes: null, tool: "test/1" } as const;

describe("list", { skip: noSwift() }, () => {
  let swift: Swift;
  before(async () => {
    swift = await openSwift();
  });
  after(() => swift.close());

  const list = async (container: string, ...args: string[]): Promise<Ran> => {
    const ran = await cli(["list", "--container-name", container, ...args], {
      env: { ...swift.environment, TZ: "UTC" },
    });
    assert.equal(ran.code, 0, ran.stderr);
    return ran;
  };

  /** An object with the metadata of an archive; the content does not matter here. */
  async function put(container: string, of: Snapshot, sendParent: Snapshot | null): Promise<void> {
    await putArchive(swift.native, container, { snapshot: of, sendParent }, { facts, body: Buffer.from("x") });
  }

  test("shows every subvolume with the tree of its archives, and what is broken", async () => {
    await swift.createContainer("tree");
    const [one, two, three, four] = [1, 2, 3, 4].map((number) => snapshot(number));
    assert.ok(one && two && three && four);
    await put("tree", one, null);
    await put("tree", two, one);
    await put("tree", three, one);
    await put("tree", snapshot(6), snapshot(5));
    await put("tree", snapshot(7, { source: uuid(0xdef), path: "other/7" }), null);
    const rows = (stdout: string): string[][] =>
      stdout
        .trimEnd()
        .split("\n")
        .map((line) => line.trim().split(/ {2,}/).slice(0, 4));
    const { stdout } = await list("tree");
    assert.deepEqual(rows(stdout), [
      [`subvolume ${source.uuid}`],
      ["4 snapshots, 4 archived, 4 B, not encrypted"],
      ["TAKEN", "SNAPSHOT", "SIZE", "CHAIN"],
      ["1970-01-01 00:00", "snapshots/1", "1 B", "full"],
      ["1970-01-01 00:00", "└ snapshots/2", "1 B", "2"],
      ["1970-01-01 00:00", "└ snapshots/3", "1 B", "2, parent snapshots/1"],
      ["1970-01-01 00:00", "snapshots/6", "1 B", `broken, pare…${uuid(5).slice(-24)}`],
      [`subvolume ${uuid(0xdef)}`],
      ["1 snapshot, 1 archived, 1 B, not encrypted"],
      ["TAKEN", "SNAPSHOT", "SIZE", "CHAIN"],
      ["1970-01-01 00:00", "other/7", "1 B", "full"],
    ]);
    assert.ok(
      stdout.split("\n").every((line) => line.length <= 80),
      stdout,
    );
    const verbose = (await list("tree", "-v")).stdout;
    assert.match(verbose, /00:00:03 {2}└ snapshots\/3 .*not encrypted {2}\S+\\x2fsnapshots\\x2f3$/m);
    assert.ok(verbose.includes(`parent ${uuid(5)} `), verbose);
    const flat = rows((await list("tree", "--flat")).stdout);
    assert.deepEqual(
      flat.map(([, path]) => path),
      [
        undefined,
        undefined,
        "SNAPSHOT",
        "snapshots/1",
        "snapshots/2",
        "snapshots/3",
        "snapshots/6",
        undefined,
        undefined,
        "SNAPSHOT",
        "other/7",
      ],
    );
    const { archives } = JSON.parse((await list("tree", "--json")).stdout) as { archives: Record<string, unknown>[] };
    assert.deepEqual(
      archives.map(({ path, chainLength, local }) => [path, chainLength, local]),
      [
        ["snapshots/1", 1, null],
        ["snapshots/2", 2, null],
        ["snapshots/3", 2, null],
        ["snapshots/6", null, null],
        ["other/7", 1, null],
      ],
    );
  });

  test("of hundreds asks for each of them once, and for many at a time", async () => {
    await swift.createContainer("many");
    const numbers = Array.from({ length: 300 }, (_, index) => index + 1).values();
    const worker = async (): Promise<void> => {
      for (const number of numbers) await put("many", snapshot(number), number === 1 ? null : snapshot(number - 1));
    };
    await Promise.all(Array.from({ length: 16 }, worker));
    const proxy = await openFaultProxy(swift.endpoint);
    let together = 0;
    const watch = (): boolean => {
      together = Math.max(together, proxy.underway());
      return false;
    };
    proxy.plan({ when: watch, fault: { kind: "delay", ms: 0 } });
    const { stdout } = await list("many", "--endpoint", proxy.endpoint);
    proxy.clear();
    await proxy.close();
    assert.match(stdout, /snapshots\/300 .* 300$/m);
    // A request after the other takes minutes where the store is far away.
    assert.ok(together >= 8, `${together} requests at a time`);
    assert.equal(proxy.seen.filter((line) => line.startsWith("HEAD")).length, 300);
  });
});
