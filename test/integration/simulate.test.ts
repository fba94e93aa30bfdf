// simulate with real snapshots, and no store: the sizes of its table are those that btrfs send would make.

import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { PassThrough } from "node:stream";
import { after, before, describe, test } from "node:test";
import { openSource } from "../../src/btrfs/source.ts";
import type { Session } from "../../src/commands/session.ts";
import { measureHistory } from "../../src/commands/simulate-sizes.ts";
import type { SnapshotSource } from "../../src/operations/ports.ts";
import { openCalendar, parseKeepText } from "../../src/plan/keep.ts";
import type { Snapshot } from "../../src/plan/model.ts";
import { simulate } from "../../src/plan/simulate.ts";
import { openOutput } from "../../src/terminal/output.ts";
import { openScreen } from "../../src/terminal/screen.ts";
import { cli } from "../support/cli.ts";
import { btrfs, openLoopback, type Loopback } from "../support/loopback.ts";
import { noBtrfs } from "../support/requirements.ts";

const KiB = 1024;
const FULL = 1024 * KiB;
const DAILY = 64 * KiB;
const DAYS = 5;
const DAY_NS = 86_400_000_000_000n;
const { signal } = new AbortController();

interface EstimateRecord {
  readonly type: string;
  readonly days: number | null;
  readonly bytes: number;
}

describe("simulate with the snapshots of a subvolume", { skip: noBtrfs() }, () => {
  let disk: Loopback;
  let subvolume: string;
  let source: SnapshotSource;
  let snapshots: readonly Snapshot[];
  before(async () => {
    disk = await openLoopback({ sizeBytes: 128 * 2 ** 20 });
    subvolume = join(disk.mountPoint, "vol");
    for (const name of ["vol", "lonely", "once"]) await btrfs("subvolume", "create", join(disk.mountPoint, name));
    await btrfs("subvolume", "snapshot", "-r", join(disk.mountPoint, "once"), join(disk.mountPoint, "once.1"));
    await writeFile(join(subvolume, "file"), randomBytes(FULL));
    for (let day = 0; day < DAYS; day += 1) {
      if (day > 0) await writeFile(join(subvolume, `day-${day}`), randomBytes(DAILY));
      await btrfs("subvolume", "snapshot", "-r", subvolume, `${subvolume}.${day}`);
    }
    source = await openSource(subvolume, { sendProto: null }, signal);
    const from = BigInt(Date.UTC(2026, 0, 1, 3)) * 1_000_000n;
    const local = await source.list(signal);
    // As if one had been taken each day.
    snapshots = local.snapshots.map((snapshot, at) => ({ ...snapshot, otime: from + BigInt(at) * DAY_NS }));
  });
  after(async () => {
    await source.close();
    await disk.close();
  });

  const bytes = async (snapshot: number, sendParent: number | null): Promise<number> => {
    const [taken, parent] = [snapshots[snapshot], sendParent === null ? null : snapshots[sendParent]];
    assert.ok(taken !== undefined && parent !== undefined);
    return (await source.estimate({ snapshot: taken, sendParent: parent }, signal)).bytes;
  };

  test("the estimates are what the table is made of", async () => {
    const stream = new PassThrough();
    const dated = { ...source, list: async () => ({ ...(await source.list(signal)), snapshots }) };
    const session = {
      output: openOutput(stream, openScreen(stream, {}), { json: true }),
      progress: { start: () => undefined, stop: () => undefined },
      openSource: () => Promise.resolve(dated),
      signal,
    } as unknown as Session;
    const history = await measureHistory(subvolume, 4, session);
    const records = String(stream.read())
      .trimEnd()
      .split("\n")
      .map((line) => JSON.parse(line) as EstimateRecord);
    const full = await bytes(DAYS - 1, null);
    const steps = await Promise.all([1, 2, 3, 4].map((day) => bytes(day, day - 1)));
    const [overTwo, overFour] = [await bytes(4, 2), await bytes(4, 0)];
    assert.deepEqual(
      records.filter(({ type }) => type === "estimate").map((each) => [each.days, each.bytes]),
      [[null, full], ...steps.toReversed().map((step) => [1, step]), [2, overTwo], [4, overFour]],
    );
    // The bytes written are those that they hold, and a little metadata.
    for (const step of steps) assert.ok(step >= DAILY && step < DAILY + 4 * KiB, `${step} bytes a day`);
    assert.ok(overFour >= 4 * DAILY && full >= FULL + 4 * DAILY, `${overFour} and ${full}`);

    const usual = steps.toSorted((a, b) => a - b)[2] ?? 0;
    const rules = parseKeepText("9d", "--keep");
    const request = { rules, localRules: rules, calendar: openCalendar("UTC"), limits: NO_LIMITS };
    const uploaded = [...simulate(history, request)].map(({ uploadedBytes }) => uploadedBytes);
    assert.deepEqual(uploaded, [full, ...[1, 2, 3, 4].map((days) => full + days * usual)]);
    assert.deepEqual([history.bytes(2, 0), history.bytes(4, 0)], [overTwo, overFour]);
  });

  test("a subvolume that shows nothing is refused, with the way out", async () => {
    const refused: readonly (readonly [name: string, sentence: RegExp])[] = [
      ["vol", /^error: \S+vol has no two snapshots that are an hour apart: .*--history FILE\n$/],
      ["once", /^error: \S+once has one snapshot: .*--history FILE\n$/],
      ["lonely", /^error: \S+lonely has no read-only snapshots/],
    ];
    for (const [name, sentence] of refused) {
      const { code, stdout, stderr } = await cli(["simulate", join(disk.mountPoint, name), "--keep", "9d"]);
      assert.deepEqual([code, stdout], [2, ""], name);
      assert.match(stderr, sentence);
    }
  });
});

const NO_LIMITS = { maxChain: null, fullEveryNs: null };
