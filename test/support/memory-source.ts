// Snapshots in memory: the port's second inhabitant. What it sends is no send stream, but is made, fails and is counted
// like one.

import { Readable } from "node:stream";
import { abortedError, type BackupError } from "../../src/errors.ts";
import type { SendRequest, SendStream, SnapshotSource } from "../../src/operations/ports.ts";
import type { Difference, Snapshot } from "../../src/plan/model.ts";
import { fedBy, throughPrograms } from "../../src/stream/pipeline.ts";
import { source } from "./builders.ts";

export interface MemorySource extends SnapshotSource {
  /** By path: with what sending it fails, after half of its bytes. */
  readonly failures: Map<string, BackupError>;
  /** By path, what was sent: `2<1` and `1`. */
  readonly sent: string[];
}

export function memorySource(snapshots: readonly Snapshot[], bytesOf: (snapshot: Snapshot) => number): MemorySource {
  const failures = new Map<string, BackupError>();
  const sent: string[] = [];
  const send = ({ through = null, ...difference }: SendRequest, signal: AbortSignal): SendStream => {
    sent.push([difference.snapshot.path, difference.sendParent?.path].flatMap((path) => path ?? []).join("<"));
    const bytes = bytesOf(difference.snapshot);
    const stream = Readable.from(streamOf(difference, bytes, failures, signal), { objectMode: false });
    if (through === null) return stream;
    return Object.assign(throughPrograms([through], fedBy(stream), signal), { sentBytes: () => bytes });
  };
  return {
    failures,
    sent,
    sendProto: 2,
    compressedData: false,
    list: () => Promise.resolve({ source, snapshots, origin: null }),
    surroundings: () => Promise.resolve({ subvolumes: [], seenAt: () => null }),
    estimate: ({ snapshot }) => Promise.resolve({ bytes: bytesOf(snapshot), exact: true }),
    send,
    close: () => Promise.resolve(),
  };
}

async function* streamOf(
  { snapshot }: Difference,
  bytes: number,
  failures: ReadonlyMap<string, BackupError>,
  signal: AbortSignal,
): AsyncGenerator<Buffer> {
  const half = Math.floor(bytes / 2);
  const failure = failures.get(snapshot.path);
  yield await Promise.resolve(Buffer.alloc(half, snapshot.path));
  if (signal.aborted) throw abortedError(signal);
  if (failure !== undefined) throw failure;
  yield Buffer.alloc(bytes - half, snapshot.path);
}
