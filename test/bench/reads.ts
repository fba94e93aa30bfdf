// One archive, many ways to read it: every contender in turn, several times over, from a real Swift.

import { mkdir, readdir } from "node:fs/promises";
import { join } from "node:path";
import { PUBLISHED } from "../support/cli.ts";
import { btrfs, run, type Loopback } from "../support/loopback.ts";
import { clientEnvironment } from "./contenders.ts";
import { openMeter, type Meter } from "./measure.ts";
import type { Course } from "./race.ts";
import type { Store } from "./stores.ts";
import { formatRows, formatTargets, median, type Aim } from "./table.ts";

/** The values that a contender puts into its line. */
interface Reading {
  /** A command, measured. */
  client(...words: readonly string[]): string;
  /** Another command of the same line, measured too. */
  second(...words: readonly string[]): string;
  /** The program, and before it the one that it is compared with. */
  readonly main: string;
  /** The containers with the archive, plain and encrypted, and its key. */
  readonly plain: string;
  readonly encrypted: string;
  readonly key: string;
  readonly endpoint: string;
  readonly identity: string;
  /** An empty directory on a btrfs of its own. */
  readonly target: string;
}

interface Contender {
  /** With the checks that it makes. */
  readonly name: string;
  /** True for this program, which can be compared with an earlier one. */
  readonly isOurs?: boolean;
  line(reading: Reading): string;
}

const download = ({ client, key }: Reading, container: string): string =>
  client("swift", "download", "--output", "-", container, key);

const readers = {
  restore: {
    name: "restore --stdout (MD5, every command, END)",
    isOurs: true,
    line: ({ client, main, plain, key }) =>
      `${client(main, "restore", key, "--stdout", "--container-name", plain)} | cat >/dev/null`,
  },
  rclone: {
    name: "rclone cat (nothing)",
    line: ({ client, plain, key }) => `${client("rclone", "cat", `:s3:${plain}/${key}`)} | cat >/dev/null`,
  },
  aws: {
    name: "aws s3 cp - (nothing)",
    line: ({ client, endpoint, plain, key }) =>
      `${client("aws", "--endpoint-url", endpoint, "s3", "cp", `s3://${plain}/${key}`, "-")} | cat >/dev/null`,
  },
  swift: { name: "swift download (length)", line: (reading) => `${download(reading, reading.plain)} | cat >/dev/null` },
  verify: {
    name: "verify --read-data (MD5, every command, END)",
    isOurs: true,
    line: ({ client, main, plain }) => client(main, "verify", "--read-data", "--container-name", plain),
  },
  restoreAge: {
    name: "restore --stdout of age (MD5, age, every command, END)",
    isOurs: true,
    line: ({ client, main, encrypted, key, identity }) =>
      `${client(main, "restore", key, "--stdout", "--container-name", encrypted, "--identity", identity)} | cat >/dev/null`,
  },
  swiftAge: {
    name: "swift download | age -d (length, age)",
    line: (reading) =>
      `${download(reading, reading.encrypted)} | ${reading.second("age", "-d", "-i", reading.identity)} | cat >/dev/null`,
  },
  receive: {
    name: "restore --target (MD5, every command, END, identity)",
    isOurs: true,
    line: ({ client, main, plain, key, target }) =>
      client(main, "restore", key, "--target", target, "--container-name", plain),
  },
  swiftReceive: {
    name: "swift download | btrfs receive (length, END)",
    line: (reading) =>
      `${download(reading, reading.plain)} | ${reading.second("btrfs", "-q", "receive", reading.target)}`,
  },
} as const satisfies Record<string, Contender>;

type ReaderName = keyof typeof readers;

interface Lap {
  readonly seconds: number;
  readonly cpu: number;
  readonly peakBytes: number;
}

/** The archive, stored twice. */
interface Stored {
  readonly plain: string;
  readonly encrypted: string;
  readonly key: string;
}

/**
 * Stores the stream of a course with sync, reads it in all ways, and returns the results as text.
 * @param scratch - a btrfs to restore into
 * @param before - the program of another checkout, to be compared with; null = none
 * @throws when a contender fails
 */
export async function compareReads(
  store: Store,
  { course, scratch, before }: { readonly course: Course; readonly scratch: Loopback; readonly before: string | null },
  signal: AbortSignal,
): Promise<string> {
  const directory = join(course.directory, "reads");
  await mkdir(directory, { recursive: true });
  const meter = await openMeter(directory);
  const environment = await clientEnvironment(store, directory);
  const stored = await storeTwice(store, course, { meter, environment });
  const rows = Object.entries(readers as Record<ReaderName, Contender>).flatMap(([name, contender]) => {
    const row = { name, contender, main: PUBLISHED, laps: [] as Lap[] };
    return contender.isOurs === true && before !== null
      ? [row, { ...row, name: `${name} before`, main: before, laps: [] as Lap[] }]
      : [row];
  });
  for (let round = 0; round < course.rounds; round += 1) {
    for (const { name, contender, main, laps } of rows) {
      signal.throwIfAborted();
      process.stderr.write(`reads, round ${round + 1} of ${course.rounds}: ${name}\n`);
      const target = join(scratch.mountPoint, "target");
      await mkdir(target);
      const line = contender.line({
        client: (...words) => meter.measured("client", words),
        second: (...words) => meter.measured("second", words),
        main,
        ...stored,
        endpoint: store.endpoint,
        identity: join(course.directory, "identity"),
        target,
      });
      const { seconds, costs } = await meter.run(line, environment);
      const all = Object.values(costs);
      const cpu = all.reduce((sum, cost) => sum + cost.cpu + cost.childrenCpu, 0);
      laps.push({ seconds, cpu, peakBytes: costs["client"]?.peakBytes ?? NaN });
      await clear(target);
    }
  }
  return format(rows, course);
}

/** Deletes what was restored. */
async function clear(target: string): Promise<void> {
  for (const name of await readdir(target)) await btrfs("-q", "subvolume", "delete", join(target, name));
  await run("rmdir", target);
  await btrfs("filesystem", "sync", join(target, ".."));
}

async function storeTwice(
  store: Store,
  { source, recipient }: Course,
  { meter, environment }: { readonly meter: Meter; readonly environment: Readonly<Record<string, string>> },
): Promise<Stored> {
  const [plain, encrypted] = ["reads-plain", "reads-age"];
  for (const [container, ...encryption] of [[plain], [encrypted, "--age-recipient", recipient]] as const) {
    await store.createContainer(container);
    await meter.run(
      meter.measured("sync", [PUBLISHED, "sync", source, "--container-name", container, ...encryption]),
      environment,
    );
  }
  const answer = await fetch(`${environment["OS_STORAGE_URL"] ?? ""}/${plain}`, {
    headers: { "x-auth-token": environment["OS_AUTH_TOKEN"] ?? "" },
  });
  const key = (await answer.text()).split("\n").find((name) => name !== "" && !name.endsWith("/proof")) ?? "";
  return { plain, encrypted, key };
}

interface Row {
  readonly name: string;
  readonly contender: Contender;
  readonly laps: readonly Lap[];
}

function format(rows: readonly Row[], { streamBytes, rounds }: Course): string {
  const gibibytes = streamBytes / 2 ** 30;
  const of = (name: string, figure: (lap: Lap) => number): number =>
    median((rows.find((row) => row.name === name)?.laps ?? []).map(figure));
  const seconds = (lap: Lap): number => lap.seconds;
  const cpu = (lap: Lap): number => lap.cpu;
  const table = rows.map(({ name, contender, laps }) => [
    `${contender.name}${name.endsWith(" before") ? ", before" : ""}`,
    of(name, seconds).toFixed(2),
    `(${Math.min(...laps.map(seconds)).toFixed(1)}-${Math.max(...laps.map(seconds)).toFixed(1)})`,
    (of(name, cpu) / gibibytes).toFixed(2),
    (of(name, (lap) => lap.peakBytes) / 2 ** 20).toFixed(0),
  ]);
  const ratio = (a: string, b: string, figure: (lap: Lap) => number): number => of(a, figure) / of(b, figure);
  const aims: readonly Aim[] = [
    { what: "CPU, restore --stdout ÷ before", value: ratio("restore", "restore before", cpu), limit: 0.4 },
    { what: "CPU, restore --stdout ÷ aws s3 cp", value: ratio("restore", "aws", cpu), limit: 1 },
    { what: "wall, restore --stdout ÷ rclone cat", value: ratio("restore", "rclone", seconds), limit: 1 },
    { what: "CPU, verify --read-data ÷ before", value: ratio("verify", "verify before", cpu), limit: 0.4 },
    { what: "CPU, restore of age ÷ before", value: ratio("restoreAge", "restoreAge before", cpu), limit: 0.55 },
    {
      what: "wall, restore of age ÷ swift download | age -d",
      value: ratio("restoreAge", "swiftAge", seconds),
      limit: 0.9,
    },
    {
      what: "wall, restore --target ÷ swift download | btrfs receive",
      value: ratio("receive", "swiftReceive", seconds),
      limit: 1.1,
    },
    { what: "peak memory of restore, MiB", value: of("restore", (lap) => lap.peakBytes) / 2 ** 20, limit: 192 },
    { what: "peak memory of verify, MiB", value: of("verify", (lap) => lap.peakBytes) / 2 ** 20, limit: 192 },
  ];
  const head = ["", "wall s", "(least-most)", "CPU s/GiB", "peak MiB"];
  return `${gibibytes.toFixed(2)} GiB from a real Swift, medians of ${rounds}; in brackets what each checks:\n\n${formatRows([head, ...table])}\n\n${formatTargets(aims)}\n`;
}
