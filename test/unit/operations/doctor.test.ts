// The checks of the doctor, on a machine and a store in memory.

import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { BackupError } from "../../../src/errors.ts";
import { diagnose } from "../../../src/operations/doctor.ts";
import type { DoctorEdges, Machine, Survey } from "../../../src/operations/ports.ts";
import type { EncryptionIntent } from "../../../src/plan/encoding.ts";
import { openCalendar, parseKeepText } from "../../../src/plan/keep.ts";
import { formatMetadata } from "../../../src/plan/key.ts";
import type { Keeping } from "../../../src/plan/keeping.ts";
import type { Neighbour, Snapshot } from "../../../src/plan/model.ts";
import { keyOf, snapshot, source, uuid } from "../../support/builders.ts";
import { memoryContainer, type MemoryContainer } from "../../support/memory-container.ts";
import { versionNames, type Check } from "../../../src/operations/check.ts";
import type { OpenUpload } from "../../../src/operations/store-ports.ts";

const { signal } = new AbortController();
const MINUTE = 60_000;
const GiB = 2 ** 30;

/** A filesystem with snapshots that are not archived with those of {@link source}. */
function around({ writable = 0, ofOthers = 0 } = {}): Survey["around"] {
  const neighbours = (number: number, parent: number, readOnly: boolean): Neighbour[] =>
    Array.from({ length: number }, (_, index) => ({
      uuid: uuid(100 + index),
      parent: uuid(parent),
      path: `n${index}`,
      readOnly,
    }));
  const subvolumes = [...neighbours(writable, 0xabc, false), ...neighbours(ofOthers, 0xdef, true)];
  return { subvolumes, seenAt: () => null };
}

const survey: Survey = {
  source,
  origin: null,
  snapshots: [snapshot(1), snapshot(2)],
  unreachable: [],
  around: around(),
};

interface Circumstances {
  readonly machine?: Partial<Machine>;
  readonly survey?: Partial<Survey>;
  readonly edges?: Partial<DoctorEdges>;
  readonly allowsEmpty?: boolean;
  readonly received?: boolean;
  readonly intent?: EncryptionIntent;
  readonly keeping?: Keeping | null;
}

async function findings({
  machine,
  survey: found,
  edges,
  allowsEmpty = false,
  received = false,
  intent = "declined",
  keeping = null,
}: Circumstances): Promise<readonly Check[]> {
  const container = memoryContainer({ name: "backup" });
  const all: DoctorEdges = {
    machine: {
      mayAdministrate: async () => true,
      versions: async () => ({ kernel: "6.18.44", btrfsProgs: "6.2", libbtrfsutil: "1.2.0" }),
      survey: async () => ({ ...survey, ...found }),
      surveyReceived: async () => ({ snapshots: [], unreachable: [], ...found }),
      ...machine,
    },
    program: { name: "program", version: "1.2.3", node: "20.17.0", sdk: "3.1.0" },
    findAccess: async () => ({
      source: "AWS_ACCESS_KEY_ID",
      endpoint: "https://store",
      proxy: null,
      ignoresProxy: false,
    }),
    greet: async () => ({ aheadMs: 400, swift: "2.30.1" }),
    openContainer: async () => container,
    openCatalogue: async () => null,
    quotas: async () => null,
    ...edges,
  };
  const checks: Check[] = [];
  for await (const check of diagnose(
    { path: "/home", received, allowsEmpty, intent, recipients: null, zstdLevel: null, keepingOf: async () => keeping },
    all,
    signal,
  ))
    checks.push(check);
  assert.deepEqual([...container.objects.keys()], [], "something was left in the container");
  return checks;
}

const opened = (date: string): OpenUpload => ({ key: "k", uploadId: date, initiated: new Date(date) });

const refusal = (code: ConstructorParameters<typeof BackupError>[0], message: string) => async (): Promise<never> => {
  throw new BackupError(code, message, { hint: "do something" });
};

/** A container with one full archive. */
function holding(of: Snapshot): MemoryContainer {
  const container = memoryContainer();
  add(container, of, null, 1);
  return container;
}

function add(container: MemoryContainer, of: Snapshot, sendParent: Snapshot | null, bytes: number): void {
  const metadata = formatMetadata(
    { snapshot: of, sendParent },
    { encoding: "identity", sendProto: 2, partBytes: 1, volumes: null, tool: "t/1" },
  );
  const key = keyOf(of.path);
  container.objects.set(key, { key, body: Buffer.from("x"), bytes, etag: "e", modified: new Date(0), metadata });
}

describe("doctor", () => {
  test("finds nothing wrong if there is nothing", async () => {
    const checks = await findings({});
    assert.deepEqual(
      checks.filter(({ status }) => status !== "ok"),
      [],
    );
    assert.deepEqual(
      checks.flatMap(({ versions }) => Object.keys(versions ?? {})).toSorted(),
      [...versionNames].toSorted(),
      "each version is found once",
    );
    assert.equal(checks.find(({ name }) => name === "rights")?.message, "list, write, read, delete");
  });

  const cases: readonly (readonly [
    what: string,
    circumstances: Circumstances,
    check: string,
    status: string,
    message: RegExp,
  ])[] = [
    [
      "no privilege",
      { machine: { mayAdministrate: async () => false } },
      "privileges",
      "NO_PRIVILEGE",
      /CAP_SYS_ADMIN is missing/,
    ],
    ["no btrfs-progs", { machine: { versions: refusal("CONFIG", "no btrfs") } }, "btrfs", "CONFIG", /no btrfs/],
    ["no subvolume", { machine: { survey: refusal("NOT_SUBVOLUME", "no root") } }, "path", "NOT_SUBVOLUME", /no root/],
    [
      "an unusable name of one that was received",
      { received: true, survey: { snapshots: [snapshot(1, { path: "a\\x2fb" })] } },
      "snapshots",
      "STEP_FAILED",
      /a\\x2fb cannot be archived: its path contains the characters/,
    ],
    [
      "nothing received",
      { received: true, survey: { snapshots: [] } },
      "snapshots",
      "NO_SNAPSHOTS",
      /home was received/,
    ],
    ["no snapshot", { survey: { snapshots: [] } }, "snapshots", "NO_SNAPSHOTS", /home has no read-only snapshots/],
    [
      "no snapshot, as is allowed",
      { survey: { snapshots: [] }, allowsEmpty: true },
      "snapshots",
      "warning",
      /home has no read-only snapshots/,
    ],
    [
      "writable ones only",
      { survey: { snapshots: [], around: around({ writable: 1 }) } },
      "snapshots",
      "NO_SNAPSHOTS",
      /1 snapshot of it is writable and left out \(n0\)/,
    ],
    [
      "others'",
      { survey: { around: around({ ofOthers: 3 }) } },
      "snapshots",
      "ok",
      /2 read-only; not counted: 3 of other subvolumes/,
    ],
    [
      "an unreachable one",
      { survey: { unreachable: [{ path: "far", error: new BackupError("SEND_FAILED", "no mount") }] } },
      "snapshots", "STEP_FAILED", /1 cannot be reached, for example far: no mount/,
    ], // prettier-ignore
    [
      "an unusable name",
      { survey: { snapshots: [snapshot(1, { path: "a\\x2fb" })] } },
      "snapshots",
      "STEP_FAILED",
      /a\\x2fb cannot be archived: its path contains the characters/,
    ],
    [
      "a re-created name",
      { edges: { openContainer: async () => holding(snapshot(9, { path: "snapshots/1" })) } },
      "archives",
      "STEP_FAILED",
      /snapshots\/1 is not the snapshot that is archived under its name/,
    ],
    [
      "what is archived",
      { edges: { openContainer: async () => holding(snapshot(1)) } },
      "archives",
      "ok",
      /1 snapshots archived, 1 to send/,
    ],
    [
      "no login",
      { edges: { findAccess: refusal("ACCESS_DENIED", "wrong password") } },
      "credentials",
      "ACCESS_DENIED",
      /wrong/,
    ],
    [
      "nobody there",
      { edges: { greet: refusal("STORE_UNAVAILABLE", "nothing answers") } },
      "endpoint",
      "STORE_UNAVAILABLE",
      /nothing/,
    ],
    [
      "no container",
      { edges: { openContainer: refusal("CONTAINER_MISSING", "no container") } },
      "container",
      "CONTAINER_MISSING",
      /no/,
    ],
    [
      "a slow clock",
      { edges: { greet: async () => ({ aheadMs: -7 * MINUTE, swift: null }) } },
      "clock",
      "warning",
      /420 s behind/,
    ],
    [
      "a wrong clock",
      { edges: { greet: async () => ({ aheadMs: 16 * MINUTE, swift: null }) } },
      "clock",
      "warning",
      /960 s ahead of/,
    ],
    [
      "a store without a clock",
      { edges: { greet: async () => ({ aheadMs: null, swift: null }) } },
      "clock",
      "warning",
      /does not report/,
    ],
    [
      "room",
      {
        edges: {
          quotas: async () => [
            { of: "account", name: null, usedBytes: GiB, quotaBytes: 2 * GiB, usedObjects: 3, quotaObjects: 5 },
          ],
        },
      },
      "quota",
      "ok",
      /1 GiB used, quota 2 GiB, 3 of 5 objects/,
    ],
    [
      "no room",
      {
        edges: {
          quotas: async () => [
            { of: "container", name: "backup", usedBytes: 1, quotaBytes: 1, usedObjects: 0, quotaObjects: null },
          ],
        },
      },
      "quota",
      "QUOTA_EXCEEDED",
      /container/,
    ],
    [
      "open uploads",
      { edges: { openContainer: async () => ({ ...memoryContainer(), openUploads: async () => [opened("2026-02-03"), opened("2026-01-02")] }) } },
      "uploads", "ok", /2 unfinished, the oldest from 2026-01-02/,
    ], // prettier-ignore
    [
      "uploads that cannot be listed",
      { edges: { openContainer: async () => ({ ...memoryContainer(), openUploads: refusal("STORE_UNAVAILABLE", "too many") }) } },
      "uploads", "warning", /cannot be listed: too many; a sync works/,
    ], // prettier-ignore
    ["no recipient", { intent: "undecided" }, "encryption", "warning", /archives are not encrypted/],
    ["a recipient", { intent: "encrypt" }, "encryption", "ok", /new archives are encrypted; there are none yet/],
    [
      "no right to write",
      { edges: { openContainer: async () => ({ ...memoryContainer(), put: refusal("ACCESS_DENIED", "no") }) } },
      "rights",
      "ACCESS_DENIED",
      /write failed: no/,
    ],
  ];
  for (const [what, circumstances, name, status, message] of cases) {
    test(`reports ${what}`, async () => {
      const checks = await findings(circumstances);
      const check = checks.find((one) => one.name === name);
      assert.equal(check?.error?.code ?? check?.status, status);
      assert.match(check?.message ?? "", message);
      if (check?.status !== "ok" && what !== "an unreachable one" && what !== "a store without a clock")
        assert.ok(check?.fix);
      assert.ok(checks.filter((one) => one.status === "failed").length <= 1, "one cause, one failure");
    });
  }

  test("removes its object when that cannot be read", async () => {
    const container = memoryContainer();
    const unreadable = { ...container, peek: refusal("ACCESS_DENIED", "no") };
    const checks = await findings({ edges: { openContainer: async () => unreadable } });
    assert.match(checks.find(({ name }) => name === "rights")?.message ?? "", /read failed: no/);
    assert.equal(container.objects.size, 0);
  });

  test("skips what builds on a failure, and checks everything else", async () => {
    const checks = await findings({
      machine: { survey: refusal("NOT_BTRFS", "no btrfs") },
      edges: { greet: refusal("STORE_UNAVAILABLE", "no") },
    });
    const of = (status: string): string[] => checks.filter((check) => check.status === status).map(({ name }) => name);
    assert.deepEqual(of("failed"), ["path", "endpoint"]);
    assert.deepEqual(of("skipped"), [
      "snapshots",
      "clock",
      "container",
      "rights",
      "limits",
      "quota",
      "archives",
      "chains",
      "encryption",
      "uploads",
    ]);
  });

  describe("with keep rules", () => {
    const DAY_NS = 86_400_000_000_000n;
    const NEW_YEAR = BigInt(Date.UTC(2026, 0, 1, 3)) * 1_000_000n;
    const onDay = (day: number): Snapshot =>
      snapshot(day + 1, { path: `d${day}`, otime: NEW_YEAR + BigInt(day) * DAY_NS });
    const days = Array.from({ length: 40 }, (_, day) => onDay(day));
    const by = (rules: string): Keeping => ({
      rules: parseKeepText(rules, "--keep"),
      calendar: openCalendar("UTC"),
      now: NEW_YEAR + 400n * DAY_NS,
      maxChain: null,
      fullEveryNs: null,
      pinned: new Set(),
    });
    /** One full archive of 1000 KiB, and incremental ones on top of it, each on the one before. */
    const line = (archived: readonly Snapshot[], kibEach: number): MemoryContainer => {
      const container = memoryContainer({ name: "backup" });
      for (const [at, of] of archived.entries())
        add(container, of, archived[at - 1] ?? null, 1024 * (at === 0 ? 1000 : kibEach));
      return container;
    };
    const check = async (
      name: string,
      local: readonly Snapshot[],
      container: MemoryContainer,
      rules: string | null,
    ) => {
      const edges = { openContainer: async () => container, quotas: async () => null };
      const keeping = rules === null ? null : by(rules);
      const checks = await findings({ survey: { snapshots: local }, edges, keeping });
      return checks.find((each) => each.name === name);
    };

    test("does not count as to be sent what no rule keeps, and names the rules", async () => {
      const found = await check("archives", days.slice(0, 10), line(days.slice(8, 9), 1), "3d");
      assert.equal(found?.message, "1 snapshots archived, 2 to send, 7 that no keep rule keeps (keep rules: 3 days)");
    });

    test("says what a restore reads, and warns when that is more than twice the full one", async () => {
      const short = await check("chains", days.slice(0, 11), line(days.slice(0, 11), 100), null);
      assert.deepEqual(
        [short?.status, short?.message],
        ["ok", "a restore of d10 reads 11 archives, 2 MiB: 2.0 times the full one (1000 KiB)"],
      );
      const long = await check("chains", days.slice(0, 12), line(days.slice(0, 12), 100), null);
      assert.equal(long?.status, "warning");
      assert.match(long.message, /a restore of d11 reads 12 archives, 2 MiB: 2\.1 times/);
      assert.match(long.fix ?? "", /^`sync --full` begins a new chain/);
      assert.equal((await check("chains", days, line([], 0), null))?.message, "no archives yet");
    });

    test("warns when nothing here is kept as long as the first of a month or year", async () => {
      const archived = line(days.slice(0, 38), 1);
      const found = await check("chains", days.slice(32), archived, "30d 8w 24m *y");
      assert.equal(found?.status, "warning");
      assert.match(
        found.message,
        /no snapshot here is kept as long as the first of a month or year \(the first of a week is the longest here\): the next one builds on d32, and chains grow/,
      );
      assert.match(
        found.fix ?? "",
        /^keep the first snapshot of each month or year on this machine too, or use --full-every$/,
      );
      assert.equal((await check("chains", days, archived, "30d 8w 24m *y"))?.status, "ok");
      assert.equal((await check("chains", days.slice(33), archived, "30d"))?.status, "ok");
    });
  });
});
