// `ls`: shows the files of an archived snapshot.

import { Command, Option } from "clipanion";
import { BackupError } from "../errors.ts";
import { readTrees, type ArchiveTree } from "../operations/trees.ts";
import { displayPath, kindOf, type Entry } from "../plan/entry.ts";
import { openNcdu } from "../plan/ncdu.ts";
import { planReading } from "../plan/reading.ts";
import { DownloadCommand } from "./command.ts";
import { archiveRecord, eachBatch, entryRecord, longLine, openLooking } from "./look.ts";
import { switchOption, textOption } from "./options.ts";
import { assertSelects, findPlace, type Place } from "./selection.ts";
import type { Session } from "./session.ts";
import { summaryOf } from "./summaries.ts";

export class LsCommand extends DownloadCommand {
  static override paths = [["ls"]];
  static readonly exits = [0, 2, 10, 12, 13, 14, 75, 130];
  static override usage = Command.Usage({
    description: summaryOf("ls"),
    details: `
      ARCHIVE is what \`restore\` takes: the path of a snapshot, its key, the beginning of its UUID, or \`latest\`; with
      --latest or --at, a subvolume. DIR is a path in the snapshot: without it, the top is shown. --latest :DIR is for the
      only subvolume.

      Needs neither btrfs nor root. It reads the archive and all that it builds on, and checks them as a restore does:
      nothing is shown of what is damaged.
    `,
    examples: [
      ["The top of the newest snapshot", "$0 ls --container-name backup --latest"],
      ["A directory, with all that is in it", "$0 ls --container-name backup snapshots/home-1:alice -l --recursive"],
      ["What takes the space, in ncdu", "$0 ls --container-name backup --latest --ncdu | ncdu -f -"],
    ],
  });

  long = switchOption("long");
  recursive = switchOption("recursive");
  ncdu = switchOption("ncdu");
  latest = switchOption("latestToShow");
  at = textOption("atToShow");
  what = Option.String({ name: "ARCHIVE[:DIR]", required: false });

  protected override async run(session: Session): Promise<number> {
    const words = { what: this.what, latest: this.latest, at: this.at };
    assertSelects(words);
    if (this.ncdu && (this.json || this.long))
      throw new BackupError("USAGE", "--ncdu is a format of its own", { hint: "use it without --json and -l" });
    const reading = await this.openReading(session);
    const place = await findPlace(words, reading, session);
    const steps = planReading([place.chain]);
    const looking = openLooking(steps, reading, session);
    const context = { ...looking.context, keeps: false };
    await readTrees(steps, context, async (_, tree) => this.show(tree, place, session), session.signal);
    return looking.exitCode();
  }

  private async show(tree: ArchiveTree, { chain, path }: Place, session: Session): Promise<void> {
    const { output } = session;
    const archive = chain.at(-1) ?? chain[0];
    if (tree.find(path) === null) {
      throw new BackupError("USAGE", `there is no /${path} in ${archive.path}`, {
        hint: "use a path from the root of the snapshot",
      });
    }
    if (this.ncdu) {
      await this.showForNcdu(tree, { chain, path }, session);
      return;
    }
    output.record({ type: "archive", ...archiveRecord(archive) });
    const take = (entry: Entry): void => {
      output.record({ type: "entry", ...entryRecord(entry) });
      output.line(this.long ? longLine(entry) : displayPath(entry) + (kindOf(entry) === "directory" ? "/" : ""));
    };
    await eachBatch(tree.walk(path, { recursive: this.recursive }), take, session);
  }

  private async showForNcdu(tree: ArchiveTree, { chain, path }: Place, session: Session): Promise<void> {
    const [name = "", version = ""] = this.context.tool.split("/");
    const top = { path, name: `${chain.at(-1)?.path ?? ""}:/${path}` };
    const writer = openNcdu(top, { name, version });
    session.output.text(writer.beginning);
    const take = (entry: Entry): void => session.output.text(writer.entry(entry));
    await eachBatch(tree.walk(path, { recursive: true }), take, session);
    session.output.text(writer.end());
  }
}
