// `completion`: prints the completions of the shells, and the manual page.

import { Command, Option } from "clipanion";
import { textOption } from "./options.ts";
import { formatCompletion } from "../terminal/completion.ts";
import { toBackupError } from "../errors.ts";
import { readAllTargets } from "../config/file.ts";
import type { CommandHelp } from "../terminal/help.ts";
import { printLine, printOwnText } from "../terminal/print.ts";
import type { Context } from "./session.ts";
import { describeCommand } from "./usage.ts";
import { registry } from "./registry.ts";
import { summaryOf, topicNames } from "./summaries.ts";
import { formatManual } from "../terminal/manual.ts";
import { manualSections } from "./topics.ts";

/** See `bin` in package.json. */
const OTHER_NAME = "btrfs-snapshot-to-swift";

export class CompletionCommand extends Command<Context> {
  static override paths = [["completion"]];
  static readonly exits: readonly number[] = [0, 2, 3];
  static override usage = Command.Usage({
    description: summaryOf("completion"),
    details:
      "WHAT is bash, zsh or fish, man for the manual page, or targets for the names of the targets in the configuration file, which the completions use.",
    examples: [["Turn on completion in bash", 'eval "$($0 completion bash)"']],
  });

  configFile = textOption("configOfTargets");
  what = Option.String({ name: "WHAT" });

  override async execute(): Promise<number> {
    const { stdout, stderr, tool } = this.context;
    const [name = "", version = ""] = tool.split("/");
    const commands: CommandHelp[] = [];
    for (const { load } of registry) commands.push(describeCommand(await load(), name));
    const { what } = this;
    if (what === "man") printOwnText(stdout, formatManual({ name, version }, commands, manualSections));
    else if (what === "targets") return this.printTargets();
    else if (what === "bash" || what === "zsh" || what === "fish")
      printOwnText(stdout, formatCompletion(what, [name, OTHER_NAME], { commands, topics: topicNames }));
    else {
      printLine(stderr, `error: completion takes bash, zsh, fish, man or targets, not "${what}"`);
      return 2;
    }
    return 0;
  }

  private printTargets(): number {
    const { stdout, stderr, env } = this.context;
    try {
      const targets = readAllTargets(this.configFile, env) ?? new Map<string, unknown>();
      for (const name of targets.keys()) printLine(stdout, name);
      return 0;
    } catch (error) {
      const { message, exitCode } = toBackupError(error);
      printLine(stderr, `error: ${message}`);
      return exitCode;
    }
  }
}
