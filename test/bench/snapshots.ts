// Very many snapshots, for the benches of what they cost.

import { fileURLToPath } from "node:url";
import { run } from "../support/loopback.ts";

const SCRIPT = fileURLToPath(new URL("../../../test/bench/snapshots.py", import.meta.url));

/** Takes read-only snapshots of a subvolume in a directory, named by the numbers from `first` to `last`. */
export async function takeSnapshots(subvolume: string, directory: string, first: number, last: number): Promise<void> {
  await run("python3", SCRIPT, subvolume, directory, String(first), String(last));
}
