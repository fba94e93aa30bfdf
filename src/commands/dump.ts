// `dump`: writes a file of an archived snapshot to stdout.

import { Command, Option } from "clipanion";
import { BackupError } from "../errors.ts";
import { dumpFile, type CopyWatcher } from "../operations/dump.ts";
import type { Reading } from "../operations/read-archive.ts";
import { findSelected } from "../operations/restore.ts";
import { planReading } from "../plan/reading.ts";
import { cleanPath } from "../plan/where.ts";
import { DownloadCommand } from "./command.ts";
import { openLooking } from "./look.ts";
import { switchOption, textOption } from "./options.ts";
import { assertSelects, findPlace, readSelection, type Place } from "./selection.ts";
import type { Session } from "./session.ts";
import { summaryOf } from "./summaries.ts";

export class DumpCommand extends DownloadCommand {
  static override paths = [["dump"]];
  static readonly exits = [0, 2, 3, 10, 12, 13, 14, 75, 130];
  static override usage = Command.Usage({
    description: summaryOf("dump"),
    details: `
      ARCHIVE is what \`restore\` takes: the path of a snapshot, its key, the beginning of its UUID, or \`latest\`; with
      --latest or --at, a subvolume, which can be left out if it is the only one. PATH is the path of a file in the
      snapshot, as \`ls\` shows it. ARCHIVE:PATH is the same in one word.

      Needs neither btrfs nor root. It reads the archive and all that it builds on, and checks them as a restore does; then
      it reads the archives again that have data of the file. The file is kept in a directory for temporary files until
      it is complete: nothing is written of what is damaged.
    `,
    examples: [
      [
        "A file as it is in the newest snapshot",
        "$0 dump --container-name backup --latest /alice/thesis.odt > thesis.odt",
      ],
      [
        "A file as it was on a day",
        "$0 dump --container-name backup /home --at 2026-11-23 /alice/thesis.odt > thesis.odt",
      ],
      ["A file of one snapshot", "$0 dump --container-name backup snapshots/home-1 /alice/notes.txt | less"],
    ],
  });

  latest = switchOption("latestToShow");
  at = textOption("atToShow");
  workDir = textOption("fileDir");
  first = Option.String({ name: "ARCHIVE" });
  second = Option.String({ name: "PATH", required: false });

  protected override async run(session: Session): Promise<number> {
    if (this.json) {
      throw new BackupError("USAGE", "--json cannot be used here: the result is the file", {
        hint: "use `ls --json` for what is known about it",
      });
    }
    const reading = await this.openReading(session);
    const { chain, path } = await this.findFile(reading, session);
    const { progress, signal } = session;
    const steps = planReading([chain]);
    const { context, exitCode } = openLooking(steps, reading, session);
    const copying: CopyWatcher = {
      ...context.watcher,
      onPlan: (archives, bytes) => progress.expect(archives.length, bytes),
      onEnd: () => progress.stop(),
    };
    // Temporary files that may be large: /tmp is often in memory.
    const directory = this.workDir ?? this.context.env["TMPDIR"] ?? "/var/tmp";
    await dumpFile({ steps, path }, { ...context, directory, copying }, this.context.stdout, signal);
    return exitCode();
  }

  /** The words are ARCHIVE and PATH, or both in one, or with --latest or --at the path alone. */
  private async findFile(reading: Reading, session: Session): Promise<Place> {
    const { first, second, latest, at } = this;
    const words = { latest, at, what: second === undefined ? undefined : first };
    const isByAge = latest || at !== undefined;
    if (second === undefined && (!isByAge || first.includes(":"))) {
      assertSelects({ ...words, what: first });
      return await findPlace({ ...words, what: first }, reading, session);
    }
    assertSelects(words);
    const path = cleanPath(second ?? first);
    const chain = await findSelected(await readSelection(words, session), reading, session.signal);
    return { chain, path };
  }
}
