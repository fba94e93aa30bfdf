// An object under an archive's key that the store does not give out, and that has no metadata to tell what it is.

import assert from "node:assert/strict";
import { Readable } from "node:stream";
import { describe, test } from "node:test";
import { BackupError } from "../../../src/errors.ts";
import type { Container } from "../../../src/operations/ports.ts";
import { listContainer } from "../../../src/operations/list.ts";
import { findSelected } from "../../../src/operations/restore.ts";
import { formatMetadata } from "../../../src/plan/key.ts";
import { keyOf, snapshot } from "../../support/builders.ts";
import { memoryContainer } from "../../support/memory-container.ts";

const { signal } = new AbortController();
const facts = { encoding: "identity", sendProto: 2, partBytes: 5242880, volumes: null, tool: "test/1" } as const;
const BROKEN = keyOf("snapshots/0");

/** A whole archive, and beside it one whose bytes are refused with `error`. */
async function openBeside(error: BackupError): Promise<Container> {
  const container = memoryContainer();
  const options = { partBytes: facts.partBytes, concurrency: 1, partsInMemory: 3 };
  const metadata = formatMetadata({ snapshot: snapshot(1), sendParent: null }, facts);
  await container.put(keyOf("snapshots/1"), Readable.from([Buffer.from("x")]), { ...options, metadata }, signal);
  await container.put(BROKEN, Readable.from([Buffer.from("x")]), { ...options, metadata: {} }, signal);
  const peek: Container["peek"] = async (key, length, stop) => {
    if (key === BROKEN) throw error;
    return await container.peek(key, length, stop);
  };
  return { ...container, peek };
}

describe("one object that cannot be read", () => {
  for (const code of ["ARCHIVE_DAMAGED", "ARCHIVE_MISSING"] as const) {
    test(`keeps nobody from the others, and is listed as what it is (${code})`, async () => {
      const reading = { container: await openBeside(new BackupError(code, "segments are gone")), identities: [] };
      const listed = await listContainer(reading, signal);
      assert.deepEqual(
        listed.map(({ path, archive, chainLength }) => [path, archive?.failure ?? null, chainLength]),
        [
          ["snapshots/0", "segments are gone", null],
          ["snapshots/1", null, 1],
        ],
      );
      const chain = await findSelected({ by: "name", name: keyOf("snapshots/1") }, reading, signal);
      assert.deepEqual(
        chain.map(({ path }) => path),
        ["snapshots/1"],
      );
      for (const name of [BROKEN, "snapshots/0"]) {
        await assert.rejects(findSelected({ by: "name", name }, reading, signal), {
          code: "ARCHIVE_DAMAGED",
          message: /cannot be read: segments are gone/,
        });
      }
    });
  }

  test("is no reason to go on when nothing can be read", async () => {
    for (const code of ["ACCESS_DENIED", "STORE_UNAVAILABLE"] as const) {
      const reading = { container: await openBeside(new BackupError(code, "not now")), identities: [] };
      await assert.rejects(listContainer(reading, signal), { code });
    }
  });
});
