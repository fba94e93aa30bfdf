// `diff`: shows what differs between two archived snapshots.

import { Command, Option } from "clipanion";
import { readTrees, type ArchiveTree } from "../operations/trees.ts";
import {
  countChange,
  displayPath,
  kindOf,
  markOf,
  noChanges,
  type Change,
  type ChangeCounts,
  type Inode,
} from "../plan/entry.ts";
import type { Chain, Key } from "../plan/model.ts";
import { planReading } from "../plan/reading.ts";
import { count, formatBytes, printable } from "../terminal/format.ts";
import { DownloadCommand } from "./command.ts";
import { archiveRecord, eachBatch, inodeRecord, openLooking, pathRecord } from "./look.ts";
import { switchOption } from "./options.ts";
import { findSelected } from "../operations/restore.ts";
import { readSelection } from "./selection.ts";
import type { Session } from "./session.ts";
import { summaryOf } from "./summaries.ts";

export class DiffCommand extends DownloadCommand {
  static override paths = [["diff"]];
  static readonly exits = [0, 2, 10, 12, 13, 14, 75, 130];
  static override usage = Command.Usage({
    description: summaryOf("diff"),
    details: `
      A and B are archives, as \`restore\` takes them. The signs: + only in B, - only in A, M another content, T another type,
      and with --metadata U: another mode, owner, time or extended attribute.

      Reads both archives and all that they build on, each once, with all checks. If B builds on A, a file whose data were
      sent again counts as changed. Otherwise files of the same size and time count as equal.
    `,
    examples: [
      ["What changed in a day", "$0 diff --container-name backup snapshots/home-1 snapshots/home-2"],
      ["For a program, with attributes", "$0 diff --container-name backup home-1 home-2 --metadata --json"],
    ],
  });

  metadata = switchOption("metadata");
  before = Option.String({ name: "A" });
  after = Option.String({ name: "B" });

  protected override async run(session: Session): Promise<number> {
    const reading = await this.openReading(session);
    const find = async (what: string): Promise<Chain> =>
      findSelected(await readSelection({ what, latest: false, at: undefined }, session), reading, session.signal);
    const chains = [await find(this.before), await find(this.after)] as const;
    const steps = planReading(chains);
    const looking = openLooking(steps, reading, session);
    const trees = new Map<Key, ArchiveTree>();
    await readTrees(
      steps,
      { ...looking.context, keeps: true },
      async ({ key }, tree) => void trees.set(key, tree),
      session.signal,
    );
    session.progress.stop();
    await this.print(chains, trees, session);
    return looking.exitCode();
  }

  private async print(
    [a, b]: readonly [Chain, Chain],
    trees: ReadonlyMap<Key, ArchiveTree>,
    session: Session,
  ): Promise<void> {
    const [before, after] = [a.at(-1) ?? a[0], b.at(-1) ?? b[0]];
    const [one, other] = [trees.get(before.key), trees.get(after.key)];
    if (one === undefined || other === undefined) throw new TypeError("a tree that was read is missing");
    const { output } = session;
    output.record({ type: "archives", before: archiveRecord(before), after: archiveRecord(after) });
    output.line(`comparing ${printable(before.path)} with ${printable(after.path)}`);
    let counts = noChanges;
    const isRelated = b.some(({ key }) => key === before.key);
    await eachBatch(
      one.compare(other, isRelated),
      (change) => {
        counts = countChange(counts, change);
        if (markOf(change) === "U" && !this.metadata) return;
        output.record({ type: "change", mark: markOf(change), ...changeRecord(change) });
        output.line(`${markOf(change)}    ${displayPath(change)}${isDirectory(change) ? "/" : ""}`);
      },
      session,
    );
    output.record({ type: "summary", ...counts });
    output.line(describe(counts));
  }
}

function changeRecord(change: Change): Readonly<Record<string, unknown>> {
  const side = (inode: Inode | null): Readonly<Record<string, unknown>> | null =>
    inode === null ? null : inodeRecord(inode);
  return { ...pathRecord(change), metadata: change.metadata, before: side(change.before), after: side(change.after) };
}

function isDirectory({ before, after }: Change): boolean {
  const inode = after ?? before;
  return inode !== null && kindOf(inode) === "directory";
}

function describe({ added, removed, changed, metadata, bytesAdded, bytesRemoved }: ChangeCounts): string {
  return (
    `${count(added, "path")} added, ${removed} removed, ${changed} changed, ${metadata} with other attributes only; ` +
    `files: +${formatBytes(bytesAdded)}, -${formatBytes(bytesRemoved)}`
  );
}
