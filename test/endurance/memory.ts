// How much memory a stream takes that is far longer than all memory there is for it: as one object, and in many volumes.
// To a server that discards everything; the stream is made of a file that compresses well, so it needs hardly any disk.
//
//   node dist/test/endurance/memory.js [GIBIBYTES]      as root; 20 GiB

import assert from "node:assert/strict";
import { join } from "node:path";
import { openMeter, quote, type Meter } from "../bench/measure.ts";
import { openSink, type Store } from "../bench/stores.ts";
import { MAIN } from "../support/cli.ts";
import { btrfs, run, withLoopback } from "../support/loopback.ts";

const MIB = 2 ** 20;
/** For parts of 16 MiB, four in flight and one that fills. */
const PARTS_MEMORY_MIB = 80;
/** The memory that the program may take beside the parts. */
const BESIDE_MIB = 256;

interface Scene {
  readonly store: Store;
  readonly meter: Meter;
  readonly home: string;
  readonly expectedBytes: number;
}

async function measure(
  name: string,
  flags: readonly string[],
  { store, meter, home, expectedBytes }: Scene,
): Promise<void> {
  const words = [
    "sync",
    home,
    "--container-name",
    name,
    "--send-proto",
    "1",
    "--memory",
    `${PARTS_MEMORY_MIB}Mi`,
    ...flags,
  ];
  const env = {
    ...store.environment,
    PATH: process.env["PATH"] ?? "",
    AWS_ENDPOINT_URL_S3: store.endpoint,
    AWS_REGION: "us-east-1",
  };
  const { seconds, costs } = await meter.run(meter.measured("sync", [MAIN, ...words]), env);
  const { cpu = NaN, peakBytes = NaN } = costs["sync"] ?? {};
  const [stored, peak] = [await store.storedBytes(name), peakBytes / MIB];
  const rate = `${(stored / MIB / seconds).toFixed(0)} MiB/s, ${((cpu * 1024 * MIB) / stored).toFixed(2)} CPU s/GiB`;
  process.stdout.write(
    `${name}: ${(stored / 2 ** 30).toFixed(2)} GiB, ${rate}, peak ${peak.toFixed(0)} MiB of ${BESIDE_MIB + PARTS_MEMORY_MIB}\n`,
  );
  assert.ok(stored > expectedBytes, `${stored} bytes are stored of more than ${expectedBytes}`);
  assert.ok(peak <= BESIDE_MIB + PARTS_MEMORY_MIB, "more memory than is allowed");
}

const gibibytes = Number(process.argv[2] ?? 20);
await withLoopback(
  { sizeBytes: (2 + Math.ceil(gibibytes / 10)) * 2 ** 30, mountOptions: "compress=zstd:1" },
  async ({ mountPoint, directory }) => {
    const home = join(mountPoint, "home");
    await btrfs("subvolume", "create", home);
    const expectedBytes = gibibytes * 2 ** 30;
    await run("sh", "-ec", `yes 'the same again, and again' | head -c ${expectedBytes} >${quote(join(home, "file"))}`);
    await btrfs("subvolume", "snapshot", "-r", home, join(mountPoint, "snapshot"));
    const store = await openSink(directory);
    try {
      const scene = { store, meter: await openMeter(directory), home, expectedBytes };
      await measure("one-object", [], scene);
      await measure("volumes", ["--volume-size", "256Mi"], scene);
    } finally {
      await store.close();
    }
  },
);
