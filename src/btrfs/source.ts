// The snapshots of this machine, and the `btrfs send` of each: the real implementation of the source ports. btrfs/ is
// the edge to the kernel and to btrfs-progs. It knows no container, no archive and no network.

import { readFile } from "node:fs/promises";
import { BackupError } from "../errors.ts";
import type { LocalSnapshots, ReceivedSource, Sender, SendStream, SnapshotSource } from "../operations/ports.ts";
import {
  streamIdentity,
  type Difference,
  type Estimate,
  type Lineage,
  type SendProto,
  type Snapshot,
} from "../plan/model.ts";
import { checkedFeed, sentStream } from "../stream/send-stream.ts";
import { readFrom } from "../stream/child-output.ts";
import { throughPrograms } from "../stream/pipeline.ts";
import type { Command } from "../stream/process.ts";
import { syncFilesystem } from "../addon/subvolumes.ts";
import type { StreamSummary } from "../addon/send-stream.ts";
import { assertSameStream, sentHead } from "./stream-header.ts";
import { locate } from "./mount-table.ts";
import { openMounts, type Mounts, type Reach } from "./mounts.ts";
import { readSendOptions, sendCommand, type SendMode } from "./commands.ts";
import { readSurroundings } from "./surroundings.ts";
import { listSnapshots, readChange, readOrigin, readSubvolume, translated } from "./subvolumes.ts";
import type { Finding } from "../plan/finding.ts";
import { estimateFrom } from "../stream/stream-facts.ts";

export interface SourceOptions {
  /** Null: the newest that the kernel and btrfs-progs both know. */
  readonly sendProto: SendProto | null;
  /** Whether extents stored compressed travel compressed. Absent or null: where the protocol allows. */
  readonly compressedData?: boolean | null | undefined;
}

/**
 * The snapshots of the subvolume whose root a path is.
 * @throws NOT_SUBVOLUME, NOT_BTRFS, NO_PRIVILEGE, CONFIG when btrfs-progs are missing, USAGE when there is nothing
 */
export async function openSource(path: string, options: SourceOptions, signal: AbortSignal): Promise<SnapshotSource> {
  // Before anything else, because it explains best what is wrong with the path.
  await readSubvolume(path);
  return {
    ...(await openSender(path, options, signal)),
    list: () => listLocal(path),
    surroundings: () => translated(path, () => readSurroundings(path)),
  };
}

/**
 * The received snapshots in a directory, which may be the entire filesystem or one of them.
 * @throws NOT_BTRFS, NO_PRIVILEGE, CONFIG when btrfs-progs are missing, USAGE when there is nothing
 */
export async function openReceived(path: string, options: SourceOptions, signal: AbortSignal): Promise<ReceivedSource> {
  await translated(path, () => syncFilesystem(path));
  return { ...(await openSender(path, options, signal)), list: () => listReceived(path) };
}

/** @throws NOT_SUBVOLUME, NOT_BTRFS, NO_PRIVILEGE, USAGE when there is nothing */
export async function listLocal(path: string): Promise<LocalSnapshots> {
  // A subvolume that was made read-only a moment ago shows its final ctransid only once it is written out.
  await translated(path, () => syncFilesystem(path));
  const source = await readSubvolume(path);
  const snapshots = await listSnapshots(path, { parentUuid: source.uuid });
  const origin = await readOrigin(path);
  if (!origin?.changed) return { source, snapshots, origin: origin?.snapshot ?? null };
  return { source, snapshots, origin: null, doubts: [changedOrigin(origin.snapshot, origin.changed)] };
}

/** @throws NOT_BTRFS, NO_PRIVILEGE, USAGE when there is nothing */
export async function listReceived(path: string): Promise<readonly Snapshot[]> {
  // A subvolume that was received a moment ago shows its final ctransid only once it is written out.
  await translated(path, () => syncFilesystem(path));
  const directory = (await locate(path))?.path ?? "";
  const inside = (await listSnapshots(path)).filter(
    (each) => each.received !== null && `${each.path}/`.startsWith(directory === "" ? "" : `${directory}/`),
  );
  return await Promise.all(inside.map(async (each) => ({ ...each, isCopy: (await readChange(path, each)) === null })));
}

async function openSender(path: string, options: SourceOptions, signal: AbortSignal): Promise<Sender> {
  const mode = await chooseMode(options, signal);
  const mounts = openMounts(path);
  const sender = (difference: Difference, stop: AbortSignal) => async (): Promise<Command> =>
    sendCommand(await reachBoth(difference, mounts, stop), mode, false);
  return {
    ...mode,
    estimate: (difference, stop) => estimate(difference, mounts, mode, stop),
    send: ({ through = null, ...difference }, stop) => {
      const [open, lineage] = [sender(difference, stop), lineageOf(difference)];
      return through === null
        ? sentStream(open, sentHead(lineage), stop)
        : sentThrough(through, { open, lineage }, stop);
    },
    close: () => mounts.close(),
  };
}

function changedOrigin({ path }: Snapshot, changed: string): Finding {
  const message = `${path}, from which this subvolume was made, ${changed}: it is not what was archived, so nothing builds on it`;
  return { code: "SNAPSHOT_CHANGED", severity: "warning", subject: path, message };
}

/** @throws CONFIG when btrfs-progs are missing, or too old for the version that is asked for */
async function chooseMode(options: SourceOptions, signal: AbortSignal): Promise<SendMode> {
  const help = await readSendOptions(signal);
  const known = /--proto\b/.test(help) && (await kernelProtocol()) >= 2 ? 2 : 1;
  const sendProto = options.sendProto ?? known;
  if (sendProto > known)
    throw new BackupError("CONFIG", `version ${sendProto} of the btrfs send protocol is not supported here`, {
      hint: "it needs btrfs-progs 5.19 and Linux 6.0; leave --send-proto out, or use 1",
    });
  const compressedData = options.compressedData ?? /--compressed-data\b/.test(help);
  return { sendProto, compressedData: sendProto === 2 && compressedData };
}

/** Kernels that do not report it support version 1. */
async function kernelProtocol(): Promise<number> {
  const version = await readFile("/sys/fs/btrfs/features/send_stream_version", "utf8").catch(() => "1");
  return Number.parseInt(version, 10);
}

async function estimate(
  difference: Difference,
  mounts: Mounts,
  mode: SendMode,
  signal: AbortSignal,
): Promise<Estimate> {
  const reach = await reachBoth(difference, mounts, signal);
  const { bytes, upperBound } = await estimateFrom(readFrom(sendCommand(reach, mode, true), signal));
  return mode.compressedData ? { bytes: upperBound, exact: false } : { bytes, exact: true };
}

/** The output of a program that reads the stream of a command, and the length of that stream. */
function sentThrough(
  program: Command,
  { open, lineage }: { readonly open: () => Promise<Command>; readonly lineage: Lineage },
  signal: AbortSignal,
): SendStream {
  let sentBytes = 0;
  const accept = ({ identity, bytes }: StreamSummary): void => {
    if (identity !== null) assertSameStream(lineage, identity);
    sentBytes = bytes;
  };
  const output = throughPrograms([program], checkedFeed(open, accept), signal);
  return Object.assign(output, { sentBytes: () => sentBytes });
}

function lineageOf({ snapshot, sendParent }: Difference): Lineage {
  return { snapshot: streamIdentity(snapshot), sendParent: sendParent === null ? null : streamIdentity(sendParent) };
}

function reachBoth({ snapshot, sendParent }: Difference, mounts: Mounts, signal: AbortSignal): Promise<Reach> {
  return mounts.reach(sendParent === null ? [snapshot] : [snapshot, sendParent], signal);
}
