// Keeps `btrfs receive` from building another tree than was sent. It applies the commands of a good stream one by one, and
// Linux adds what was not sent (seen with Linux 6.18 and btrfs-progs 6.2 to 7.3):
//
// - Every new file is made in the root of the snapshot, and inherits its default ACL and its compression property, which
//   the file that was sent may lack: it can be older. A new snapshot inherits the property of the subvolume it is made in.
//   So the root has neither while files are made, and gets both right before the stream ends.
// - A change of the owner clears the setuid and setgid bits of a file. `btrfs send` names a mode only where the two
//   snapshots differ in it: a bit that was set again in between is lost. So it is set again afterwards.

import { constants, lstat, open } from "node:fs/promises";
import { readAttribute } from "../addon/subvolumes.ts";
import { enterDirectories, type Directory } from "./directories.ts";
import { editStream, kinds, setAttributeCommand, type SendCommand } from "./send-commands.ts";

export interface Fidelity {
  /** Edits a stream on its way to `btrfs receive`. */
  edit(pieces: AsyncIterable<Buffer>): AsyncGenerator<Buffer>;
  /** Repairs the received subvolume while it is writable. True when it was changed. */
  repair(received: Directory): Promise<boolean>;
  close(): Promise<void>;
}

/** The subvolume that an incremental stream builds on. */
export interface Parent {
  /** Its root. */
  readonly directory: Directory;
  /** The mode of an inode; 0 where there is none. */
  modeOf(inode: number): Promise<number>;
}

/** @param openParent - gives the one with this UUID; null when there is none */
export function openFidelity(openParent: (uuid: string) => Promise<Parent | null>): Fidelity {
  let parent: Parent | null = null;
  let owners: Owners | null = null;
  const root = openRoot();
  const edit = async (command: SendCommand): Promise<readonly Buffer[]> => {
    await owners?.record(command);
    switch (command.kind) {
      case kinds.subvol:
        return [command.bytes, ...root.begin(new Map([[COMPRESSION, NOTHING]]))];
      case kinds.snapshot:
        parent = await openParent(formatUuid(command.get("cloneUuid")));
        if (parent === null) return [command.bytes];
        owners = openOwners(parent);
        return [command.bytes, ...root.begin(await readInherited(parent.directory))];
      case kinds.end:
        return [...root.end(), command.bytes];
      default:
        return root.withhold(command) ? [] : [command.bytes];
    }
  };
  const always: ReadonlySet<number> = new Set([
    kinds.subvol,
    kinds.snapshot,
    kinds.setXattr,
    kinds.removeXattr,
    kinds.end,
  ]);
  const ofOwners: ReadonlySet<number> = new Set([kinds.rename, kinds.chown, kinds.chmod]);
  return {
    edit: (pieces) => editStream(pieces, (kind) => always.has(kind) || (owners !== null && ofOwners.has(kind)), edit),
    repair: async (received) => (await owners?.repair(received)) ?? false,
    close: async () => {
      await parent?.directory.close();
    },
  };
}

const DEFAULT_ACL = "system.posix_acl_default";
const COMPRESSION = "btrfs.compression";

/**
 * Values that Linux treats as the removal of an attribute, whether it exists or not: an ACL without entries, no value.
 */
const removals: ReadonlyMap<string, Buffer> = new Map([
  [DEFAULT_ACL, Buffer.from([2, 0, 0, 0])],
  [COMPRESSION, Buffer.alloc(0)],
]);

const NOTHING = Buffer.alloc(0);

/** The attributes that a snapshot of this subvolume begins with. */
async function readInherited(parent: Directory): Promise<Map<string, Buffer>> {
  const inherited = new Map<string, Buffer>();
  for (const name of removals.keys()) {
    const value = await readAttribute(parent.at(), name);
    if (value !== null) inherited.set(name, value);
  }
  return inherited;
}

interface Root {
  /** Commands that remove what the new root has inherited. */
  begin(inherited: ReadonlyMap<string, Buffer>): Buffer[];
  /** True for a command that counts at the end. */
  withhold(command: SendCommand): boolean;
  /** Commands that set what it was sent with. */
  end(): Buffer[];
}

function openRoot(): Root {
  const values = new Map<string, Buffer>();
  let isBegun = false;
  return {
    begin: (inherited) => {
      isBegun = true;
      for (const [name, value] of inherited) values.set(name, value);
      return [...inherited.keys()].map((name) => setAttributeCommand("", name, removals.get(name) ?? NOTHING));
    },
    withhold: ({ kind, get }) => {
      const name = get("path")?.length === 0 ? (get("xattrName")?.toString() ?? "") : "";
      if (!isBegun || !removals.has(name)) return false;
      values.set(name, kind === kinds.setXattr ? Buffer.from(get("xattrData") ?? NOTHING) : NOTHING);
      return true;
    },
    end: () => [...values].flatMap(([name, value]) => (value.length === 0 ? [] : setAttributeCommand("", name, value))),
  };
}

interface Owners {
  /** Called with each command that changes owners, modes or paths, and the one after it. */
  record(command: SendCommand): Promise<void>;
  repair(received: Directory): Promise<boolean>;
}

/** A new owner that came without a mode. */
interface Owner {
  readonly uid: number;
  readonly gid: number;
}

const MODE_BITS = 0o7777;
const SET_ID_BITS = 0o6000;

/** A tree has some dozens of programs with such bits. More are left as they are. */
const MOST_PROGRAMS = 10_000;

function openOwners(parent: Parent): Owners {
  /** Owners of files that may have lost bits, by the files' current paths in the snapshot. */
  const owners = new Map<string, Owner>();
  let owned: SendCommand | null = null;
  return {
    record: async (command) => {
      const { kind } = command;
      const path = pathOf(command);
      // A new mode comes in the next command.
      if (owned !== null && !(kind === kinds.chmod && path === pathOf(owned)) && owners.size < MOST_PROGRAMS) {
        if (await mayHaveBits(parent.directory.at(pathOf(owned)))) owners.set(pathOf(owned), ownerOf(owned));
      }
      owned = kind === kinds.chown ? command : null;
      if (kind === kinds.chmod) owners.delete(path);
      if (kind === kinds.rename) renameAll(owners, path, command.get("pathTo")?.toString() ?? "");
    },
    repair: async (received) => {
      let isRepaired = false;
      for (const [path, owner] of owners)
        isRepaired = (await repairMode({ received, path, owner }, parent)) || isRepaired;
      return isRepaired;
    },
  };
}

function pathOf({ get }: SendCommand): string {
  return get("path")?.toString() ?? "";
}

function ownerOf({ get }: SendCommand): Owner {
  return { uid: Number(get("uid")?.readBigUInt64LE()), gid: Number(get("gid")?.readBigUInt64LE()) };
}

/** Judges by the file that was at its path before. A file that was somewhere else is checked at the end. */
async function mayHaveBits(path: string): Promise<boolean> {
  const before = await lstat(path).catch(() => null);
  return before === null || (before.isFile() && (before.mode & SET_ID_BITS) !== 0);
}

function renameAll(owners: Map<string, Owner>, from: string, to: string): void {
  for (const [path, owner] of [...owners]) {
    if (path !== from && !path.startsWith(`${from}/`)) continue;
    owners.delete(path);
    owners.set(to + path.slice(from.length), owner);
  }
}

interface Owned {
  readonly received: Directory;
  readonly path: string;
  readonly owner: Owner;
}

/** A snapshot has the inodes of the one that it was made of: so it is certain which file this was. */
async function repairMode({ received, path, owner }: Owned, parent: Parent): Promise<boolean> {
  const names = path.split("/");
  const directory = await enterDirectories(received, names.slice(0, -1)).catch(() => null);
  if (directory === null) return false;
  const { O_RDONLY, O_NOFOLLOW, O_NONBLOCK } = constants;
  const file = await open(directory.at(names.at(-1)), O_RDONLY | O_NOFOLLOW | O_NONBLOCK).catch(() => null);
  try {
    const found = (await file?.stat()) ?? null;
    if (file === null || found?.isFile() !== true || found.uid !== owner.uid || found.gid !== owner.gid) return false;
    const mode = (await parent.modeOf(found.ino)) & MODE_BITS;
    const left = found.mode & MODE_BITS;
    if (left === mode || (left | (mode & SET_ID_BITS)) !== mode) return false;
    await file.chmod(mode);
    return true;
  } finally {
    await Promise.all([file?.close(), directory.close()]);
  }
}

function formatUuid(bytes: Buffer | null): string {
  const digits = bytes?.toString("hex") ?? "";
  return [0, 8, 12, 16, 20].map((from, part, at) => digits.slice(from, at[part + 1])).join("-");
}
