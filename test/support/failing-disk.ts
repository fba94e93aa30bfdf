// A btrfs filesystem whose data lies on a disk that fails for real: a loop device that shrinks under it, so that the
// kernel refuses with an I/O error all that is written beyond its end. Metadata lies on another one, which is well.

import { open } from "node:fs/promises";
import { join } from "node:path";
import { attach, btrfs, openLoopback, run, type Loopback } from "./loopback.ts";

const MiB = 2 ** 20;

/** Of data that goes to the first disk, where mkfs.btrfs has made room for it. */
export const FIRST_BYTES = 8 * MiB;

/** Less than the 64 MiB where a second copy of the superblock would lie. */
const WHOLE_BYTES = 60 * MiB;

export interface FailingDisk extends Loopback {
  /** From now on, no data reaches the second disk. */
  fail(): Promise<void>;
  /** It is well again; what was lost is lost. */
  heal(): Promise<void>;
}

export async function openFailingDisk(): Promise<FailingDisk> {
  // New room is taken from the disk that has more left: here the second.
  const first = await openLoopback({ sizeBytes: 128 * MiB });
  try {
    const image = join(first.directory, "second");
    await resize(image, WHOLE_BYTES);
    const device = await attach(image);
    await btrfs("device", "add", "-f", device, first.mountPoint);
    // It is detached when the filesystem is unmounted, whoever does that.
    await run("losetup", "--detach", device);
    const become = async (bytes: number): Promise<void> => {
      await resize(image, bytes);
      await run("losetup", "--set-capacity", device);
    };
    return { ...first, fail: () => become(2 * MiB), heal: () => become(WHOLE_BYTES) };
  } catch (error) {
    await first.close();
    throw error;
  }
}

async function resize(image: string, bytes: number): Promise<void> {
  const file = await open(image, "a");
  await file.truncate(bytes);
  await file.close();
}
