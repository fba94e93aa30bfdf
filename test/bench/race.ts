// One stream, many ways to store it: every contender in turn, several times over, so that what else the machine does
// hits all of them alike.

import { mkdir, rm } from "node:fs/promises";
import { join } from "node:path";
import { clientEnvironment, contenders, type Contender, type ContenderName } from "./contenders.ts";
import { openMeter, quote, type Measured, type Meter } from "./measure.ts";
import type { Store } from "./stores.ts";

/** The stream, and where it comes from. */
export interface Course {
  /** A subvolume with one snapshot. */
  readonly source: string;
  /** The command that makes the stream: the same one that sync runs. */
  readonly send: readonly string[];
  readonly streamBytes: number;
  /** A recipient of age, for contenders that encrypt. */
  readonly recipient: string;
  /** Room for programs, settings and a spooled stream. */
  readonly directory: string;
  readonly rounds: number;
}

/** One run. */
export interface Lap {
  readonly seconds: number;
  /** CPU seconds of the client alone. */
  readonly clientCpu: number;
  /** CPU seconds of `btrfs send`; for sync, of every program that it runs: the estimate's pass too. */
  readonly sendCpu: number;
  readonly peakBytes: number;
}

export type Results = ReadonlyMap<ContenderName, readonly Lap[]>;

let containers = 0;

/** @throws when a contender fails, or the store holds something else than the stream afterwards */
export async function race(
  store: Store,
  course: Course,
  entrants: readonly ContenderName[],
  signal: AbortSignal,
): Promise<Results> {
  const directory = join(course.directory, "race");
  await mkdir(directory, { recursive: true });
  const meter = await openMeter(directory);
  const environment = await clientEnvironment(store, directory);
  const results = new Map<ContenderName, Lap[]>(entrants.map((name) => [name, []]));
  for (let round = 0; round < course.rounds; round += 1) {
    for (const [name, laps] of results) {
      signal.throwIfAborted();
      process.stderr.write(`${store.name}, round ${round + 1} of ${course.rounds}: ${contenders[name].name}\n`);
      laps.push(await runLap(contenders[name], { store, course, meter, environment, directory }));
    }
  }
  return results;
}

interface Track {
  readonly store: Store;
  readonly course: Course;
  readonly meter: Meter;
  readonly environment: Readonly<Record<string, string>>;
  readonly directory: string;
}

async function runLap(contender: Contender, track: Track): Promise<Lap> {
  const { store, course, meter, environment, directory } = track;
  const container = `bench-${(containers += 1)}`;
  const spool = join(directory, "spool");
  await store.createContainer(container);
  const line = contender.line({
    get send() {
      return meter.measured("send", course.send);
    },
    client: (...words) => meter.measured("client", words),
    source: course.source,
    endpoint: store.endpoint,
    container,
    spool,
    recipient: course.recipient,
  });
  const measured = await meter.run(line, environment);
  if (contender.stores !== "nothing") await checkStored(contender, { container, ...track });
  await rm(spool, { force: true });
  await store.empty();
  return toLap(measured);
}

async function checkStored(
  { name, encodes = false }: Contender,
  { store, course, container }: Track & { readonly container: string },
): Promise<void> {
  const stored = await store.storedBytes(container);
  if (encodes ? stored > 0 : stored === course.streamBytes) return;
  throw new Error(`${name} has stored ${stored} bytes of ${course.streamBytes} in ${quote(container)}`);
}

/** Where no `btrfs send` was measured, the client has started it. */
function toLap({ seconds, costs: { send, client } }: Measured): Lap {
  const { cpu = 0, childrenCpu = 0, peakBytes = 0 } = client ?? {};
  if (send === undefined) return { seconds, clientCpu: cpu, sendCpu: childrenCpu, peakBytes };
  return { seconds, clientCpu: cpu + childrenCpu, sendCpu: send.cpu, peakBytes };
}
