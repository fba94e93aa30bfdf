// A small archive, damaged in every way there is: each byte flipped, cut at each byte, each command removed, swapped and
// doubled. `restore` and `verify --read-data` catch all of it, and no snapshot is ever sealed.

import assert from "node:assert/strict";
import { mkdir, readdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { Readable } from "node:stream";
import { buffer } from "node:stream/consumers";
import { after, before, describe, test } from "node:test";
import { openSource } from "../../src/btrfs/source.ts";
import { openTarget } from "../../src/btrfs/target.ts";
import { BackupError } from "../../src/errors.ts";
import type { RestoreTarget } from "../../src/operations/ports.ts";
import { prepareRestore, runRestore } from "../../src/operations/restore.ts";
import { survey } from "../../src/operations/survey.ts";
import { readArchivesThrough } from "../../src/operations/verify.ts";
import { formatMetadata } from "../../src/plan/key.ts";
import type { Snapshot } from "../../src/plan/model.ts";
import { keyOf } from "../support/builders.ts";
import { btrfs, openLoopback, type Loopback } from "../support/loopback.ts";
import { memoryContainer, type MemoryContainer } from "../support/memory-container.ts";
import { memoryTarget } from "../support/memory-target.ts";
import { noBtrfs } from "../support/requirements.ts";

const { signal } = new AbortController();
const STREAM_HEADER_BYTES = 17;
const COMMAND_HEADER_BYTES = 10;

describe("a damaged archive", { skip: noBtrfs() }, () => {
  let disk: Loopback;
  let snapshot: Snapshot;
  let body: Buffer;
  let container: MemoryContainer;

  before(async () => {
    disk = await openLoopback({ sizeBytes: 256 * 2 ** 20 });
    const home = join(disk.mountPoint, "home");
    await btrfs("subvolume", "create", home);
    await mkdir(join(home, "folder"));
    await writeFile(join(home, "folder/file"), "some content");
    await writeFile(join(home, "other"), "other content");
    await btrfs("subvolume", "snapshot", "-r", home, join(disk.mountPoint, "small"));
    const source = await openSource(home, { sendProto: 2 }, signal);
    const { snapshots } = await source.list(signal);
    snapshot = snapshots[0] ?? assert.fail();
    body = await buffer(source.send({ snapshot, sendParent: null }, signal));
    await source.close();
    container = memoryContainer();
    const metadata = formatMetadata(
      { snapshot, sendParent: null },
      { encoding: "identity", sendProto: 2, partBytes: 5242880, volumes: null, tool: "test/1" },
    );
    await container.put(
      keyOf("small"),
      Readable.from([body]),
      { partBytes: 5242880, concurrency: 1, partsInMemory: 3, metadata },
      signal,
    );
  });
  after(() => disk.close());

  /** The store has lost what it was given, and does not know. */
  function damage(to: Buffer): void {
    const object = container.objects.get(keyOf("small")) ?? assert.fail();
    container.objects.set(object.key, { ...object, body: to });
  }

  async function restoreTo(target: RestoreTarget): Promise<void> {
    const edges = { container, identities: [], target };
    const plan = await prepareRestore({ by: "name", name: keyOf("small") }, edges, "chain", signal);
    const watcher = { onStart: () => undefined, onProgress: () => undefined, onReceipt: () => undefined };
    await runRestore(plan, edges, { watcher, now: () => 0 }, signal);
  }

  async function failsToRestore(target: RestoreTarget, what: string): Promise<void> {
    const error: unknown = await restoreTo(target).then(
      () => null,
      (reason: unknown) => reason,
    );
    assert.ok(error instanceof BackupError && error.code === "ARCHIVE_DAMAGED", `${what}: ${String(error)}`);
  }

  async function isFound(what: string): Promise<void> {
    const reading = { container, identities: [] };
    const { archives, findings } = await survey(reading, [], signal);
    const read = await readArchivesThrough(archives, { archives, reading, onBytes: () => undefined }, signal);
    const [found] = read;
    assert.ok(found !== undefined || findings.some(({ severity }) => severity === "error"), what);
    assert.deepEqual(found?.breaks, ["small"], what);
  }

  function* damages(): Generator<[what: string, damaged: Buffer]> {
    for (let at = 0; at < body.length; at++) {
      const flipped = Buffer.from(body);
      flipped[at] = (body[at] ?? 0) ^ (1 << (at % 8));
      yield [`byte ${at} flipped`, flipped];
      yield [`cut at ${at}`, body.subarray(0, at)];
    }
    const commands = commandsOf(body);
    const head = body.subarray(0, STREAM_HEADER_BYTES);
    const made = (...pieces: readonly (readonly Buffer[])[]): Buffer => Buffer.concat([head, ...pieces.flat()]);
    for (const [index, command] of commands.entries()) {
      const [earlier, later] = [commands.slice(0, index), commands.slice(index + 1)];
      yield [`command ${index} removed`, made(earlier, later)];
      yield [`command ${index} doubled`, made(earlier, [command, command], later)];
      const [next, ...others] = later;
      if (next !== undefined && !next.equals(command))
        yield [`command ${index} swapped`, made(earlier, [next, command], others)];
    }
    yield ["zeros between commands", made(commands.slice(0, 3), [Buffer.alloc(10)], commands.slice(3))];
    yield ["something after the end", Buffer.concat([body, Buffer.from("more")])];
  }

  test("is restored and passes verify while it is intact", async () => {
    const target = memoryTarget();
    await restoreTo(target);
    assert.ok(target.sealed.get("small")?.equals(body));
    const { archives, findings } = await survey({ container, identities: [] }, [], signal);
    assert.deepEqual([archives.length, findings], [1, []]);
  });

  test("is never sealed, and always found, whatever has happened to it", async () => {
    let tried = 0;
    for (const [what, damaged] of damages()) {
      damage(damaged);
      const target = memoryTarget();
      await failsToRestore(target, what);
      assert.equal(target.sealed.size, 0, what);
      await isFound(what);
      tried += 1;
    }
    assert.ok(tried > 2 * body.length + 20, String(tried));
    damage(body);
  });

  test("leaves nothing on a real btrfs either", async () => {
    const directory = join(disk.mountPoint, "restored");
    await mkdir(directory);
    const target = await openTarget(directory, signal);
    const every = Math.ceil((2 * body.length) / 30);
    let number = 0;
    for (const [what, damaged] of damages()) {
      number += 1;
      if (number <= 2 * body.length && number % every !== 0) continue;
      damage(damaged);
      await failsToRestore(withoutOriginal(target), what);
      assert.deepEqual(await readdir(directory), [], what);
    }
    damage(body);
    await restoreTo(withoutOriginal(target));
    assert.deepEqual(await readdir(directory), ["small"]);
    await target.close();
  });

  /** The snapshot itself lies on the same filesystem; nothing would be received. */
  function withoutOriginal(target: RestoreTarget): RestoreTarget {
    return {
      ...target,
      list: async (...args) => (await target.list(...args)).filter(({ uuid }) => uuid !== snapshot.uuid),
    };
  }
});

function commandsOf(stream: Buffer): Buffer[] {
  const commands: Buffer[] = [];
  for (let at = STREAM_HEADER_BYTES; at < stream.length;) {
    const end = at + COMMAND_HEADER_BYTES + stream.readUInt32LE(at);
    commands.push(stream.subarray(at, end));
    at = end;
  }
  return commands;
}
