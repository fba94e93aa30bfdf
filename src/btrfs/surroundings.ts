// The other subvolumes on the filesystem of a path, for advice to somebody who named the wrong one.

import { parseUuid, type Neighbour, type Surroundings } from "../plan/model.ts";
import { listSubvolumes, subvolumeInfo, type RawInfo } from "../addon/subvolumes.ts";
import { pathThrough, readMountsOf } from "./mount-table.ts";

/** The id of every filesystem's top level. */
const TOP_LEVEL = 5;

/**
 * The subvolumes on the filesystem of a path, and the paths where mounts should show them. It does not look at those
 * paths.
 */
export async function readSurroundings(path: string): Promise<Surroundings> {
  const [top, others, mounts] = await Promise.all([
    subvolumeInfo(path, TOP_LEVEL),
    listSubvolumes(path),
    readMountsOf(path),
  ]);
  const subvolumes = [toNeighbour(top, ""), ...others.map((raw) => toNeighbour(raw, raw.path))];
  const seenAt = (place: string): string | null => {
    const seen = mounts.flatMap((mount) => pathThrough(mount, place) ?? []);
    return seen.toSorted((a, b) => a.length - b.length)[0] ?? null;
  };
  return { subvolumes, seenAt };
}

function toNeighbour({ uuid, parentUuid, receivedUuid, readOnly }: RawInfo, path: string): Neighbour {
  return {
    uuid: parseUuid(uuid ?? ""),
    parent: parseUuid(parentUuid ?? ""),
    received: parseUuid(receivedUuid ?? ""),
    path,
    readOnly,
  };
}
