// Properties of plans that hold for any snapshots, archives and streams.

import assert from "node:assert/strict";
import { describe, test } from "node:test";
import fc from "fast-check";
import { findChain, indexArchives } from "../../src/plan/chain.ts";
import { encodedBound } from "../../src/plan/encoding.ts";
import { formatKey, formatMetadata, parseArchive, parseKey } from "../../src/plan/key.ts";
import { planLayout } from "../../src/plan/layout.ts";
import { encodings, type Archive, type Key, type Snapshot } from "../../src/plan/model.ts";
import { planSync } from "../../src/plan/sync.ts";
import { archiveOf, inventory, keyOf, snapshot, source } from "../support/builders.ts";
import type { Inventory } from "../../src/plan/inventory.ts";

const paths = fc
  .array(fc.string({ unit: "binary", minLength: 1, maxLength: 40 }), { minLength: 1, maxLength: 6 })
  .map((parts) => parts.join("/"));

/** Some of twelve snapshots, and some of their archives: intact chains, holes, and archives of recreated names. */
const worlds = fc
  .array(fc.record({ local: fc.boolean(), archived: fc.boolean(), recreated: fc.boolean() }), { maxLength: 12 })
  .map((facts) => {
    const snapshots: Snapshot[] = [];
    const archived = new Map<Key, Archive>();
    let parent: Snapshot | null = null;
    for (const [index, { local, archived: stored, recreated }] of facts.entries()) {
      const taken = snapshot(index + 1);
      if (local) snapshots.push(recreated ? snapshot(index + 1, { uuid: snapshot(index + 500).uuid }) : taken);
      if (!stored) continue;
      archived.set(keyOf(taken.path), archiveOf(taken, parent));
      parent = taken;
    }
    return { snapshots, archived };
  });

type World = { readonly snapshots: readonly Snapshot[]; readonly archived: ReadonlyMap<Key, Archive> };

function inventoryOf({ snapshots, archived }: World): Inventory {
  return inventory(snapshots, [], { archives: [...archived.values()], archived: new Set(archived.keys()) });
}

/** Carries out the first `limit` steps of a plan. */
function carryOut(world: World, limit: number): Map<Key, Archive> {
  const archived = new Map(world.archived);
  const { steps } = planSync(inventoryOf(world));
  for (const step of steps.slice(0, limit)) archived.set(step.key, archiveOf(step.snapshot, step.sendParent));
  return archived;
}

describe("keys and metadata", () => {
  test("a path that is accepted is read back as it was, and its key has no slash", () => {
    fc.assert(
      fc.property(paths, (path) => {
        const name = formatKey(source.uuid, path);
        if ("refused" in name) return;
        assert.equal(parseKey(name.key)?.path, path);
        assert.equal(name.key.includes("/"), false);
      }),
    );
  });
  test("two paths never have one key", () => {
    fc.assert(
      fc.property(paths, paths, (a, b) => {
        const [first, second] = [formatKey(source.uuid, a), formatKey(source.uuid, b)];
        if ("key" in first && "key" in second) assert.equal(first.key === second.key, a === b);
      }),
    );
  });
  test("no text and no metadata makes the readers throw", () => {
    const metadata = fc.dictionary(fc.constantFrom(...Object.keys(metadataOf(snapshot(1)))), fc.string());
    fc.assert(
      fc.property(fc.string({ unit: "binary" }), metadata, (key, headers) => {
        parseKey(key);
        parseArchive({ key: `${source.uuid}\\x2f${key}`, bytes: 0, metadata: headers });
      }),
    );
  });
  test("metadata is read back as what was written", () => {
    const facts = fc.record({
      path: paths,
      otime: fc.bigInt({ min: -(10n ** 18n), max: 4n * 10n ** 18n }),
      ctransid: fc.maxSafeNat(),
      otransid: fc.maxSafeNat(),
    });
    fc.assert(
      fc.property(facts, (changes) => {
        const name = formatKey(source.uuid, changes.path);
        if ("refused" in name) return;
        const archive = parseArchive({ key: name.key, bytes: 1, metadata: metadataOf(snapshot(1, changes)) });
        assert.equal(archive?.lineage?.snapshot.ctransid, changes.ctransid);
        assert.equal(archive.otransid, changes.otransid);
        assert.equal(archive.otime, changes.otime);
      }),
    );
  });
});

function metadataOf(of: Snapshot): Record<string, string> {
  const facts = { encoding: "identity", sendProto: 2, partBytes: 1, volumes: null, tool: "t/1" } as const;
  return formatMetadata({ snapshot: of, sendParent: null }, facts);
}

describe("a sync plan", () => {
  test("sends each send parent before what builds on it, and nothing twice", () => {
    fc.assert(
      fc.property(worlds, (world) => {
        const done = new Set<string>(world.archived.keys());
        for (const {
          key,
          snapshot: { otransid },
          sendParent,
        } of planSync(inventoryOf(world)).steps) {
          assert.equal(done.has(key), false);
          if (sendParent !== null) assert.ok(done.has(keyOf(sendParent.path)) && sendParent.otransid < otransid);
          done.add(key);
        }
      }),
    );
  });
  test("carried out, leaves nothing to do, wherever it was stopped before", () => {
    fc.assert(
      fc.property(worlds, fc.nat(12), (world, stopped) => {
        const uninterrupted = carryOut(world, Infinity);
        const resumed = carryOut({ ...world, archived: carryOut(world, stopped) }, Infinity);
        assert.deepEqual(planSync(inventoryOf({ ...world, archived: uninterrupted })).steps, []);
        assert.deepEqual([...resumed].sort(), [...uninterrupted].sort());
      }),
    );
  });
  test("makes only archives with an intact chain, where those before it were intact", () => {
    fc.assert(
      fc.property(worlds, (world) => {
        const archives = [...carryOut(world, Infinity).values()];
        const index = indexArchives(archives);
        for (const archive of archives) assert.equal(findChain(archive, index).at(-1), archive);
      }),
    );
  });
});

test("a layout fits the store, the stream and the memory", () => {
  const MiB = 2 ** 20;
  const sizes = fc.record({
    bytes: fc.maxSafeNat(),
    memoryBytes: fc.integer({ min: 1, max: 4096 * MiB }),
    concurrency: fc.integer({ min: 1, max: 64 }),
    volumeBytes: fc.option(fc.maxSafeNat()),
    partsPerUpload: fc.integer({ min: 1, max: 10_000 }),
    minPartBytes: fc.integer({ min: MiB, max: 64 * MiB }),
    maxPartBytes: fc.integer({ min: 64 * MiB, max: 5 * 1024 * MiB }),
    cost: fc.record({ encoding: fc.constantFrom(...encodings), headerBytes: fc.integer({ min: 0, max: 20_000 }) }),
    bytesPerSecond: fc.option(fc.maxSafeNat()),
    openPartBytes: fc.option(fc.maxSafeNat()),
  });
  fc.assert(
    fc.property(
      sizes,
      ({ bytes, memoryBytes, concurrency, volumeBytes, cost, bytesPerSecond, openPartBytes, ...limits }) => {
        const policy = { memoryBytes, concurrency, volumeBytes };
        const known = { bytesPerSecond, openPartBytes };
        const layout = planLayout({ estimate: { bytes, exact: true }, cost }, limits, policy, known);
        if (layout === null) return;
        assert.ok(layout.partBytes >= limits.minPartBytes && layout.partBytes <= limits.maxPartBytes);
        const longest = encodedBound(layout.volumeBytes ?? bytes, cost);
        assert.ok(Math.ceil(longest / layout.partBytes) <= limits.partsPerUpload);
        assert.ok(layout.volumeBytes === null || layout.volumeBytes >= layout.partBytes * 0.9);
        assert.ok(volumeBytes === null || longest <= Math.max(volumeBytes, layout.partBytes));
        assert.ok(layout.concurrency >= 1 && layout.concurrency <= concurrency);
        assert.ok(layout.partBytes * (layout.concurrency + 1) <= memoryBytes);
      },
    ),
  );
});
