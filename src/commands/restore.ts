// `restore`: brings a snapshot back, with all that it builds on.

import { join, resolve } from "node:path";
import { Command, Option } from "clipanion";
import { switchOption, textOption } from "./options.ts";
import { BackupError } from "../errors.ts";
import type { RestoreTarget } from "../operations/ports.ts";
import type { Reading } from "../operations/read-archive.ts";
import { findSelected, prepareRestore, runRestore, writeStreams } from "../operations/restore.ts";
import type { Archive, Snapshot } from "../plan/model.ts";
import type { RestorePlan } from "../plan/restore.ts";
import type { Selection } from "../plan/select.ts";
import { count, formatBytes, printable } from "../terminal/format.ts";
import { DownloadCommand } from "./command.ts";
import type { Lock } from "../state/lock.ts";
import type { Session } from "./session.ts";
import { assertSelects, readSelection } from "./selection.ts";
import { summaryOf } from "./summaries.ts";
import { bytesOf, printChain, printPlan, watch } from "./restore-report.ts";

export class RestoreCommand extends DownloadCommand {
  static override paths = [["restore"]];
  static readonly exits = [0, 2, 3, 10, 11, 12, 13, 14, 15, 75, 130];
  static override usage = Command.Usage({
    description: summaryOf("restore"),
    details: `
      WHAT is an archive: the path of its snapshot as \`list\` shows it, or on this machine; its key (\`list -v\`); the
      beginning of the snapshot's UUID (\`list --json\`); or \`latest\`, the newest archive of the only subvolume.

      With --latest or --at, WHAT is a subvolume: the beginning of its UUID, as \`list\` shows it; its path on this machine; the
      directory of its snapshots; or a name in their paths, such as @home. It can be left out if the container has the
      archives of only one subvolume.

      Receives every snapshot of the chain that DIR's filesystem does not have yet, at its own path below DIR. To resume
      an interrupted restore, run the same command again. Needs root.
    `,
    examples: [
      [
        "The newest snapshot of the only subvolume in the container",
        "$0 restore --container-name backup --latest --target /mnt/restored",
      ],
      ["/home as it was on a day", "$0 restore --container-name backup /home --at 2026-11-23 --target /mnt/restored"],
      [
        "One snapshot, without those that it builds on",
        "$0 restore --container-name backup snapshots/home-1 --only --target /mnt/restored",
      ],
      [
        "Onto another machine",
        "$0 restore --container-name backup --latest --stdout | ssh host btrfs receive -C /mnt/restored",
      ],
    ],
  });

  protected override readonly narrates = true;
  target = textOption("target");
  latest = switchOption("latest");
  at = textOption("at");
  only = switchOption("only");
  writable = textOption("writable");
  forceDecompress = switchOption("forceDecompress");
  toStdout = switchOption("stdout");
  dryRun = switchOption("showChain");
  waitLock = textOption("waitLock");
  what = Option.String({ name: "WHAT", required: false });

  protected override async run(session: Session): Promise<number> {
    this.assertConsistent();
    const target = this.target === undefined ? null : await session.openTarget(this.target, this);
    if (this.writable !== undefined) await target?.assertFree(this.writable);
    const reading = await this.openReading(session);
    const selection = await readSelection(this, session);
    if (target === null) return await this.runWithoutTarget(selection, reading, session);
    const edges = { ...reading, target };
    const prepare = (): Promise<RestorePlan> =>
      prepareRestore(selection, edges, this.only ? "last" : "chain", session.signal);
    let plan = await prepare();
    if (!this.dryRun && (await this.keepOthersAway(plan.chain, reading.container.name, session)).waited)
      plan = await prepare();
    session.progress.stop();
    printPlan(plan, this.dryRun, session);
    for (const { path, reason } of plan.passedOver)
      session.log.warn(`${path} ${reason}: it does not count as the archived snapshot`);
    await this.warnOfRoom(plan, target, session);
    if (this.dryRun) return 0;
    const context = {
      watcher: watch(
        plan.steps.map(({ archive }) => archive),
        session,
      ),
      now: this.context.now,
    };
    const snapshot = await runRestore(plan, edges, context, session.signal);
    session.progress.stop();
    if (this.writable !== undefined) await target.makeWritable(snapshot, this.writable, session.signal);
    await this.printResult(plan, snapshot, target, session);
    return 0;
  }

  /** Prints what was restored, where it is, and what to do next. */
  private async printResult(
    plan: RestorePlan,
    snapshot: Snapshot,
    target: RestoreTarget,
    { output }: Session,
  ): Promise<void> {
    const directory = resolve(this.target ?? "");
    const { steps, scaffold } = plan;
    const received = steps.at(-1);
    const place = received === undefined ? await target.whereIs(snapshot) : join(directory, received.place);
    const removed = scaffold === null ? 0 : steps.length - 1;
    const writable = this.writable === undefined ? null : join(directory, this.writable);
    output.record({
      type: "summary",
      received: steps.length,
      removed,
      bytes: bytesOf(steps),
      path: snapshot.path,
      place,
      writable,
    });
    if (steps.length > 0) {
      const only = removed === 0 ? "" : `, ${count(removed, "snapshot")} that it builds on removed again (--only)`;
      output.line(`${count(steps.length, "archive")} received, ${formatBytes(bytesOf(steps))}${only}`);
    }
    output.line(`the snapshot is ${printable(place ?? snapshot.path)}, read-only`);
    if (writable !== null) output.line(`to work with: ${printable(writable)}, writable`);
    else
      output.line(
        `to work with it: btrfs subvolume snapshot ${printable(place ?? snapshot.path)} ${printable(directory)}/NAME`,
      );
  }

  /**
   * Takes the locks: no run may delete these archives during the restore, and a second restore would remove our
   * leftovers, as we would remove its.
   */
  private async keepOthersAway(archives: readonly Archive[], container: string, session: Session): Promise<Lock> {
    const sources = archives.map(({ source }) => source);
    return await session.lock({ container, sources, target: this.target, wait: this.waitLock });
  }

  /**
   * Warns where space may be short. It is no error, because the restored data may be larger or smaller than an archive:
   * either can be compressed.
   */
  private async warnOfRoom({ steps }: RestorePlan, target: RestoreTarget, { log }: Session): Promise<void> {
    const room = await target.room();
    if (bytesOf(steps) <= room) return;
    log.warn(
      `${formatBytes(bytesOf(steps))} to receive, but only ${formatBytes(room)} are free there: it will probably not fit`,
    );
  }

  protected override report(failure: BackupError, session: Session): number {
    const exitCode = super.report(failure, session);
    if (failure.code === "ARCHIVE_DAMAGED") {
      session.log.info(
        "the snapshots received before stay; `verify --read-data` reports which snapshots can be restored",
      );
    }
    if (failure.code === "ABORTED" && this.target !== undefined && !this.dryRun) {
      session.log.info("snapshots that were received stay; the same command receives the rest");
    }
    return exitCode;
  }

  private assertConsistent(): void {
    const refuse = (problem: string, hint: string): never => {
      throw new BackupError("USAGE", problem, { hint });
    };
    assertSelects(this);
    if (this.toStdout) {
      if (this.forceDecompress) refuse("--force-decompress is for --target", "give it to `btrfs receive` there");
      const contradiction = this.target !== undefined || this.writable !== undefined || this.json;
      if (contradiction) refuse("--stdout cannot be combined with --target, --writable or --json", "use one of them");
      const { stdout } = this.context;
      if (!this.dryRun && stdout.isTTY === true)
        refuse("a send stream cannot be shown on a terminal", "pipe it to `btrfs receive`");
      return;
    }
    if (this.target === undefined && !this.dryRun) refuse("no target given", "use --target DIR, a directory on btrfs");
  }

  private async runWithoutTarget(selection: Selection, reading: Reading, session: Session): Promise<number> {
    const chain = await findSelected(selection, reading, session.signal);
    session.progress.stop();
    const archives = this.only ? chain.slice(-1) : chain;
    if (this.dryRun) {
      printChain(chain, () => "", session);
      return 0;
    }
    await this.keepOthersAway(archives, reading.container.name, session);
    const context = { watcher: watch(archives, session, true), now: this.context.now };
    await writeStreams(archives, { reading, sink: this.context.stdout }, context, session.signal);
    return 0;
  }
}
