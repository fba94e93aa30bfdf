import { Command, Option } from "clipanion";
import { formatCompletion, formatManual } from "../terminal/completion.ts";
import type { CommandHelp } from "../terminal/help.ts";
import { printLines, printOwnText } from "../terminal/print.ts";
import type { Context } from "./session.ts";
import { describeCommand } from "./usage.ts";
import { registry } from "./registry.ts";
import { summaryOf } from "./summaries.ts";

export class CompletionCommand extends Command<Context> {
  static override paths = [["completion"]];
  static readonly exits: readonly number[] = [0, 2, 3];
  static override usage = Command.Usage({
    description: summaryOf("completion"),
    details: "WHAT is bash, zsh or fish; or man, for the manual page.",
    examples: [["In bash, from now on", 'eval "$($0 completion bash)"']],
  });

  what = Option.String({ name: "WHAT" });

  override async execute(): Promise<number> {
    const { stdout, stderr, tool } = this.context;
    const [name = "", version = ""] = tool.split("/");
    const commands: CommandHelp[] = [];
    for (const { load } of registry) commands.push(describeCommand(await load(), name));
    const { what } = this;
    if (what === "man") printOwnText(stdout, formatManual({ name, version }, commands));
    else if (what === "bash" || what === "zsh" || what === "fish")
      printOwnText(stdout, formatCompletion(what, name, commands));
    else {
      printLines(stderr, `error: completion takes bash, zsh, fish or man, not "${what}"`);
      return 2;
    }
    return 0;
  }
}
