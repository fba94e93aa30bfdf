// The options of verify.

import { Option } from "clipanion";
import { DownloadCommand } from "./command.ts";
import { LEFTOVER_AGE } from "./leftovers.ts";
import { receivedOption } from "./options.ts";

export abstract class VerifyOptions extends DownloadCommand {
  readData = Option.Boolean("--read-data", false, { description: "Read every archive to its end." });
  subset = Option.String("--read-data-subset", {
    description:
      "Read some of them: 10% of all bytes by chance, 3/7 the third of seven groups, or latest with its chain.",
  });
  againstLocal = Option.Boolean("--against-local", false, {
    description:
      "Compare archives with what btrfs send makes now of the snapshots of PATH, deduplicated ones by a restore.",
  });
  drill = Option.Boolean("--drill", false, {
    description: "Restore the newest archive whose snapshot is here into a scratch filesystem, and compare the trees.",
  });
  removeLeftovers = Option.Boolean("--remove-leftovers", false, {
    description: "Remove what interrupted runs have left, whether a run would resume it or not.",
  });
  leftoverAge = Option.String("--leftover-age", LEFTOVER_AGE, {
    description:
      "With --remove-leftovers: only what is so old (default 24h); younger uploads may belong to a run elsewhere.",
  });
  workDir = Option.String("--work-dir", {
    description: "Where the scratch filesystem's file is kept (else the temporary directory).",
  });
  dryRun = Option.Boolean("-n,--dry-run", false, {
    description: "Show what would be read and removed; the cheap look is all that is done.",
  });
  received = receivedOption();
  subvolume = Option.String({ name: "PATH", required: false });
}
