// Archives beside the streams that their snapshots make now.

import assert from "node:assert/strict";
import { Readable } from "node:stream";
import { describe, test } from "node:test";
import { compareWithLocal } from "../../../src/operations/compare.ts";
import { readArchive } from "../../../src/operations/inventory.ts";
import type { Sender } from "../../../src/operations/ports.ts";
import { streamIdentity } from "../../../src/plan/model.ts";
import { keyOf, snapshot } from "../../support/builders.ts";
import { memoryContainer } from "../../support/memory-container.ts";
import { END } from "../../support/memory-target.ts";
import { makeFile, startOfStream } from "../../support/stream-commands.ts";

const signal = new AbortController().signal;
const there = snapshot(300);
const key = keyOf("300");

/** A clean path of so many characters. */
function pathOf(length: number): string {
  return Array.from({ length }, (_, at) => (at % 100 === 50 && at < length - 1 ? "/" : "a")).join("");
}

/** A good stream of protocol 2, of so many bytes. */
function streamOf(bytes: number): Buffer {
  const start = startOfStream(streamIdentity(there), "s");
  start.writeUInt32LE(2, "btrfs-stream\0".length);
  const files: Buffer[] = [];
  const least = makeFile("").length;
  let left = bytes - start.length - END.length;
  for (; left > 4000; left -= files.at(-1)?.length ?? 0) files.push(makeFile(pathOf(2000)));
  files.push(makeFile(pathOf(left - least)));
  return Buffer.concat([start, ...files, END]);
}

async function compare(
  stored: Buffer,
  local: Buffer,
): Promise<{ readonly protos: number[]; readonly codes: string[] }> {
  const container = memoryContainer();
  const options = { partBytes: 5 * 2 ** 20, concurrency: 1, partsInMemory: 2, metadata: {} };
  await container.put(key, Readable.from([stored]), options, signal);
  const reading = { container, identities: [] };
  const archive = (await readArchive(key, reading, signal)) ?? assert.fail();
  const protos: number[] = [];
  const openSource = (proto: number): Promise<Sender> => {
    protos.push(proto);
    return Promise.resolve({ send: () => Readable.from([local]) } as unknown as Sender);
  };
  const context = { archives: [archive], reading, onBytes: () => undefined };
  const { compared, findings } = await compareWithLocal([archive], { snapshots: [there], openSource }, context, signal);
  assert.equal(compared, 1);
  return { protos, codes: findings.map(({ code }) => code) };
}

describe("an archive is compared with what its snapshot makes now", () => {
  // The last 64 KiB of an object are withheld: then the first piece is whatever is before them.
  for (const bytes of [10_000, 65_536, 65_537, 65_540, 65_600, 65_700, 70_000, 200_000]) {
    test(`by its own protocol, whatever the first piece has of its head: ${bytes} bytes`, async () => {
      const stream = streamOf(bytes);
      assert.equal(stream.length, bytes);
      assert.deepEqual(await compare(stream, stream), { protos: [2], codes: [] });
    });
  }

  test("and the difference is found", async () => {
    const stream = streamOf(200_000);
    const other = Buffer.from(stream);
    other.writeUInt8(other.readUInt8(150_000) ^ 1, 150_000);
    assert.deepEqual(await compare(stream, other), { protos: [2], codes: ["NOT_COMPARABLE"] });
  });
});
