// Reads the kernel's mount table: which mount is where, and which mount a path lies on. Nothing is mounted here.

import { isUtf8 } from "node:buffer";
import { constants, open, readFile, realpath, type FileHandle } from "node:fs/promises";
import { BackupError } from "../errors.ts";

/** One mount, as proc(5) describes it. */
export interface Mount {
  readonly id: number;
  /** "major:minor" of the superblock. Not what stat(2) gives, which on btrfs differs for each subvolume. */
  readonly device: string;
  /** The mounted part of the filesystem: "/" for its top, "/@home", or any directory for a bind mount. */
  readonly root: string;
  readonly mountPoint: string;
  readonly filesystem: string;
  /** Mostly a block device. */
  readonly source: string;
}

/** The mounts as one process sees them. */
export interface View {
  readonly mountInfo: string;
  /** The prefix that turns a path of that process into a path of ours. */
  readonly root: string;
  readonly enter: readonly string[];
}

/** The mounts that this process sees. */
export const ownView: View = { mountInfo: "/proc/self/mountinfo", root: "", enter: [] };

/** Where a path leads, both from the top of its filesystem, without a slash before it. */
export interface Location {
  readonly path: string;
  /** The path of the mounted subvolume; empty for the top level. */
  readonly mounted: string;
  readonly device: string;
}

/** Null when it cannot be found out. */
export async function locate(path: string): Promise<Location | null> {
  const handle = await open(path, constants.O_RDONLY);
  try {
    const [id, mounts] = await Promise.all([mountIdOf(handle), readMounts(ownView)]);
    const mount = mounts.find((each) => each.id === id);
    if (mount === undefined) return null;
    const real = await realpath(path);
    const inside = real.slice(mount.mountPoint === "/" ? 0 : mount.mountPoint.length);
    const strip = (text: string): string => text.replace(/^\/+|\/+$/g, "");
    return { path: strip(`${mount.root}${inside}`), mounted: strip(mount.root), device: mount.source };
  } finally {
    await handle.close();
  }
}

/**
 * The lines of a mountinfo file. It skips lines with deleted paths or paths that are not UTF-8: no other program could
 * be given those paths.
 */
export function parseMountInfo(content: Buffer): Mount[] {
  return content.toString("latin1").split("\n").flatMap(parseMount);
}

/** Where a subvolume appears in a mount if nothing hides it; null when that mount does not show it. */
export function pathThrough(mount: Pick<Mount, "root" | "mountPoint">, place: string): string | null {
  const path = `/${place}`;
  const root = mount.root === "/" ? "" : mount.root;
  if (path !== root && !path.startsWith(`${root}/`)) return null;
  const inside = path.slice(root.length).replace(/^\/$/, "");
  return mount.mountPoint === "/" ? inside || "/" : mount.mountPoint + inside;
}

/** The fields of proc_pid_mountinfo(5), of which some before " - " are optional and ignored. */
function parseMount(line: string): Mount[] {
  const [before, after] = line.split(" - ", 2);
  const [id, , device, root, mountPoint] = before?.split(" ").map(unescapeField) ?? [];
  const [filesystem, source] = after?.split(" ").map(unescapeField) ?? [];
  if (!id || !device || !root || !mountPoint || !filesystem || !source || root.endsWith("//deleted")) return [];
  return [{ id: Number(id), device, root, mountPoint, filesystem, source }];
}

/** Spaces and the like are written as three octal digits. Null for bytes that are not UTF-8. */
function unescapeField(field: string): string | null {
  const bytes = Buffer.from(
    field.replace(/\\([0-7]{3})/g, (_, octal: string) => String.fromCharCode(Number.parseInt(octal, 8))),
    "latin1",
  );
  return isUtf8(bytes) ? bytes.toString("utf8") : null;
}

/** Those of btrfs. */
export async function readMounts({ mountInfo }: View): Promise<Mount[]> {
  return parseMountInfo(await readFile(mountInfo)).filter(({ filesystem }) => filesystem === "btrfs");
}

/** Every mount of the filesystem that a path lies on. */
export async function readMountsOf(path: string): Promise<Mount[]> {
  const handle = await open(path, constants.O_RDONLY).catch((cause: unknown) => {
    throw new BackupError("SEND_FAILED", `${path} can no longer be opened`, { cause });
  });
  try {
    const mounts = await readMounts(ownView);
    const id = await mountIdOf(handle);
    const device = mounts.find((mount) => mount.id === id)?.device;
    if (device !== undefined) return mounts.filter((mount) => mount.device === device);
    throw new BackupError("SEND_FAILED", `the mount that ${path} is on is not listed in ${ownView.mountInfo}`, {
      hint: "run it outside the chroot",
    });
  } finally {
    await handle.close();
  }
}

/** The mount id of an open file; proc_pid_fdinfo(5). */
export async function mountIdOf(handle: FileHandle): Promise<number | null> {
  const info = await readFile(`/proc/self/fdinfo/${handle.fd}`, "utf8");
  const id = /^mnt_id:\s*(\d+)$/m.exec(info)?.[1];
  return id === undefined ? null : Number(id);
}
