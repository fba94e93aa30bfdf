// `install-units`: writes systemd units for the targets of the configuration file.

import { existsSync, readFileSync } from "node:fs";
import { userInfo } from "node:os";
import { dirname, join, resolve } from "node:path";
import { Command } from "clipanion";
import { switchOption, textOption } from "./options.ts";
import { BackupError, describeDirectoryError } from "../errors.ts";
import { replaceFile } from "../state/own-directories.ts";
import { readAllTargets, type Target } from "../config/file.ts";
import { printable } from "../terminal/format.ts";
import { printLine, printOwnText } from "../terminal/print.ts";
import { formatDropIn, formatUnits } from "../integrations/systemd.ts";
import type { Context } from "./session.ts";
import { summaryOf } from "./summaries.ts";

export class InstallUnitsCommand extends Command<Context> {
  static override paths = [["install-units"]];
  static readonly exits: readonly number[] = [0, 2, 3];
  static override usage = Command.Usage({
    description: summaryOf("install-units"),
    details: `
      Writes a service and a timer that run \`sync --use NAME\` every night, for any target NAME of the configuration
      file. For each target in the file it also writes which mounts the service needs and which directories it may
      write to, so run it again when the file has changed. At the end it prints the commands that start the timers.
    `,
    examples: [["Write the units, and print how to start the timers", "$0 install-units"]],
  });

  directory = textOption("directory");
  configFile = textOption("systemConfig");

  dryRun = switchOption("printOnly");

  override async execute(): Promise<number> {
    const { stdout, stderr, program } = this.context;
    try {
      const config = this.configFile === undefined ? null : resolve(this.configFile);
      // Reads the file in /etc, even when another user runs this: a system service has no home directory.
      const targets = readAllTargets(config ?? undefined, {}) ?? new Map<string, Target>();
      const command = [...program, "sync", ...(config === null ? [] : ["--config", config])];
      const { uid } = userInfo();
      const units = Object.entries(formatUnits(command)).filter(([name, text]) => !this.isPackaged(name, text));
      for (const [name, text] of [...units, ...formatDropIns(targets)]) {
        const file = join(this.directory, name);
        if (this.dryRun) printOwnText(stdout, `# ${printable(file)}\n${text}\n`);
        else {
          await replaceFile(file, () => text, { uid, makeDirectories: true });
          printLine(stdout, file);
        }
      }
      if (this.dryRun) return 0;
      const timers = (targets.size === 0 ? ["NAME"] : [...targets.keys()]).map(
        (name) => `btrfs-snapshots-to-swift@${name}.timer`,
      );
      printLine(stderr, `next: systemctl daemon-reload && systemctl enable --now ${timers.join(" ")}`);
      return 0;
    } catch (error) {
      const reason = error instanceof BackupError ? error.message : describeDirectoryError(error);
      printLine(stderr, `error: the units were not written to ${this.directory}: ${reason}`);
      return 2;
    }
  }

  /** True when the program's package brings this very unit, and no file in the directory hides it. */
  private isPackaged(name: string, text: string): boolean {
    const main = this.context.program.at(-1) ?? "";
    // As packages lay it out: lib/NAME/dist/program/main.js and lib/systemd/system.
    const packaged = join(dirname(main), "../../../systemd/system", name);
    return !existsSync(join(this.directory, name)) && existsSync(packaged) && readFileSync(packaged, "utf8") === text;
  }
}

function formatDropIns(targets: ReadonlyMap<string, Target>): (readonly [file: string, text: string])[] {
  return [...targets].flatMap(([name, target]) => {
    const dropIn = formatDropIn(name, needsOf(target));
    return dropIn === null ? [] : [dropIn];
  });
}

/** The run replaces the metrics file, so the service needs write access to its directory. */
function needsOf({ values, paths }: Target): { readonly paths: readonly string[]; readonly writes: readonly string[] } {
  const metrics = (values.get("metrics-file") ?? []).map((file) => dirname(file));
  return { paths, writes: [...new Set([...(values.get("work-dir") ?? []), ...metrics])] };
}
