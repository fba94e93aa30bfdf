// The catalogue: what it saves, and that nothing which befalls its file makes it wrong.

import assert from "node:assert/strict";
import { chmod, mkdtemp, readdir, readFile, rm, stat, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { readArchives } from "../../../src/operations/inventory.ts";
import { listContainer, listSource } from "../../../src/operations/list.ts";
import { prepareSync } from "../../../src/operations/sync.ts";
import { formatMetadata } from "../../../src/plan/key.ts";
import type { Archive } from "../../../src/plan/model.ts";
import { openCatalogue } from "../../../src/state/catalogue.ts";
import { keyOf, snapshot } from "../../support/builders.ts";
import { memoryContainer, type MemoryContainer } from "../../support/memory-container.ts";
import { memorySource } from "../../support/memory-source.ts";
import type { Container } from "../../../src/operations/store-ports.ts";

const { signal } = new AbortController();
/** Requests: a HEAD of each of four, and for the one without metadata its first bytes and a HEAD of its proof. */
const ALL = 6;
const place = { endpoint: "https://store", container: "backup" };
const snapshots = [1, 2, 3, 4].map((n) => snapshot(n));

/** A chain of four, the last of them of the Python tool: without metadata. */
function stored(): MemoryContainer {
  const container = memoryContainer();
  for (const [index, of] of snapshots.entries()) {
    const facts = { encoding: "identity", sendProto: 2, partBytes: 1, volumes: null, tool: "t/1" } as const;
    const metadata = formatMetadata({ snapshot: of, sendParent: snapshots[index - 1] ?? null }, facts);
    const key = keyOf(of.path);
    const body = Buffer.from(index === 3 ? "age-encryption.org/v1\n" : "x");
    container.objects.set(key, {
      key,
      body,
      bytes: body.length,
      etag: `e${index}`,
      modified: new Date(1000 * index),
      metadata: index === 3 ? {} : metadata,
    });
  }
  return container;
}

describe("the catalogue", () => {
  let directory: string;
  let asked: string[] = [];
  before(async () => {
    directory = await mkdtemp(join(tmpdir(), "catalogue-"));
  });
  after(() => rm(directory, { recursive: true }));

  const counted = (container: Container): Container => ({
    ...container,
    head: async (key, stop) => {
      asked.push(key);
      return await container.head(key, stop);
    },
    peek: async (key, length, stop) => {
      asked.push(key);
      return await container.peek(key, length, stop);
    },
  });

  /** A run that looks at every archive: what it came to know, and how many requests that took. */
  async function look(
    container: Container,
    folder: string,
    at = place,
  ): Promise<{ readonly archives: readonly Archive[]; readonly asked: number }> {
    asked = [];
    const catalogue = await openCatalogue(join(directory, folder), at);
    const archives = await readArchives("", { container: counted(container), identities: [], catalogue }, signal);
    await catalogue.close();
    return { archives, asked: asked.length };
  }

  const fileOf = async (folder: string): Promise<string> =>
    join(directory, folder, (await readdir(join(directory, folder)))[0] ?? "");

  test("saves every request the second time, and gives the same answers", async () => {
    const container = stored();
    const first = await look(container, "saved");
    const second = await look(container, "saved");
    assert.deepEqual([first.asked, second.asked], [ALL, 0]);
    assert.deepEqual(second.archives, first.archives);
  });

  test("does not know an object that the listing shows otherwise than before", async () => {
    for (const change of [{ etag: "other" }, { bytes: 9 }, { modified: new Date(5) }]) {
      const container = stored();
      await look(container, "changed");
      const key = keyOf(snapshots[1]?.path ?? "");
      container.objects.set(key, { ...(container.objects.get(key) ?? assert.fail()), ...change });
      assert.equal((await look(container, "changed")).asked, 1, JSON.stringify(change));
      await rm(join(directory, "changed"), { recursive: true });
    }
  });

  test("knows nothing of another container or another store", async () => {
    await look(stored(), "places");
    assert.equal((await look(stored(), "places", { ...place, container: "other" })).asked, ALL);
    const files = await readdir(join(directory, "places"));
    assert.equal(files.length, 2);
    // Copied by somebody who knows better:
    await writeFile(
      join(directory, "places", files[0] ?? ""),
      await readFile(join(directory, "places", files[1] ?? "")),
    );
    const both = [await look(stored(), "places"), await look(stored(), "places", { ...place, container: "other" })];
    assert.deepEqual(both.map((each) => each.asked).sort(), [0, ALL]);
  });

  test("drops each line that is damaged, cut off, or of another form, and no other", async () => {
    await look(stored(), "lines");
    const file = await fileOf("lines");
    const lines = (await readFile(file, "utf8")).split("\n");
    const damaged = [
      lines[0]?.replace('"bytes":1', '"bytes":2'),
      lines[1],
      lines[2]?.slice(0, -4),
      "00000000 {}",
      "",
      lines[3],
    ];
    await writeFile(file, damaged.join("\n"));
    const { archives, asked: questions } = await look(stored(), "lines");
    assert.equal(questions, 2);
    assert.deepEqual(archives, (await look(stored(), "fresh")).archives);
    await writeFile(file, Buffer.from([0, 255, 10, 13, 200]));
    assert.equal((await look(stored(), "lines")).asked, ALL);
  });

  test("forgets what is gone, and never remembers that something is missing", async () => {
    const container = stored();
    await look(container, "gone");
    const key = keyOf(snapshots[3]?.path ?? "");
    const object = container.objects.get(key) ?? assert.fail();
    container.objects.delete(key);
    await look(container, "gone");
    assert.equal((await readFile(await fileOf("gone"), "utf8")).includes(JSON.stringify(key).slice(1, -1)), false);
    container.objects.set(key, object);
    assert.equal((await look(container, "gone")).archives.length, 4);
  });

  test("cannot be read by others, and is not written through a link", async () => {
    await look(stored(), "modes");
    const file = await fileOf("modes");
    assert.deepEqual(
      [(await stat(file)).mode & 0o777, (await stat(join(directory, "modes"))).mode & 0o777],
      [0o600, 0o700],
    );
    const victim = join(directory, "victim");
    await writeFile(victim, "precious");
    await rm(file);
    await symlink(victim, file);
    assert.equal((await look(stored(), "modes")).asked, ALL);
    assert.equal(await readFile(victim, "utf8"), "precious");
  });

  test("that cannot be written is not needed", async () => {
    await writeFile(join(directory, "no-directory"), "");
    assert.equal((await look(stored(), "no-directory/below")).archives.length, 4);
    await chmod(directory, 0o700);
  });

  test("is not asked by a sync: the store is, for its own snapshots and all that they build on", async () => {
    const container = stored();
    await look(container, "sync");
    const catalogue = await openCatalogue(join(directory, "sync"), place);
    const plan = async (): Promise<unknown[]> => {
      asked = [];
      const local = await memorySource(snapshots.slice(1, 3), () => 1).list(signal);
      const { plan: planned } = await prepareSync(
        local,
        { container: counted(container), identities: [], catalogue },
        {},
        signal,
      );
      return [asked.map((key) => key.slice(-1)).sort(), planned.kept.map(({ path }) => path.slice(-1))];
    };
    assert.deepEqual(await plan(), [
      ["1", "2", "3"],
      ["2", "3"],
    ]);
    const stale = await container.list("", signal);
    container.objects.delete(keyOf(snapshots[2]?.path ?? ""));
    const lagging: Container = { ...container, list: async () => Promise.resolve(stale) };
    const local = await memorySource(snapshots.slice(1, 3), () => 1).list(signal);
    const { plan: planned } = await prepareSync(local, { container: lagging, identities: [], catalogue }, {}, signal);
    assert.deepEqual(
      planned.steps.map(({ snapshot: { path } }) => path),
      ["snapshots/3"],
      "a listing is not believed, nor is what was known",
    );
    const { pending } = await listSource(
      local,
      { container: lagging, identities: [], catalogue, relies: true },
      signal,
    );
    assert.equal(pending, 1, "what was found missing is not known any more");
  });

  test("makes a list of many cost one listing", async () => {
    const container = stored();
    await look(container, "list");
    const catalogue = await openCatalogue(join(directory, "list"), place);
    asked = [];
    const reading = { container: counted(container), identities: [], catalogue, relies: true };
    assert.equal((await listContainer(reading, signal)).length, 4);
    assert.equal((await listSource(await memorySource(snapshots, () => 1).list(signal), reading, signal)).pending, 0);
    assert.equal(asked.length, 0);
  });
});
