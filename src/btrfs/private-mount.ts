// Mounts that no other process sees: they show subvolumes that no mount of the machine shows.

import { stat } from "node:fs/promises";
import { BackupError } from "../errors.ts";
import { describeExit, type Exit } from "../stream/exit.ts";
import { runToEnd, startHeldProcess, type Command } from "../stream/process.ts";
import type { Mount, View } from "./mount-table.ts";

/** A mount in a namespace of its own. */
export interface PrivateMount {
  readonly view: View;
  /** Undoes it. Safe to call twice. */
  close(): Promise<void>;
}

/** A mount namespace that no other process sees. */
export interface Namespace extends PrivateMount {
  /** Where mounts are put, as seen by programs in the namespace. */
  readonly directory: string;
  /** Mounts on top of the existing mount. */
  mount(type: string, options: string, source: string): Promise<void>;
}

/**
 * The top level of a filesystem, read-only, in a mount namespace of its own.
 * @throws SEND_FAILED when it cannot be mounted, CONFIG when unshare or nsenter is missing, ABORTED
 */
export async function openPrivateMount(mounts: readonly Mount[], signal: AbortSignal): Promise<PrivateMount> {
  const device = await findDevice(mounts);
  const failure = (exit: Exit): BackupError => {
    const { stderr } = exit;
    const reason = stderr.split("\n", 1)[0] || describeExit(exit);
    return new BackupError("SEND_FAILED", `cannot mount the top level of the filesystem on ${device}: ${reason}`, {
      hint: `mount it yourself, for example: mount -o ro,subvolid=5 ${device} /mnt`,
      context: { ending: describeExit(exit), stderr },
    });
  };
  const namespace = await openNamespace({ failure, endsPrograms: false }, signal);
  try {
    await namespace.mount("btrfs", "ro,noatime,subvolid=5", device);
    return namespace;
  } catch (error) {
    await namespace.close();
    throw error;
  }
}

export interface NamespaceOptions {
  readonly failure: Command["failure"];
  /** Whether programs that were started in it end with it. */
  readonly endsPrograms: boolean;
}

/**
 * A child holds the namespace and ends with this process, however this process ends; then the kernel takes the mounts
 * back. "slave": what others unmount is unmounted here too, instead of staying busy for as long as a backup takes.
 * @throws what `failure` makes, CONFIG when unshare or nsenter is missing, ABORTED
 */
export async function openNamespace(
  { failure, endsPrograms }: NamespaceOptions,
  signal: AbortSignal,
): Promise<Namespace> {
  const directory = await findMountPoint();
  // The first process of a process namespace ends all others in it when it ends.
  const apart = endsPrograms ? ["--pid", "--fork", "--kill-child"] : [];
  const args = ["--mount", "--propagation", "slave", ...apart, "cat"];
  const holder = await startHeldProcess({ program: "unshare", args, failure }, signal);
  const proc = `/proc/${holder.pid}`;
  const enter = ["nsenter", `--mount=${proc}/ns/mnt`, ...(endsPrograms ? [`--pid=${proc}/ns/pid_for_children`] : [])];
  const mount: Namespace["mount"] = async (type, options, source) => {
    // Not in mtab, because no other program should see it.
    const [program = "", ...words] = enter.concat("mount", "--no-mtab", "-t", type, "-o", options, source, directory);
    await runToEnd({ program, args: words, failure }, signal);
  };
  try {
    // A filesystem cannot be mounted on top of itself, and this one may be mounted there, so another one goes between.
    await mount("tmpfs", "ro,size=4k", "none");
  } catch (error) {
    await holder.close();
    throw error;
  }
  const view = { mountInfo: `${proc}/mountinfo`, root: `${proc}/root`, enter };
  return { view, directory, mount, close: () => holder.close() };
}

/** A block device of the filesystem that exists here; in a container it may not. */
async function findDevice(mounts: readonly Mount[]): Promise<string> {
  for (const { source } of mounts) {
    if ((await stat(source).catch(() => null))?.isBlockDevice()) return source;
  }
  const named = mounts[0]?.source ?? "of the filesystem";
  throw new BackupError("SEND_FAILED", `no mount shows the snapshot, and the device ${named} does not exist here`, {
    hint: "run it outside the container or chroot, or mount the top level (subvolid=5) where it can be seen",
  });
}

/**
 * A directory to put the private mount on. It is not created, so that none can stay behind. The mount hides the
 * directory's content only from our children, which do not need it.
 */
async function findMountPoint(): Promise<string> {
  const usual = await stat("/mnt").catch(() => null);
  return usual?.isDirectory() ? "/mnt" : "/tmp";
}
