// The options of verify.

import { Option } from "clipanion";
import { switchOption, textOption } from "./options.ts";
import { DownloadCommand } from "./command.ts";

export abstract class VerifyOptions extends DownloadCommand {
  readData = switchOption("readData");
  subset = textOption("readDataSubset");
  againstLocal = switchOption("againstLocal");
  drill = switchOption("drill");
  removeLeftovers = switchOption("removeLeftovers");
  leftoverAge = textOption("leastLeftoverAge");
  workDir = textOption("scratchDir");
  dryRun = switchOption("showReads");
  received = switchOption("received");
  subvolume = Option.String({ name: "PATH", required: false });
}
