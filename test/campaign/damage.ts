// The kinds of faults that are in the store: what it has stored is damaged or lost, what was finished looks unfinished.

import { createHash } from "node:crypto";
import { mkdir, mkdtemp, open, readFile, rm, truncate } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import type { Swift } from "../support/swift.ts";
import type { Chance } from "./chance.ts";
import type { StoredObject } from "./eyes.ts";
import type { FaultKind } from "./faults.ts";
import {
  brokenBy,
  checkArchived,
  checkContainer,
  checkEnd,
  checkRestored,
  filesOf,
  look,
  partsOf,
  restsOn,
  violated,
  type Stored,
} from "./invariants.ts";
import { copyWithAttributes } from "./machine.ts";
import {
  clearTarget,
  deleteSnapshot,
  disturbedSync,
  DISTURBED,
  someWords,
  untilHit,
  work,
  type Round,
} from "./round.ts";
import { identityOf, keyOf, snapshotsOf, startRestore, startSync, startVerify, type World } from "./world.ts";

const MINUTE = 60_000;

type Damage = "flip" | "truncate" | "lose" | "unlist" | "vanish";

/** Damage done to the store, and the way to undo it. */
interface Harm {
  readonly key: string;
  readonly damage: Damage;
  readonly object: StoredObject;
  repair(): Promise<void>;
}

export const storeDamaged: FaultKind = {
  name: "store damaged",
  async play(round) {
    const { world, chance } = round;
    await work(round, world.machine, { snapshots: chance.int(1, 2) });
    await disturbedSync(round, someWords(world, chance), () => Promise.resolve());
    await checkContainer(world);
    await untilHit(round, async () => {
      const harm = await harmSome(world, chance);
      if (harm === null) return false;
      try {
        await findDamage(round, harm);
      } finally {
        await harm.repair();
        world.damaged.clear();
        world.intact.delete(harm.key);
      }
      return true;
    });
  },
};

async function harmSome(world: World, chance: Chance): Promise<Harm | null> {
  const stored = await look(world);
  const keys = [...stored.archives.keys()].toSorted();
  const [first, ...rest] = keys;
  if (first === undefined) return null;
  const key = chance.pick([first, ...rest, ...rest.slice(-3)]);
  const damage = chance.pick<Damage>(["flip", "flip", "truncate", "lose", "lose", "unlist", "vanish"]);
  const objects = (await restsOn(key, stored)).toSorted((a, b) => (a.name < b.name ? -1 : 1));
  const itself = stored.archives.get(key);
  const candidates = objects.filter(({ segments, bytes }) => damage === "lose" || (segments === null && bytes > 0));
  const object = damage === "unlist" || damage === "vanish" ? itself : pickFrom(chance, candidates);
  if (object === undefined) return null;
  return await harm(world, { key, damage, object, at: chance.fraction() });
}

interface HarmPlan {
  readonly key: string;
  readonly damage: Damage;
  readonly object: StoredObject;
  readonly at: number;
}

async function harm(world: World, { key, damage, object, at }: HarmPlan): Promise<Harm> {
  const { swift } = world.ground;
  const directory = await mkdtemp(join(tmpdir(), "campaign-saved-"));
  const saved = join(directory, "saved");
  await copyWithAttributes(object.file, saved);
  const isListed = object.name.startsWith(`/AUTH_test/${world.container}/`);
  world.damaged.add(object.name);
  world.story.push(`# ${damage}: ${object.name} (${object.bytes} bytes) of ${key}`);
  if (damage === "flip") await flip(object.file, Math.floor(at * object.bytes));
  if (damage === "truncate") await truncate(object.file, Math.floor(at * object.bytes));
  if (damage === "lose" || damage === "vanish") await rm(object.file);
  if ((damage === "unlist" || damage === "vanish") && isListed) await changeListing(swift, "DELETE", object);
  return {
    key,
    damage,
    object,
    async repair() {
      const now = (await look(world)).objects.get(object.name);
      // An archive that was stored again in place of a lost one stays.
      if (now === undefined || now.file === object.file) {
        await mkdir(dirname(object.file), { recursive: true });
        await copyWithAttributes(saved, object.file);
        if (isListed) await changeListing(swift, "PUT", object);
      }
      await rm(directory, { recursive: true });
    },
  };
}

async function flip(file: string, at: number): Promise<void> {
  const handle = await open(file, "r+");
  try {
    const byte = Buffer.alloc(1);
    await handle.read(byte, 0, 1, at);
    byte[0] = (byte[0] ?? 0) ^ 0x10;
    await handle.write(byte, 0, 1, at);
  } finally {
    await handle.close();
  }
}

/** As an object server would report to the container server: the container's list gains or loses an object. */
async function changeListing(swift: Swift, method: "PUT" | "DELETE", object: StoredObject): Promise<void> {
  const port =
    /^bind_port = (\d+)$/m.exec(await readFile(join(swift.dir, "etc/container-server.conf"), "utf8"))?.[1] ?? "0";
  const [, account = "", container = "", ...rest] = object.name.split("/");
  const hash = createHash("md5").update(`test-prefix/${account}/${container}test-suffix`).digest();
  // Rings of the tests have 2 ** 2 partitions.
  const partition = hash.readUInt32BE(0) >>> 30;
  const path = ["d1", partition, account, container, rest.join("/")]
    .map((part) => encodeURIComponent(part).replaceAll("%2F", "/"))
    .join("/");
  const seconds = (Date.now() / 1000).toFixed(5);
  const headers = {
    "x-timestamp": seconds,
    "x-size": `${object.length}`,
    "x-etag": object.etag,
    "x-content-type": "application/octet-stream",
    "x-backend-storage-policy-index": "0",
  };
  const response = await fetch(`http://127.0.0.1:${port}/${path}`, { method, headers });
  if (!response.ok) throw new Error(`${method} in the listing: ${response.status}`);
}

/** True when the store would give back what was stored: every file there, every MD5 right. */
async function isGood(key: string, stored: Stored): Promise<boolean> {
  const archive = stored.archives.get(key);
  if (archive === undefined || (await brokenBy(key, stored)) !== null) return false;
  const parts = await partsOf(archive, key, stored);
  if (typeof parts === "string") return false;
  for (const part of parts) {
    const files = filesOf(part, stored);
    if (typeof files === "string") return false;
    for (const { file, etag } of files) {
      if (
        createHash("md5")
          .update(await readFile(file))
          .digest("hex") !== etag
      )
        return false;
    }
  }
  return true;
}

/** Verify and restore find it, as often as they are asked; a sync does not build on what it can know to be lost. */
async function findDamage(round: Round, harmed: Harm): Promise<void> {
  const { world, chance } = round;
  const { key, damage } = harmed;
  const isUnlisted = damage === "unlist";
  const looks = chance.int(1, 2);
  const syncs = chance.maybe(0.6);
  if (syncs && chance.maybe(0.5)) await syncOver(round, harmed);
  for (let count = 0; count < looks; count += 1) {
    const good = await isGood(key, await look(world));
    // Nobody can miss an object that the container does not list and on which nothing builds.
    const unknowable = isUnlisted || (damage === "vanish" && !(await isParent(world, key)));
    const ran = await startVerify(world, ["--read-data"]).ended;
    checkEnd(ran, `verify --read-data with a damaged archive (${damage})`, unknowable ? [0, 14] : good ? [0] : [14]);
  }
  if (syncs) await syncOver(round, harmed);
  await clearTarget(world);
  const good = await isGood(key, await look(world));
  const ran = await startRestore(world, key).ended;
  checkEnd(ran, `restore of a damaged archive (${damage})`, good ? (isUnlisted ? [0, 14] : [0, 14]) : [14, 2]);
  const sealed = await checkRestored(world);
  const identity = world.intact.get(key)?.identity;
  if (!good && sealed.some(({ receivedUuid, stransid }) => `${receivedUuid ?? ""}/${stransid}` === identity)) {
    violated("a damaged archive is never restored as if it were good", key);
  }
  await clearTarget(world);
}

async function isParent(world: World, key: string): Promise<boolean> {
  const identity = world.intact.get(key)?.identity;
  return [...world.intact.values()].some(({ sendParent }) => sendParent === identity);
}

async function syncOver(round: Round, { key, damage }: Harm): Promise<void> {
  const { world, chance } = round;
  const { machine } = world;
  if (chance.maybe(0.4)) {
    const here = await snapshotsOf(world, machine);
    const local = here.find((snapshot) => keyOf(snapshot) === key);
    // Thinned out here: nothing can be sent again in its place.
    if (local !== undefined && here.length > 1) await deleteSnapshot(machine, local.path);
  }
  await work(round, machine, { snapshots: 1, big: false });
  const before = await snapshotsOf(world, machine);
  const ran = await startSync(world, someWords(world, chance)).ended;
  checkEnd(ran, `sync with a damaged archive (${damage})`, DISTURBED);
  if (ran.code === 0) await checkArchived(world, before, "sync");
  const newest = before.at(-1);
  // Whatever else could not be done: what is new can be restored.
  if (newest !== undefined && ran.code === 3)
    await checkArchived(world, [newest], `sync (exit 3, newest snapshot ${identityOf(newest)})`);
}

function pickFrom<Item>(chance: Chance, items: readonly Item[]): Item | undefined {
  const [first, ...rest] = items;
  return first === undefined ? undefined : chance.pick([first, ...rest]);
}

/**
 * The marker of an upload that was completed is there again: s3api stores the object, then deletes the marker, and whatever
 * stops it in between leaves one. To abort that "upload" is to delete the archive's segments.
 */
export const markerLeft: FaultKind = {
  name: "marker of a finished upload",
  async play(round) {
    const { world, chance } = round;
    await untilHit(round, async () => {
      await work(round, world.machine, { snapshots: chance.int(1, 2), big: true });
      await disturbedSync(round, [...someWords(world, chance), "--concurrency", "1", "--memory", "10Mi"], () =>
        Promise.resolve(),
      );
      const stored = await checkContainer(world);
      const segments = [...stored.objects.values()].flatMap(({ segments: each }) => each ?? []);
      const markers = [...new Set(segments.map(({ name }) => name.slice(0, name.lastIndexOf("/"))))].toSorted();
      if (markers.length === 0) return false;
      const chosen = chance.shuffled(markers).slice(0, chance.int(1, 3));
      for (const marker of chosen) await putMarker(world, marker);
      for (let runs = chance.int(1, 2); runs > 0; runs -= 1) await runOver(round);
      return true;
    });
  },
};

async function putMarker({ ground, story }: World, name: string): Promise<void> {
  const [, container = "", ...rest] = name.split("/");
  await ground.swift.native.putObject(container, rest.join("/"), Buffer.alloc(0));
  story.push(`# marker again: ${name}`);
}

/** Whatever could take the marker for an upload that nobody needs. */
async function runOver(round: Round): Promise<void> {
  const { world, chance } = round;
  // However it is made to look old.
  const clockMs = chance.maybe(0.3) ? chance.pick([30, 24 * 60 + 10, 48 * 60]) * MINUTE : 0;
  const old = chance.maybe(0.7) ? ["--leftover-age", "1s"] : [];
  await sleep(old.length === 0 ? 0 : 1100);
  if (chance.maybe(0.4)) {
    checkEnd(
      await startVerify(world, ["--remove-leftovers", ...old], { clockMs }).ended,
      "verify --remove-leftovers",
      [0],
    );
  } else {
    if (chance.maybe(0.5)) await work(round, world.machine, { snapshots: 1 });
    await disturbedSync(round, [...someWords(world, chance, false), ...old], () => Promise.resolve(), { clockMs });
  }
  await checkContainer(world);
}
