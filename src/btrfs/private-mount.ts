import { stat } from "node:fs/promises";
import { BackupError } from "../errors.ts";
import { runToEnd, startCompanion, type Ending } from "../stream/process.ts";
import type { Mount, View } from "./mounts.ts";

/** A mount in a namespace of its own. */
export interface PrivateMount {
  readonly view: View;
  /** Undoes it. Safe to call twice. */
  close(): Promise<void>;
}

/**
 * The top level of a filesystem, read-only, in a mount namespace that nobody else sees. A child holds the namespace and
 * ends with this process, however this process ends; then the kernel takes the mount back. "slave": what others unmount
 * meanwhile goes from here too, instead of being kept busy for as long as a backup takes.
 * @throws SEND_FAILED when it cannot be mounted, CONFIG when unshare or nsenter is missing, ABORTED
 */
export async function openPrivateMount(mounts: readonly Mount[], signal: AbortSignal): Promise<PrivateMount> {
  const [device, directory] = await Promise.all([findDevice(mounts), findMountPoint()]);
  const failure = ({ how, stderr }: Ending): BackupError => {
    const reason = stderr.split("\n", 1)[0] || how;
    return new BackupError("SEND_FAILED", `cannot mount the top level of the filesystem on ${device}: ${reason}`, {
      hint: `mount it yourself, for example: mount -o ro,subvolid=5 ${device} /mnt`,
      context: { ending: how, stderr },
    });
  };
  const holder = await startCompanion(
    { program: "unshare", args: ["--mount", "--propagation", "slave", "cat"], failure },
    signal,
  );
  const namespace = `--mount=/proc/${holder.pid}/ns/mnt`;
  const mount = (type: string, options: string, source: string): Promise<string> => {
    // Not into mtab: nobody else is to see it.
    const args = [namespace, "mount", "--no-mtab", "-t", type, "-o", options, source, directory];
    return runToEnd({ program: "nsenter", args, failure }, signal);
  };
  try {
    // A filesystem is not mounted on top of itself, and this one may well be mounted there: something between them.
    await mount("tmpfs", "ro,size=4k", "none");
    await mount("btrfs", "ro,noatime,subvolid=5", device);
  } catch (error) {
    await holder.close();
    throw error;
  }
  const proc = `/proc/${holder.pid}`;
  const view = { mountInfo: `${proc}/mountinfo`, root: `${proc}/root`, enter: ["nsenter", namespace] };
  return { view, close: () => holder.close() };
}

/** A block device of the filesystem that exists here; in a container it may not. */
async function findDevice(mounts: readonly Mount[]): Promise<string> {
  for (const { source } of mounts) {
    if ((await stat(source).catch(() => null))?.isBlockDevice()) return source;
  }
  const named = mounts[0]?.source ?? "of the filesystem";
  throw new BackupError("SEND_FAILED", `no mount shows the snapshot, and the device ${named} does not exist here`, {
    hint: "run outside of the container or chroot, or mount the top level (subvolid=5) where it can be seen",
  });
}

/**
 * A directory to put the private mount on. None is made, so that none can stay behind; what is hidden below it is
 * hidden from our children alone, and they need nothing of it.
 */
async function findMountPoint(): Promise<string> {
  const usual = await stat("/mnt").catch(() => null);
  return usual?.isDirectory() ? "/mnt" : "/tmp";
}
