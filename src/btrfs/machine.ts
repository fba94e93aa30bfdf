// The doctor's view of this machine: its rights, the versions of its btrfs, and the subvolumes at a path.

import { readFile } from "node:fs/promises";
import { release } from "node:os";
import { BackupError } from "../errors.ts";
import type { Machine, Survey } from "../operations/ports.ts";
import type { Snapshot } from "../plan/model.ts";
import { addonVersions } from "../addon/load.ts";
import { openMounts } from "./mounts.ts";
import { readProgsVersion } from "./progs.ts";
import { readSurroundings } from "./surroundings.ts";
import { listLocal, listReceived } from "./source.ts";
import { readSubvolume, translated } from "./subvolumes.ts";

/** Bit of CAP_SYS_ADMIN in a capability set; linux/capability.h. */
const CAP_SYS_ADMIN = 21n;

/** The tools, rights and filesystems of this machine. Nothing is changed. */
export const machine: Machine = {
  mayAdministrate,
  versions: async (signal) => {
    const btrfsProgs = await readProgsVersion(signal);
    return { kernel: release(), btrfsProgs, libbtrfsutil: addonVersions().libbtrfsutil };
  },
  survey,
  surveyReceived,
};

async function mayAdministrate(): Promise<boolean> {
  const status = await readFile("/proc/self/status", "utf8");
  const effective = /^CapEff:\s*([0-9a-f]+)$/m.exec(status)?.[1] ?? "0";
  return ((BigInt(`0x${effective}`) >> CAP_SYS_ADMIN) & 1n) === 1n;
}

async function survey(path: string, signal: AbortSignal): Promise<Survey> {
  // Before anything else, because it explains best what is wrong with the path.
  await readSubvolume(path);
  const local = await listLocal(path);
  return {
    ...local,
    unreachable: await findUnreachable(path, local.snapshots, signal),
    around: await translated(path, () => readSurroundings(path)),
  };
}

async function surveyReceived(path: string, signal: AbortSignal): ReturnType<Machine["surveyReceived"]> {
  const snapshots = await listReceived(path);
  return { snapshots, unreachable: await findUnreachable(path, snapshots, signal) };
}

async function findUnreachable(
  path: string,
  snapshots: readonly Snapshot[],
  signal: AbortSignal,
): Promise<Survey["unreachable"]> {
  const unreachable: { path: string; error: BackupError }[] = [];
  const mounts = openMounts(path);
  try {
    for (const snapshot of snapshots) {
      await mounts.reach([snapshot], signal).catch((error: unknown) => {
        if (!(error instanceof BackupError) || error.code === "ABORTED") throw error;
        unreachable.push({ path: snapshot.path, error });
      });
    }
    return unreachable;
  } finally {
    await mounts.close();
  }
}
