// The messages when there are no snapshots to archive, from the other subvolumes of the filesystem.

import assert from "node:assert/strict";
import { describe, test } from "node:test";
import type { Neighbour } from "../../../src/plan/model.ts";
import { adviseWithoutUuid, explainNoSnapshots, suggestForDirectory } from "../../../src/plan/surroundings.ts";
import { source, uuid } from "../../support/builders.ts";

const GONE = uuid(0xdead);
const neighbour = (number: number, path: string, changes: Partial<Neighbour> = {}): Neighbour => ({
  uuid: uuid(number), parent: null, path, readOnly: false, ...changes,
}); // prettier-ignore
const self = neighbour(0xabc, source.path);
const top = neighbour(5, "");
const snapshots = (parent: Neighbour["parent"], ...paths: string[]): Neighbour[] =>
  paths.map((path, index) => neighbour(100 + index, path, { parent, readOnly: true }));

function explained(subvolumes: readonly Neighbour[], mounted: readonly string[] = []): string {
  const seenAt = (path: string): string | null => (mounted.includes(path) ? `/mnt/${path}` : null);
  const { code, message, hint } = explainNoSnapshots("/home", source, { subvolumes: [top, ...subvolumes], seenAt });
  assert.equal(code, "NO_SNAPSHOTS");
  return `${message}: ${hint ?? ""}`;
}

describe("without snapshots", () => {
  test("the advice for an only subvolume is to take one", () => {
    assert.equal(
      explained([self]),
      "/home has no read-only snapshots: btrfs subvolume snapshot -r /home DIRECTORY/NAME; use --allow-empty to accept that",
    );
  });
  test("writable ones are named, a few of many, and Timeshift's as what they are", () => {
    const many = [1, 2, 3, 4, 5].map((day) =>
      neighbour(200 + day, `timeshift-btrfs/snapshots/${day}/@home`, { parent: source.uuid }),
    );
    assert.match(
      explained([self, ...many]),
      /5 snapshots of it are writable and left out \(\S+1\/@home, \S+2\/@home, \S+3\/@home, and 2 more\): Timeshift's are;/,
    );
    assert.match(
      explained([self, neighbour(200, "copy", { parent: source.uuid })]),
      /1 snapshot of it is writable and left out \(copy\): make them/,
    );
  });
  test("those of others are counted by whose they are, and by nobody's name where that is gone or they were received", () => {
    const others = [
      neighbour(7, "srv"),
      ...snapshots(uuid(7), "a", "b"),
      ...snapshots(GONE, "c"),
      ...snapshots(null, "d"),
    ];
    assert.match(
      explained([self, ...others]),
      /has 2 of srv \(a, b\), 1 of a subvolume that is gone \(\S+dead\) \(c\), 1 of no subvolume here \(received\) \(d\): use/,
    );
  });
  test("a subvolume that others' snapshots lie in names their source, where it is mounted", () => {
    const others = [neighbour(7, "srv"), ...snapshots(uuid(7), `${source.path}/1`)];
    assert.match(explained([self, ...others], ["srv"]), /: use \/mnt\/srv$/);
    assert.match(explained([self, ...others]), /: use the path of the right subvolume, use --allow-empty/);
  });
  test("a subvolume that was made from a snapshot is recognised as rolled back", () => {
    const others = snapshots(GONE, "before");
    assert.match(explained([{ ...self, parent: uuid(100) }, ...others]), /made from before, as in a rollback/);
  });
  test("a snapshot names its source, whether that is mounted, is not, or is gone", () => {
    const snapshot = { ...self, readOnly: true, parent: uuid(7) };
    assert.equal(
      explained([snapshot, neighbour(7, "srv")], ["srv"]),
      "/home is itself a read-only snapshot, of srv: use /mnt/srv",
    );
    assert.match(
      explained([snapshot, neighbour(7, "srv")]),
      /of srv: use the path of the subvolume of which it was taken/,
    );
    assert.match(explained([snapshot]), /of a subvolume that is gone \(/);
    assert.match(explained([{ ...snapshot, parent: null }]), /is itself a read-only snapshot: use/);
  });
});

describe("a directory", () => {
  const suggested = (directory: string, ...subvolumes: readonly Neighbour[]): string | null =>
    suggestForDirectory(directory, { subvolumes, seenAt: (path) => `/mnt/${path}` });
  test("of snapshots names their source", () => {
    const all = [self, ...snapshots(source.uuid, "kept/1", "kept/2", "kept2/3")];
    assert.equal(suggested("kept", ...all), "the 2 read-only snapshots in it are of home: use /mnt/home");
    assert.equal(suggested("kept2", ...all), "the read-only snapshot in it is of home: use /mnt/home");
  });
  test("of snapshots of several names all of them; one without snapshots names nobody", () => {
    const all = [
      self,
      neighbour(7, "srv"),
      ...snapshots(source.uuid, "kept/1"),
      ...snapshots(uuid(7), "kept/2", "kept/3"),
    ];
    assert.equal(suggested("kept", ...all), "the 3 read-only snapshots in it are of srv, home");
    assert.equal(suggested("elsewhere", ...all), null);
  });
});

test("the advice for a top level without a UUID names what to archive in its place", () => {
  assert.match(
    adviseWithoutUuid("/mnt/"),
    /btrfs subvolume create \/mnt\/NAME\), move the files there, and archive that$/,
  );
});
