// The records of subvolumes, and the form in which the addon passes very many of them.

/**
 * The facts that btrfs keeps about one subvolume. Transaction ids and subvolume ids are exact: both stay far below
 * 2^53.
 */
export interface RawInfo {
  readonly id: number;
  /** Id of the subvolume it lies in; 0 for the top level and for one that is being deleted. */
  readonly parentId: number;
  readonly readOnly: boolean;
  /** Lower-case; null only for a top level made before btrfs-progs 4.16. */
  readonly uuid: string | null;
  /** UUID of the subvolume it is a snapshot of; null when it is no snapshot. */
  readonly parentUuid: string | null;
  /** The UUID it was received under; null when it was made here. */
  readonly receivedUuid: string | null;
  readonly generation: number;
  /** Transaction of the last change inside it: for a snapshot, of its source before it was taken. */
  readonly ctransid: number;
  /** Transaction of its creation. */
  readonly otransid: number;
  /** Transaction of the sender, when received; else 0. */
  readonly stransid: number;
  /** Transaction of the end of receiving, when received; else 0. */
  readonly rtransid: number;
  /** Nanoseconds since the epoch, as all times here. */
  readonly ctimeNs: bigint;
  readonly otimeNs: bigint;
  readonly rtimeNs: bigint | null;
}

export interface RawSubvolume extends RawInfo {
  /** Relative to the subvolume that was listed. */
  readonly path: string;
  /** False when the path's bytes are not UTF-8: then `path` has U+FFFD in place of what could not be read. */
  readonly pathIsExact: boolean;
}

/** A list in columns. Very many objects would cost the addon as much as all of the iteration. */
export interface Columns {
  /** One of each row, see {@link marks}. */
  readonly marks: Uint8Array;
  /** {@link NUMBERS} of each row. */
  readonly numbers: Float64Array;
  /** {@link TIMES} of each row. */
  readonly times: BigInt64Array;
  /** Three of each row, zeros for none. */
  readonly uuids: string;
  /** Each with a NUL behind it. */
  readonly paths: string;
}

/** The bits that say what a row has. */
const marks = { readOnly: 1, pathIsExact: 2, uuid: 4, parentUuid: 8, receivedUuid: 16, rtimeNs: 32 } as const;

/** How much of each column is of one row. */
const NUMBERS = 7;
const TIMES = 3;
const UUID = 36;
const UUIDS = 3 * UUID;

/** The records of a list. */
export function toRows(columns: Columns): RawSubvolume[] {
  return columns.paths
    .split("\0")
    .slice(0, -1)
    .map((path, row) => toRow(columns, path, row));
}

function toRow({ marks: all, numbers, times, uuids }: Columns, path: string, row: number): RawSubvolume {
  const mark = all[row] ?? 0;
  const [number, time, uuid] = [NUMBERS * row, TIMES * row, UUIDS * row];
  return {
    id: numbers[number] ?? 0,
    parentId: numbers[number + 1] ?? 0,
    readOnly: (mark & marks.readOnly) !== 0,
    uuid: (mark & marks.uuid) === 0 ? null : uuids.slice(uuid, uuid + UUID),
    parentUuid: (mark & marks.parentUuid) === 0 ? null : uuids.slice(uuid + UUID, uuid + 2 * UUID),
    receivedUuid: (mark & marks.receivedUuid) === 0 ? null : uuids.slice(uuid + 2 * UUID, uuid + 3 * UUID),
    generation: numbers[number + 2] ?? 0,
    ctransid: numbers[number + 3] ?? 0,
    otransid: numbers[number + 4] ?? 0,
    stransid: numbers[number + 5] ?? 0,
    rtransid: numbers[number + 6] ?? 0,
    ctimeNs: times[time] ?? 0n,
    otimeNs: times[time + 1] ?? 0n,
    rtimeNs: (mark & marks.rtimeNs) === 0 ? null : (times[time + 2] ?? 0n),
    path,
    pathIsExact: (mark & marks.pathIsExact) !== 0,
  };
}
