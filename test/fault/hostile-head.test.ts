// Looking at how an object begins takes bounded memory and time, whatever the object becomes when it is decoded.

import assert from "node:assert/strict";
import { Readable } from "node:stream";
import { buffer } from "node:stream/consumers";
import { describe, test } from "node:test";
import { readArchives } from "../../src/operations/inventory.ts";
import { fedBy, throughPrograms } from "../../src/stream/pipeline.ts";
import { compressCommand } from "../../src/stream/zstd.ts";
import { keyOf } from "../support/builders.ts";
import { memoryContainer } from "../support/memory-container.ts";
import { peekArchive } from "../../src/operations/recognition.ts";

const { signal } = new AbortController();
const MiB = 2 ** 20;

async function* zeros(mebibytes: number): AsyncGenerator<Buffer> {
  const piece = Buffer.alloc(MiB);
  for (let at = 0; at < mebibytes; at++) yield await Promise.resolve(piece);
}

describe("an object whose first bytes decompress to very many", () => {
  test("is examined in little memory, and not read to its end", { timeout: 60_000 }, async () => {
    const mebibytes = 1500;
    const body = await buffer(throughPrograms([compressCommand(3)], fedBy(Readable.from(zeros(mebibytes))), signal));
    assert.ok(body.length < 256 * 1024, `all of it is looked at: ${body.length}`);
    const container = memoryContainer();
    const options = { partBytes: 5 * MiB, concurrency: 1, partsInMemory: 3, metadata: {} };
    await container.put(keyOf("bomb"), Readable.from([body]), options, signal);
    const before = process.memoryUsage().rss;
    let most = before;
    const watch = setInterval(() => (most = Math.max(most, process.memoryUsage().rss)), 20);
    const [archive] = await readArchives("", { container, identities: [] }, signal);
    assert.ok(archive !== undefined);
    assert.deepEqual([archive.encoding, archive.lineage], ["zstd", null]);
    assert.deepEqual(await peekArchive(archive, { container, identities: [] }, signal), {
      lineage: null,
      isRefused: false,
    });
    clearInterval(watch);
    assert.ok(most - before < 200 * MiB, `${Math.round((most - before) / MiB)} MiB more than before`);
  });
});
