// `find`: shows in which snapshots a path is, and when it changed.

import { Command, Option } from "clipanion";
import { parseDate, parseDateBegin } from "../config/parse.ts";
import { BackupError } from "../errors.ts";
import { readArchives } from "../operations/inventory.ts";
import { findSelected } from "../operations/restore.ts";
import type { Reading } from "../operations/read-archive.ts";
import { findChains, readTreesThatOpen, type Unread } from "../operations/trees.ts";
import { displayPath, kindOf, type Entry } from "../plan/entry.ts";
import { traceHistories, type Findings, type PathHistory, type TimeBounds, type Version } from "../plan/find.ts";
import type { Chain } from "../plan/model.ts";
import { planReading } from "../plan/reading.ts";
import { selectSource, sortByAge } from "../plan/select.ts";
import { count, formatBytes, formatMinute, printable } from "../terminal/format.ts";
import { DownloadCommand } from "./command.ts";
import { findSourceName } from "./local-names.ts";
import { archiveRecord, eachBatch, inodeRecord, openLooking, pathRecord, showTime, unreadRecord } from "./look.ts";
import { switchOption, textOption } from "./options.ts";
import { readSelection } from "./selection.ts";
import type { Session } from "./session.ts";
import { summaryOf } from "./summaries.ts";

/** The archives to look into, and those whose chains are broken. */
interface Wanted {
  readonly chains: readonly Chain[];
  readonly broken: readonly Unread[];
}

export class FindCommand extends DownloadCommand {
  static override paths = [["find"]];
  static readonly exits = [0, 2, 10, 12, 13, 14, 75, 130];
  static override usage = Command.Usage({
    description: summaryOf("find"),
    details: `
      A PATTERN has *, ?, [a-z] and ** (which also crosses directories). Without a slash it is for names; one that begins
      with a slash is for complete paths; any other is for paths that end so.

      For each path the snapshots are shown in which it is new or has changed (another size or time), and those from which
      it has gone. Every archive is read once, with all its checks. Archives that cannot be read are named at the end.
    `,
    examples: [
      ["When a file changed, and when it was there last", "$0 find --container-name backup /alice/report.odt"],
      ["In one archive", "$0 find --container-name backup '*.odt' -i --archive snapshots/home-1"],
      ["Of one subvolume of several", "$0 find --container-name backup passwd --source @ --oldest 2026-11-01"],
    ],
  });

  ignoreCase = switchOption("ignoreCase");
  archive = textOption("archive");
  source = textOption("source");
  oldest = textOption("oldest");
  newest = textOption("newest");
  patterns = Option.Rest({ name: "PATTERN", required: 1 });

  protected override async run(session: Session): Promise<number> {
    const bounds = {
      oldest: this.oldest === undefined ? null : parseDateBegin(this.oldest, "--oldest"),
      newest: this.newest === undefined ? null : parseDate(this.newest, "--newest"),
    };
    if (this.archive !== undefined && this.source !== undefined)
      throw new BackupError("USAGE", "--archive and --source exclude each other", { hint: "use one of them" });
    const reading = await this.openReading(session);
    const { chains, broken } = await this.findWanted(reading, session);
    const steps = planReading(chains);
    const looking = openLooking(steps, reading, session);
    const findings: Findings[] = [];
    const filter = { recursive: true, patterns: this.patterns, ignoresCase: this.ignoreCase };
    const unread = await readTreesThatOpen(
      steps,
      looking.context,
      async (archive, tree) => {
        const entries: Entry[] = [];
        await eachBatch(tree.walk("", filter), (entry) => entries.push(entry), session);
        findings.push({ archive, entries });
      },
      session.signal,
    );
    session.progress.stop();
    this.print(findings, bounds, session);
    return this.reportUnread([...broken, ...unread], session) ?? looking.exitCode();
  }

  private async findWanted(reading: Reading, session: Session): Promise<Wanted> {
    if (this.archive !== undefined) {
      const words = { what: this.archive, latest: false, at: undefined };
      const chain = await findSelected(await readSelection(words, session), reading, session.signal);
      return { chains: [chain], broken: [] };
    }
    const archives = await readArchives("", reading, session.signal);
    const name = this.source === undefined ? null : await findSourceName(this.source, session);
    const source = selectSource(archives, name);
    return findChains(
      archives.filter((archive) => archive.source === source),
      archives,
    );
  }

  private print(findings: readonly Findings[], bounds: TimeBounds, session: Session): void {
    const { output } = session;
    const found = new Map(findings.map((each) => [each.archive, each]));
    const sorted = sortByAge([...found.keys()]).flatMap((archive) => found.get(archive) ?? []);
    const histories = traceHistories(sorted, bounds);
    for (const history of histories) {
      output.record({ type: "path", ...toRecord(history) });
      output.line(displayPath(history.entry));
      output.table(history.versions.map(toRow), { right: [2], flexible: [1] });
    }
    output.record({ type: "summary", paths: histories.length, snapshots: findings.length });
    output.line(`${count(histories.length, "path")} found in ${count(findings.length, "snapshot")}`);
  }

  /** Reports archives that could not be read; returns the exit code of the first of them, or null when there are none. */
  private reportUnread(unread: readonly Unread[], { log, output }: Session): number | null {
    for (const each of unread) {
      output.record({ type: "unread", ...unreadRecord(each) });
      const { message, hint } = each.error;
      log.error(`not looked into: ${each.archive.path}: ${message}${hint === null ? "" : `: ${hint}`}`);
    }
    return unread[0]?.error.exitCode ?? null;
  }
}

function toRow({ entry, first, snapshots }: Version): string[] {
  const taken = first.otime === null ? "-" : formatMinute(first.otime);
  const snapshot = printable(first.path);
  if (entry === null) return [`  ${taken}`, snapshot, "", "gone", ""];
  const kind = kindOf(entry);
  const size = kind === "file" ? formatBytes(entry.size) : kind;
  return [`  ${taken}`, snapshot, size, showTime(entry.mtime), snapshots === 1 ? "" : count(snapshots, "snapshot")];
}

function toRecord({ entry, versions }: PathHistory): Readonly<Record<string, unknown>> {
  return {
    ...pathRecord(entry),
    versions: versions.map((version) => ({
      present: version.entry !== null,
      ...(version.entry === null ? {} : inodeRecord(version.entry)),
      first: archiveRecord(version.first),
      last: archiveRecord(version.last),
      snapshots: version.snapshots,
    })),
  };
}
