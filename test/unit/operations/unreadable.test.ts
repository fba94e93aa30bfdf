// An object under an archive's key that the store does not return, and that has no metadata to identify it.

import assert from "node:assert/strict";
import { Readable } from "node:stream";
import { describe, test } from "node:test";
import { BackupError } from "../../../src/errors.ts";
import { listContainer, listSource } from "../../../src/operations/list.ts";
import { prepareSync } from "../../../src/operations/sync.ts";
import { findSelected } from "../../../src/operations/restore.ts";
import { formatMetadata } from "../../../src/plan/key.ts";
import { keyOf, snapshot, source } from "../../support/builders.ts";
import { memoryContainer } from "../../support/memory-container.ts";
import type { Container, KnownObject, StoredObject } from "../../../src/operations/store-ports.ts";

const { signal } = new AbortController();
const facts = { encoding: "identity", sendProto: 2, partBytes: 5242880, volumes: null, tool: "test/1" } as const;
const BROKEN = keyOf("snapshots/0");

/** An intact archive, and beside it one whose bytes are refused with `error`. */
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
    test(`does not hide the others, and is listed as unreadable (${code})`, async () => {
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

  for (const isListed of [true, false])
    test(`under the name of a snapshot that is here is an error of that one, and the rest is sent (listed: ${isListed})`, async () => {
      const container = await openBeside(new BackupError("ARCHIVE_DAMAGED", "segments are gone"));
      const list: Container["list"] = async (prefix, stop) =>
        (await container.list(prefix, stop)).filter(({ key }) => isListed || key !== BROKEN);
      const reading = { container: { ...container, list }, identities: [] };
      const local = { source, snapshots: [snapshot(0), snapshot(1), snapshot(2)], origin: null };
      const { plan } = await prepareSync(local, reading, {}, signal);
      assert.deepEqual(
        plan.findings.map(({ code, severity, subject }) => [code, severity, subject]),
        [["ARCHIVE_DAMAGED", "error", BROKEN]],
      );
      assert.match(plan.findings[0]?.message ?? "", /cannot be read \(segments are gone\)/);
      assert.deepEqual(
        plan.steps.map(({ snapshot: { path }, sendParent }) => [path, sendParent?.path]),
        [["snapshots/2", "snapshots/1"]],
      );
      const { listed } = await listSource(local, reading, signal);
      assert.equal(listed.length, 4, "the snapshot and what is stored under its name stand apart");
    });

  test("does not let a run continue when nothing can be read", async () => {
    for (const code of ["ACCESS_DENIED", "STORE_UNAVAILABLE"] as const) {
      const reading = { container: await openBeside(new BackupError(code, "not now")), identities: [] };
      await assert.rejects(listContainer(reading, signal), { code });
    }
  });
});

test("an archive that the store has lost is reported, although the listing names it and the catalogue knows it", async () => {
  const container = memoryContainer();
  const options = { partBytes: facts.partBytes, concurrency: 1, partsInMemory: 3 };
  const chain = [snapshot(1), snapshot(2), snapshot(3)];
  for (const [position, each] of chain.entries()) {
    const metadata = formatMetadata({ snapshot: each, sendParent: chain[position - 1] ?? null }, facts);
    await container.put(keyOf(each.path), Readable.from([Buffer.from("x")]), { ...options, metadata }, signal);
  }
  const known = new Map<string, KnownObject>();
  const catalogue = {
    find: ({ key }: StoredObject) => known.get(key) ?? null,
    record: ({ key }: StoredObject, object: KnownObject) => void known.set(key, object),
    forget: (key: string) => void known.delete(key),
    retain: () => undefined,
  };
  const lost = keyOf("snapshots/1");
  const gone = new Set<string>();
  const head: Container["head"] = async (key, stop) => (gone.has(key) ? null : await container.head(key, stop));
  const reading = { container: { ...container, head }, identities: [], catalogue };
  // Nothing of the first is left here, and a newer one is still to be sent.
  const local = { source, snapshots: [snapshot(2), snapshot(3), snapshot(4)], origin: null };
  const parents = async (): Promise<unknown> =>
    (await prepareSync(local, reading, {}, signal)).plan.steps.map(({ sendParent }) => sendParent?.path);
  assert.deepEqual(await parents(), ["snapshots/3"]);
  assert.ok(known.has(lost));
  gone.add(lost);
  const { plan } = await prepareSync(local, reading, {}, signal);
  assert.deepEqual(
    plan.findings.map(({ code, severity }) => [code, severity]),
    [["CHAIN_BROKEN", "error"]],
  );
  assert.deepEqual(
    plan.steps.map(({ sendParent }) => sendParent?.path),
    [undefined],
    "a new chain begins",
  );
  assert.equal(known.has(lost), false);
});

test("restore asks for the archive whose key is named, although a stale listing lacks it", async () => {
  const container = memoryContainer();
  const options = { partBytes: facts.partBytes, concurrency: 1, partsInMemory: 3 };
  const metadata = formatMetadata({ snapshot: snapshot(1), sendParent: null }, facts);
  await container.put(keyOf("snapshots/1"), Readable.from([Buffer.from("x")]), { ...options, metadata }, signal);
  const reading = { container: { ...container, list: () => Promise.resolve([]) }, identities: [] };
  const chain = await findSelected({ by: "name", name: keyOf("snapshots/1") }, reading, signal);
  assert.deepEqual(
    chain.map(({ path }) => path),
    ["snapshots/1"],
  );
});
