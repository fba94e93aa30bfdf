import { Command } from "clipanion";
import { printable } from "../terminal/format.ts";
import type { House } from "./session.ts";
import { summaryOf } from "./summaries.ts";
import { SyncCommand } from "./sync.ts";

/** Takes what sync takes, and tells what it would do with it. */
export class ConfigShowCommand extends SyncCommand {
  static override paths = [["config", "show"]];
  static override readonly exits: readonly number[] = [0, 2, 3];
  static override usage = Command.Usage({
    description: summaryOf("config show"),
    details: `
      One line for each setting that is said somewhere: by a flag, a variable or the configuration file, in this order.
      What is said nowhere has the value that \`sync --help\` tells. Nothing is opened and nobody is asked.
    `,
    examples: [["What a nightly sync of a target would use", "$0 config show --use home"]],
  });

  protected override readonly narrates = false;

  protected override run({ output }: House): Promise<number> {
    const { inForce, paths } = this.context.settings;
    const chosen = this.subvolumes.length > 0 ? this.subvolumes : paths;
    output.table([
      ...inForce.map(({ key, value, from }) => [key, printable(value), from]),
      ["paths", chosen.map(printable).join(" "), ""],
    ]);
    output.record({ settings: inForce, paths: chosen });
    return Promise.resolve(0);
  }
}
