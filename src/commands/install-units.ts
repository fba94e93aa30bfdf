import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { Command, Option } from "clipanion";
import { toBackupError } from "../errors.ts";
import { formatUnits } from "../terminal/units.ts";
import type { Context } from "./base.ts";
import { summaryOf } from "./registry.ts";

export class InstallUnitsCommand extends Command<Context> {
  static override paths = [["install-units"]];
  static readonly exits: readonly number[] = [0, 1, 2];
  static override usage = Command.Usage({
    description: summaryOf("install-units"),
    details: `
      Writes a service and a timer that run \`sync --use NAME\` every night, for any target NAME of the configuration
      file. Afterwards: \`systemctl daemon-reload\`, then \`systemctl enable --now btrfs-snapshots-to-swift@NAME.timer\`.
    `,
    examples: [["For all users of this machine", "$0 install-units"]],
  });

  directory = Option.String("--directory", "/etc/systemd/system", {
    description: "Write the files into this directory (default /etc/systemd/system).",
  });

  override async execute(): Promise<number> {
    const { stdout, stderr, program } = this.context;
    try {
      await mkdir(this.directory, { recursive: true });
      for (const [name, text] of Object.entries(formatUnits(program))) {
        const file = join(this.directory, name);
        await writeFile(file, text);
        stdout.write(`${file}\n`);
      }
      return 0;
    } catch (error) {
      stderr.write(`error: the units were not written: ${toBackupError(error).message}\n`);
      return 2;
    }
  }
}
