// `version`: prints the versions of the program and of everything that it uses on this machine.

import { Command } from "clipanion";
import { release } from "node:os";
import { addonVersions } from "../addon/load.ts";
import { toBackupError } from "../errors.ts";
import type { Versions } from "../operations/check.ts";
import { programVersion } from "../operations/versions.ts";
import { printLine } from "../terminal/print.ts";
import { switchOption } from "./options.ts";
import type { Context } from "./session.ts";
import { summaryOf } from "./summaries.ts";

export class VersionCommand extends Command<Context> {
  static override paths = [["version"]];
  static readonly exits: readonly number[] = [0, 2];
  static override usage = Command.Usage({
    description: summaryOf("version"),
    details: `
      Add its output to a report of a problem. It asks no network; \`doctor\` also prints the version of Swift. \`--version\`
      prints the first line alone.
    `,
    examples: [["For a report of a problem", "$0 version"]],
  });

  json = switchOption("json");

  override async execute(): Promise<number> {
    const { stdout, tool } = this.context;
    const [name = "", version = ""] = tool.split("/");
    const rows = await this.read();
    if (this.json) {
      const versions = rows.map((row) => [row.key, row.version]);
      printLine(stdout, JSON.stringify({ program: version, ...Object.fromEntries(versions) }));
      return 0;
    }
    printLine(stdout, `${name} ${version}`);
    for (const row of rows) printLine(stdout, `${row.label} ${row.version ?? `missing: ${row.reason}`}`);
    return 0;
  }

  private async read(): Promise<readonly Row[]> {
    const { node, signal } = this.context;
    return [
      await toRow("kernel", "Linux", async () => release()),
      await toRow("btrfsProgs", "btrfs-progs", async () =>
        (await import("../btrfs/progs.ts")).readProgsVersion(signal),
      ),
      await toRow("libbtrfsutil", "libbtrfsutil", async () => addonVersions().libbtrfsutil),
      await toRow("age", "age", () => programVersion("age", signal)),
      await toRow("zstd", "zstd", () => programVersion("zstd", signal)),
      await toRow("node", "Node", async () => node),
      await toRow("sdk", "AWS SDK", async () => (await import("../swift/sdk.ts")).sdkVersion()),
    ];
  }
}

interface Row {
  readonly key: keyof Versions;
  readonly label: string;
  /** Null when it is missing. */
  readonly version: string | null;
  /** Why it is. */
  readonly reason: string;
}

async function toRow(key: keyof Versions, label: string, read: () => Promise<string>): Promise<Row> {
  try {
    return { key, label, version: await read(), reason: "" };
  } catch (error) {
    return { key, label, version: null, reason: toBackupError(error).message };
  }
}
