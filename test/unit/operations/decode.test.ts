// From the objects of an archive to the send stream in them.

import assert from "node:assert/strict";
import { once } from "node:events";
import { Readable } from "node:stream";
import { buffer } from "node:stream/consumers";
import { describe, test } from "node:test";
import { decoded } from "../../../src/operations/decode.ts";
import { AGE_MAGIC } from "../../../src/stream/age.ts";

const { signal } = new AbortController();
const decoding = { identities: [], subject: "it" };

/** An object whose first bytes have come; no others follow. */
function stalled(head: string): Readable {
  const object = new Readable({ read: () => undefined });
  object.push(head);
  return object;
}

async function* volumes(...objects: readonly Readable[]): AsyncGenerator<Readable> {
  for (const object of objects) yield await Promise.resolve(object);
}

/** Fails when the object is not closed after a while. */
async function untilClosed(object: Readable): Promise<void> {
  const timer = setTimeout(() => object.destroy(new Error("it stays open")), 60_000);
  try {
    if (!object.closed) await once(object, "close");
  } finally {
    clearTimeout(timer);
  }
}

async function* failing(): AsyncGenerator<Buffer> {
  yield await Promise.resolve(Buffer.alloc(100));
  throw new Error("cut");
}

const texts = ["the first words of it, ", "and the others"];
const objects = (): Readable[] => texts.map((text) => Readable.from([Buffer.from(text)]));

describe("decoding an archive", () => {
  test("joins its objects to one stream", async () => {
    const [first = Readable.from([])] = objects();
    assert.equal((await buffer(await decoded([first], decoding, signal))).toString(), texts[0]);
    assert.equal((await buffer(await decoded(volumes(...objects()), decoding, signal))).toString(), texts.join(""));
  });

  test("passes the failure of an object on", async () => {
    const read = async (each: Parameters<typeof decoded>[0]): Promise<Buffer> =>
      buffer(await decoded(each, decoding, signal));
    await assert.rejects(read([Readable.from(failing())]), /cut/);
    await assert.rejects(read(volumes(Readable.from(failing()))), /cut/);
  });

  for (const [what, open] of [
    ["a single object", (object: Readable) => decoded([object], decoding, signal)],
    ["a volume", (object: Readable) => decoded(volumes(object), decoding, signal)],
  ] as const) {
    test(`closes what it cannot decode: ${what}`, async () => {
      const object = stalled(AGE_MAGIC);
      await assert.rejects(async () => buffer(await open(object)), { code: "IDENTITY_REFUSED" });
      await untilClosed(object);
    });
  }

  test("closes a single object with the stream that it makes of it", async () => {
    const object = stalled("some text that is longer than a beginning");
    const stream = await decoded([object], decoding, signal);
    await stream[Symbol.asyncIterator]().next();
    stream.destroy();
    await untilClosed(object);
  });
});
