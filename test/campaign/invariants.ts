// The promises that must hold after each round, whatever happened in it. They are checked in the files of the store and with
// the kernel, without the program.

import { createHash } from "node:crypto";
import { open, readFile, readdir } from "node:fs/promises";
import { join } from "node:path";
import type { Ran } from "../support/cli.ts";
import { run } from "../support/loopback.ts";
import type { SeenSubvolume, StoredObject } from "./eyes.ts";
import { LEFT_BEHIND, type Machine } from "./machine.ts";
import { identityOf, keyOf, snapshotsOf, type World } from "./world.ts";

/** The program broke a promise. */
export class Violation extends Error {
  override readonly name = "Violation";
}

/** A planned fault did not happen. */
export class NotHit extends Error {
  override readonly name = "NotHit";
}

export function violated(promise: string, details: string): never {
  throw new Violation(`${promise}: ${details}`);
}

// --- how a run may end

const BUG = 1;

/** Outcomes that a run may have whatever is done to it: never a bug, never a crash, nobody left behind. */
export function checkEnd(ran: Ran, what: string, allowed: readonly (number | string)[]): void {
  if (ran.stderr.includes(LEFT_BEHIND))
    violated("nobody is left behind", `${what}: ${ran.stderr.slice(ran.stderr.indexOf(LEFT_BEHIND))}`);
  if (ran.code === BUG || !allowed.includes(ran.code))
    violated("a run ends as promised", `${what} ended with ${ran.code}, not with one of ${allowed.join(", ")}`);
}

// --- the container

/** Everything under the container's name, and the segments of its objects. */
export interface Stored {
  readonly objects: ReadonlyMap<string, StoredObject>;
  /** Those whose names are archives', by key. */
  readonly archives: ReadonlyMap<string, StoredObject>;
  readonly container: string;
}

const ACCOUNT = "/AUTH_test";
const ARCHIVE = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\\x2f[^/]+$/;

export async function look(world: World): Promise<Stored> {
  const { swift, eyes } = world.ground;
  const objects = new Map<string, StoredObject>();
  for (const object of await eyes.stored(swift.dir)) {
    if (object.name.startsWith(`${ACCOUNT}/${world.container}`)) objects.set(object.name, object);
  }
  const prefix = `${ACCOUNT}/${world.container}/`;
  const archives = new Map<string, StoredObject>();
  for (const [name, object] of objects) {
    const key = name.slice(prefix.length);
    if (name.startsWith(prefix) && ARCHIVE.test(key)) archives.set(key, object);
  }
  return { objects, archives, container: world.container };
}

/** Files that hold the body of an object, in order; or the reason why it is not complete. */
export function filesOf(object: StoredObject, { objects }: Stored): readonly StoredObject[] | string {
  if (object.segments === null)
    return object.bytes === object.length ? [object] : `${object.name} has ${object.bytes} bytes of ${object.length}`;
  const files: StoredObject[] = [];
  for (const { name, bytes, etag } of object.segments) {
    const segment = objects.get(`${ACCOUNT}${name}`);
    if (segment === undefined) return `segment ${name} of ${object.name} is gone`;
    if (segment.bytes !== bytes || segment.etag !== etag) return `segment ${name} of ${object.name} is another`;
    files.push(segment);
  }
  return files;
}

export async function bodyOf(object: StoredObject, stored: Stored): Promise<Buffer> {
  const files = filesOf(object, stored);
  if (typeof files === "string") return violated("what is stored is complete", files);
  return Buffer.concat(await Promise.all(files.map(({ file }) => readFile(file))));
}

/** All objects that an archive is made of: one, or a list of volumes and each of them. A string: why it is not complete. */
export async function partsOf(
  archive: StoredObject,
  key: string,
  stored: Stored,
): Promise<readonly StoredObject[] | string> {
  if (archive.metadata["btrfs-volumes"] === undefined) return [archive];
  const files = filesOf(archive, stored);
  if (typeof files === "string") return files;
  const { volumes } = JSON.parse((await bodyOf(archive, stored)).toString()) as {
    volumes: readonly { key: string; bytes: number }[];
  };
  const found: StoredObject[] = [];
  for (const [index, volume] of volumes.entries()) {
    const object = stored.objects.get(`${ACCOUNT}/${stored.container}/${volume.key}`);
    if (object === undefined) return `volume ${index + 1} of ${key} is gone`;
    found.push(object);
  }
  return [archive, ...found];
}

/** Why an archive is not complete; null when every byte of it is there, as far as sizes and names show. */
export async function brokenBy(key: string, stored: Stored): Promise<string | null> {
  const archive = stored.archives.get(key);
  if (archive === undefined) return `${key} is gone`;
  const parts = await partsOf(archive, key, stored);
  if (typeof parts === "string") return parts;
  for (const part of parts) {
    const files = filesOf(part, stored);
    if (typeof files === "string") return files;
  }
  return null;
}

/** Names of all files' objects that an archive rests on. */
export async function restsOn(key: string, stored: Stored): Promise<readonly StoredObject[]> {
  const archive = stored.archives.get(key);
  const parts = archive === undefined ? "gone" : await partsOf(archive, key, stored);
  if (typeof parts === "string") return [];
  return parts.flatMap((part) => {
    const files = filesOf(part, stored);
    return typeof files === "string" ? [part] : part.segments === null ? [part] : [part, ...files];
  });
}

export function identityIn(metadata: Readonly<Record<string, string>>): string {
  return `${metadata["btrfs-uuid"] ?? "none"}/${metadata["btrfs-ctransid"] ?? "none"}`;
}

/** All archives by what they are, wherever they lie: a snapshot that was renamed keeps its archive's old name. */
export function identitiesIn({ archives }: Stored): ReadonlyMap<string, FoundArchive> {
  return new Map([...archives].map(([key, { metadata }]) => [identityIn(metadata), { key, metadata }]));
}

interface FoundArchive {
  readonly key: string;
  readonly metadata: Readonly<Record<string, string>>;
}

function parentIn(metadata: Readonly<Record<string, string>>): string | null {
  const uuid = metadata["btrfs-send-parent-uuid"];
  return uuid === undefined ? null : `${uuid}/${metadata["btrfs-send-parent-ctransid"] ?? "none"}`;
}

/** Archives that were intact are intact; each new archive is complete, belongs to a snapshot, and builds on an archive that exists. */
export async function checkContainer(world: World): Promise<Stored> {
  const stored = await look(world);
  for (const [key, before] of world.intact) {
    const archive = stored.archives.get(key);
    if (
      archive !== undefined &&
      world.damaged.size === 0 &&
      (archive.etag !== before.etag || archive.file !== before.file)
    ) {
      violated("an archive is never overwritten", key);
    }
    if (await isDamaged(world, key, stored)) continue;
    const broken = await brokenBy(key, stored);
    if (broken !== null) violated("a finished archive is never destroyed", broken);
  }
  for (const [key, object] of stored.archives) {
    const known = world.intact.get(key);
    if (known?.file === object.file || (await isDamaged(world, key, stored))) continue;
    await checkNewArchive(world, key, stored);
  }
  return stored;
}

async function isDamaged(world: World, key: string, stored: Stored): Promise<boolean> {
  if (world.damaged.size === 0) return false;
  if (world.damaged.has(`${ACCOUNT}/${world.container}/${key}`)) return true;
  const names = [...world.damaged];
  // Volumes and segments are named after their archive.
  return (
    names.some((name) => name.includes(`/${key}/`)) ||
    (await restsOn(key, stored)).some(({ name }) => world.damaged.has(name))
  );
}

async function checkNewArchive(world: World, key: string, stored: Stored): Promise<void> {
  const archive = stored.archives.get(key);
  if (archive === undefined) return;
  const broken = await brokenBy(key, stored);
  if (broken !== null) violated("a key that exists is a complete archive", broken);
  const identity = identityIn(archive.metadata);
  if (!world.truth.has(identity))
    violated("an archive is a snapshot's", `${key} claims to be ${identity}, which no snapshot ever was`);
  await checkBytes(key, archive, stored);
  const sendParent = parentIn(archive.metadata);
  if (
    sendParent !== null &&
    ![...stored.archives.values()].some(({ metadata }) => identityIn(metadata) === sendParent)
  ) {
    violated("an archive builds on what is archived", `${key} builds on ${sendParent}, which is not`);
  }
  world.intact.set(key, { key, identity, sendParent, etag: archive.etag, file: archive.file });
}

/** The store's MD5s, and where the stream can be seen its own words. */
async function checkBytes(key: string, archive: StoredObject, stored: Stored): Promise<void> {
  const parts = await partsOf(archive, key, stored);
  if (typeof parts === "string") violated("a key that exists is a complete archive", parts);
  for (const part of parts) {
    const files = filesOf(part, stored);
    if (typeof files === "string") violated("a key that exists is a complete archive", files);
    for (const { file, etag, name } of files) {
      const md5 = createHash("md5")
        .update(await readFile(file))
        .digest("hex");
      if (md5 !== etag) violated("what is stored is what was sent", `${name} is ${md5}, not ${etag}`);
    }
  }
  const body = parts.length > 1 ? parts[1] : parts[0];
  if (body === undefined || archive.metadata["btrfs-encoding"] !== "identity") return;
  const [first] = filesOf(body, stored);
  if (first === undefined || typeof first === "string") return;
  const named = identityInStream(await beginningOf(first.file));
  if (named !== identityIn(archive.metadata))
    violated("metadata describes the stream", `${key}: ${identityIn(archive.metadata)}, but the stream is ${named}`);
}

async function beginningOf(file: string): Promise<Buffer> {
  const handle = await open(file);
  try {
    const { buffer, bytesRead } = await handle.read(Buffer.alloc(512), 0, 512, 0);
    return buffer.subarray(0, bytesRead);
  } finally {
    await handle.close();
  }
}

/** The first command of a send stream names the snapshot: its path, UUID and ctransid. */
export function identityInStream(beginning: Buffer): string {
  if (beginning.toString("latin1", 0, 13) !== "btrfs-stream\0") return "no send stream";
  const pathBytes = beginning.readUInt16LE(29);
  const uuid = beginning
    .toString("hex", 35 + pathBytes, 51 + pathBytes)
    .replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, "$1-$2-$3-$4-$5");
  return `${uuid}/${beginning.readBigUInt64LE(55 + pathBytes)}`;
}

// --- what exit 0 of a sync says

/** The snapshots that an exit code is held to: those that were there, as they are, when the run began and when it ended. */
export async function heldTo(
  world: World,
  machine: Machine,
  before: readonly SeenSubvolume[],
): Promise<readonly SeenSubvolume[]> {
  const after = new Map((await snapshotsOf(world, machine)).map((each) => [each.path, identityOf(each)]));
  return before.filter((each) => after.get(each.path) === identityOf(each));
}

/** Exit 0: each of these snapshots is archived, as what it is, on an intact chain. */
export async function checkArchived(world: World, snapshots: readonly SeenSubvolume[], what: string): Promise<void> {
  const stored = await look(world);
  const byIdentity = identitiesIn(stored);
  const looked = new Set<string>();
  for (const snapshot of snapshots) {
    const archive = byIdentity.get(identityOf(snapshot));
    if (archive === undefined) violated("exit 0 = every snapshot is archived", `${what} ended with 0; ${lacking()}`);
    for (let link = archive; !looked.has(link.key);) {
      looked.add(link.key);
      const damaged = await isDamaged(world, link.key, stored);
      const broken = damaged ? null : await brokenBy(link.key, stored);
      if (broken !== null) violated("exit 0 = what is archived can be read", `${what} ended with 0, and ${broken}`);
      const parent = parentIn(link.metadata);
      if (parent === null) break;
      const next = byIdentity.get(parent);
      if (next === undefined)
        violated(
          "exit 0 = every chain is intact",
          `${what} ended with 0, and ${parent}, which ${archive.key} rests on, is not archived`,
        );
      link = next;
    }

    function lacking(): string {
      const key = keyOf(snapshot);
      const named = stored.archives.get(key);
      const holds = named === undefined ? "does not exist" : `holds ${identityIn(named.metadata)}`;
      return `${key} ${holds}, the snapshot is ${identityOf(snapshot)}`;
    }
  }
}

// --- what was restored

/** Whatever is sealed as a copy of a snapshot is that snapshot, entry by entry. */
export async function checkRestored(world: World): Promise<readonly SeenSubvolume[]> {
  const { eyes } = world.ground;
  const seen = await eyes.subvolumes(world.target.mountPoint);
  const sealed = seen.filter(({ readOnly, receivedUuid }) => readOnly && receivedUuid !== null);
  for (const copy of sealed) {
    // Compared before, and not changed since.
    if (world.compared.has(`${copy.uuid}/${copy.ctransid}`)) continue;
    const origin = `${copy.receivedUuid ?? ""}/${copy.stransid}`;
    const expected = world.truth.get(origin);
    if (expected === undefined)
      violated(
        "a restored snapshot is one that was archived",
        `${copy.path} claims to be ${origin}, which no snapshot ever was`,
      );
    const digest = await eyes.digest(join(world.target.mountPoint, copy.path));
    if (digest === expected) {
      world.compared.add(`${copy.uuid}/${copy.ctransid}`);
      continue;
    }
    const differences = await eyes.compare(expected, digest);
    violated(
      "a restored snapshot equals what was archived",
      `${copy.path} (${origin}): ${differences.slice(0, 5).join("; ")}`,
    );
  }
  return sealed;
}

// --- what is left over

/** Mounts, loop devices and files that nobody needs any more. */
export async function checkNothingLeft(world: World, machines: readonly Machine[]): Promise<void> {
  for (const machine of machines) {
    const files = await machine.leftFiles();
    if (files.length > 0) violated("there are no leftovers", files.slice(0, 5).join(", "));
  }
  const roots = machines.map(({ root }) => root);
  const mounts = (await readFile("/proc/self/mountinfo", "utf8"))
    .split("\n")
    .filter((line) => roots.some((root) => line.includes(root)));
  if (mounts.length > 0) violated("no mount is left over", mounts.join("; "));
  const loops = (await run("losetup", "--list", "--noheadings", "--output", "NAME,BACK-FILE")).split("\n");
  const left = loops.filter((line) => roots.some((root) => line.includes(root)));
  if (left.length > 0) violated("no loop device is left over", left.join("; "));
  for (const machine of machines) {
    const names = await readdir(machine.mountPoint, { recursive: false });
    const strange = names.filter((name) => name.startsWith(".btrfs-snapshots-to-swift-"));
    if (strange.length > 0 && machine !== world.target) violated("there are no leftovers", strange.join(", "));
  }
}

/** Once what is left over was removed: no upload is open but a finished archive's own, and no volume is nobody's. */
export async function checkNoLeftovers(world: World): Promise<void> {
  const { objects, archives, container } = await look(world);
  const all = [...objects.values()];
  const segments = all.flatMap((object) => object.segments ?? []).map(({ name }) => `${ACCOUNT}${name}`);
  const finished = new Set(segments.map((name) => name.slice(0, name.lastIndexOf("/"))));
  for (const { name } of all) {
    if (name.startsWith(`${ACCOUNT}/${container}+segments/`)) {
      const isPart = /\/\d+$/.test(name);
      if (!isPart && !finished.has(name)) violated("what is left over is removed", `the upload ${name} is open`);
      continue;
    }
    const key = name.slice(`${ACCOUNT}/${container}/`.length);
    if (/\/\d{6}$/.test(key) && !archives.has(key.slice(0, -7)))
      violated("what is left over is removed", `the volume ${key} is nobody's`);
  }
}
