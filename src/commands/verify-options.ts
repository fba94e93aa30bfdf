// The options of verify.

import { Option } from "clipanion";
import { DownloadCommand } from "./command.ts";
import { LEFTOVER_AGE } from "./leftovers.ts";
import { receivedOption } from "./options.ts";

export abstract class VerifyOptions extends DownloadCommand {
  readData = Option.Boolean("--read-data", false, { description: "Read every archive to its end." });
  subset = Option.String("--read-data-subset", {
    description: "Read a subset: 10% (random), 3/7 (the third of seven groups), or latest (with its chain).",
  });
  againstLocal = Option.Boolean("--against-local", false, {
    description:
      "Compare archives with what btrfs send produces now from the snapshots of PATH; deduplicated ones by a restore.",
  });
  drill = Option.Boolean("--drill", false, {
    description: "Restore the newest archive whose snapshot is still here into a scratch filesystem, and compare.",
  });
  removeLeftovers = Option.Boolean("--remove-leftovers", false, {
    description: "Remove leftovers of interrupted runs, even those that a run would resume.",
  });
  leftoverAge = Option.String("--leftover-age", LEFTOVER_AGE, {
    description:
      "With --remove-leftovers: only leftovers this old (default 24h); younger ones may belong to a run elsewhere.",
  });
  workDir = Option.String("--work-dir", {
    description: "Directory for the scratch filesystem (else the temporary directory).",
  });
  dryRun = Option.Boolean("-n,--dry-run", false, {
    description: "Show what would be read and removed; reads no file data.",
  });
  received = receivedOption();
  subvolume = Option.String({ name: "PATH", required: false });
}
