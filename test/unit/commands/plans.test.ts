// Plans of sync and restore as people see them before anything is done, from fixed data.

import assert from "node:assert/strict";
import { PassThrough } from "node:stream";
import { after, before, describe, test } from "node:test";
import type { Session } from "../../../src/commands/session.ts";
import { describeGain, type Form } from "../../../src/commands/encoding.ts";
import { printPlan as showRestorePlan } from "../../../src/commands/restore-report.ts";
import { printPlan } from "../../../src/commands/sync-report.ts";
import type { Encoding, TargetSubvolume } from "../../../src/plan/model.ts";
import { planRestore } from "../../../src/plan/restore.ts";
import { planSync } from "../../../src/plan/sync.ts";
import { openOutput } from "../../../src/terminal/output.ts";
import { openScreen } from "../../../src/terminal/screen.ts";
import { archiveOf, inventory, snapshot } from "../../support/builders.ts";
import { openGolden } from "../../support/golden.ts";

const MiB = 2 ** 20;
const plain: Form = { sendProto: 2, compressedData: true, chosen: true, recipients: null, zstdLevel: null };

function shown(show: (session: Session) => void): string {
  const stream = new PassThrough();
  show({ output: openOutput(stream, openScreen(stream, {}), { json: false }) } as Session);
  return String(stream.read());
}

describe("plans", () => {
  const golden = openGolden("plans");
  const zone = process.env["TZ"];
  const [first, second, third] = [snapshot(1), snapshot(2), snapshot(3, { path: "snapshots/a\nb" })];

  before(() => {
    process.env["TZ"] = "UTC";
  });
  after(() => {
    if (zone === undefined) delete process.env["TZ"];
    else process.env["TZ"] = zone;
    golden.assertNoneStale();
  });

  test("of sync: the first snapshot in full, the others incrementally", () => {
    const world = inventory([first, second, third], []);
    const plan = planSync(world);
    const steps = plan.steps.map((step, index) => ({
      step,
      estimate: { bytes: (300 - 100 * index) * MiB, exact: index === 2 },
    }));
    assert.equal(steps.length, 3);
    golden.check(
      "sync-full.txt",
      shown((session) => printPlan("/home", { inventory: world, steps, plan, form: plain }, session)),
    );
  });

  test("of sync: what is new since the last archive, encrypted and compressed", () => {
    const world = inventory(
      [first, second, third],
      [
        [first, archiveOf(first, null)],
        [second, archiveOf(second, first)],
      ],
    );
    const plan = planSync(world);
    const form = {
      ...plain,
      sendProto: 1 as const,
      compressedData: false,
      chosen: false,
      recipients: { names: ["age1x"], files: [] },
      zstdLevel: 3,
    };
    const estimated = plan.steps.map((step) => ({ step, estimate: null }));
    golden.check(
      "sync-incremental.txt",
      shown((session) => printPlan("/home", { inventory: world, steps: estimated, plan, form }, session)),
    );
  });

  test("of restore --dry-run: what is to be received, and what is there already", () => {
    const chain = [
      archiveOf(first, null, 300 * MiB),
      archiveOf(second, first, 5 * MiB),
      archiveOf(third, second),
    ] as const;
    const show = (held: readonly TargetSubvolume[]): string =>
      shown((session) => showRestorePlan(planRestore(chain, held, "chain"), true, session));
    golden.check("restore-full.txt", show([]));
    golden.check("restore-onto-another.txt", show([{ ...first, sealed: true, changed: null, within: true }]));
  });
});

test("a receipt shows what zstd saved, and never a share of more than 100 %", () => {
  const form: Form = { ...plain, zstdLevel: 3 };
  const gain = (bytes: number, stored: number, encoding: Encoding, of = form): string =>
    describeGain(bytes, { bytes: stored, encoding }, of);
  assert.equal(gain(100 * MiB, 40 * MiB, "zstd"), ", compressed to 40.0 MiB (40 %)");
  assert.equal(gain(394, 484, "zstd+age"), ", stored as 484 B");
  assert.equal(gain(100 * MiB, 100 * MiB, "identity"), ", not compressed: it would hardly shrink");
  assert.equal(gain(100 * MiB, 100 * MiB, "identity", plain), "");
});
