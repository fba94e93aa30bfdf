// Sends snapshots again in place of their archives, each as the difference to a better parent.

import { existsSync } from "node:fs";
import { Command, Option } from "clipanion";
import { BackupError, toBackupError } from "../errors.ts";
import { assertEncryptionKept } from "../operations/encryption.ts";
import { tryEncoding } from "../operations/encode.ts";
import { readArchives, type ArchiveView } from "../operations/inventory.ts";
import type { SnapshotSource } from "../operations/ports.ts";
import { runRebase, takeWholeInventory } from "../operations/rebase.ts";
import {
  bytesSent,
  type EstimatedStep,
  type StepProgress,
  type SyncEdges,
  type SyncOptions,
} from "../operations/sync-snapshot.ts";
import { estimateSteps } from "../operations/sync.ts";
import { allArchives, type Inventory } from "../plan/inventory.ts";
import type { Keeping } from "../plan/keeping.ts";
import { formatTime } from "../plan/key.ts";
import type { Archive, UploadStep, Uuid } from "../plan/model.ts";
import { afterRebase, planRebase } from "../plan/rebase.ts";
import { selectArchive, sortByAge } from "../plan/select.ts";
import { formatBytes, formatDuration, printable } from "../terminal/format.ts";
import { keepingBy, readKeeping, requireRules } from "./keep-options.ts";
import { findLocal } from "./local-names.ts";
import { SendOptions } from "./send-options.ts";
import type { Session } from "./session.ts";
import { summaryOf } from "./summaries.ts";
import { endsTheRun } from "../operations/ends-the-run.ts";

/** The archives to rebase of one subvolume, the oldest first, with what is at hand of it here. */
interface Group {
  readonly uuid: Uuid;
  readonly source: SnapshotSource;
  readonly archives: readonly Archive[];
}

export class RebaseCommand extends SendOptions {
  static override paths = [["rebase"]];
  static readonly exits = [0, 2, 3, 10, 11, 12, 13, 15, 75, 130];
  static override usage = Command.Usage({
    description: summaryOf("rebase"),
    details: `
      Sends a snapshot again, as the difference to the archive that the keep rules would choose today, and puts it in the
      place of its archive: so a line, in which each archive builds on the one before, becomes a ladder, and \`prune\` can
      delete what was kept only for the archives above it. The snapshot and its new parent must still be on this machine.
      \`prune\` suggests what is worth it.

      ARCHIVE is a path of its snapshot here; or, with paths in the configuration file, whatever \`restore\` takes. The new
      archive is stored beside the old one, which is deleted only then.
    `,
    examples: [
      ["See what would be sent", "$0 rebase /home/.snapshots/2026-11-01 --container-name backup -n"],
      ["Rebase it", '$0 rebase /home/.snapshots/2026-11-01 --container-name backup --keep "30d 8w 24m *y"'],
    ],
  });

  what = Option.Rest({ name: "ARCHIVE", required: 1 });

  protected override async run(session: Session): Promise<number> {
    const encoding = await tryEncoding(this.encodingOptions(), session.signal);
    const container = await session.openContainer(this.readTuning(session));
    const view = { container, identities: [], catalogue: await session.openCatalogue() };
    session.progress.start("looking through the container", null);
    const groups = await this.findGroups(view, session);
    session.progress.stop();
    const codes: number[] = [];
    for (const group of groups) {
      const { uuid } = group;
      const lock = this.planOnly
        ? null
        : await session.lock({ container: container.name, sources: [uuid], wait: this.waitLock });
      try {
        codes.push(await this.rebaseGroup(group, { view, encoding }, session));
      } finally {
        lock?.close();
      }
    }
    return Math.max(0, ...codes);
  }

  /** All of them are found before the first is sent: a typing mistake sends nothing. */
  private async findGroups(view: ArchiveView, session: Session): Promise<readonly Group[]> {
    const all = await readArchives("", view, session.signal);
    const groups = new Map<Uuid, { source: SnapshotSource; archives: Archive[] }>();
    for (const name of this.what) {
      const archive = selectArchive(all, { by: "name", name, local: await findLocal(name, session) });
      const group = groups.get(archive.source) ?? {
        source: await this.openSubvolume(name, archive, session),
        archives: [],
      };
      groups.set(archive.source, { ...group, archives: [...group.archives, archive] });
    }
    return [...groups].map(([uuid, { source, archives }]) => ({ uuid, source, archives: sortByAge(archives) }));
  }

  /** Opens the subvolume that an archived snapshot was taken of. @throws USAGE when it is not known where that is */
  private async openSubvolume(name: string, { source: uuid }: Archive, session: Session): Promise<SnapshotSource> {
    const candidates = [...this.context.settings.paths];
    if (existsSync(name)) {
      const { subvolumes, seenAt } = await (await session.openSource(name, null)).surroundings();
      const path = subvolumes.find((each) => each.uuid === uuid)?.path;
      const seen = path === undefined ? null : seenAt(path);
      if (seen !== null) candidates.unshift(seen);
    }
    for (const path of candidates) {
      const source = await session.openSource(path, this.parseSendProto());
      if ((await source.list(session.signal)).source.uuid === uuid) return source;
    }
    throw new BackupError("USAGE", `the subvolume that ${name} was taken of is not found on this machine`, {
      hint: "name the snapshot by its path here; its subvolume must be mounted",
    });
  }

  private async rebaseGroup(
    { uuid, source, archives }: Group,
    { view, encoding }: { readonly view: ArchiveView; readonly encoding: Awaited<ReturnType<typeof tryEncoding>> },
    session: Session,
  ): Promise<number> {
    const { signal } = session;
    const { container } = view;
    const local = await source.list(signal);
    const { path } = local.source;
    const keeping = await this.readKeeping(uuid, view, session);
    const { intent } = this.encodingOptions();
    const inventory = await takeWholeInventory(local, view, signal);
    await assertEncryptionKept({ intent, source: uuid, path }, { inventory, container }, signal);
    const { steps, refused } = planAll(archives, inventory, keeping, session);
    const ended = refused === 0 ? 0 : 3;
    if (steps.length === 0) return ended;
    const estimated = await estimateSteps(steps, source, signal);
    for (const each of estimated) printStep(each, session);
    if (this.planOnly || !(await this.agreed("send it?", session))) return ended;
    const options = { ...this.runOptions(), policy: this.readPolicy(), encoding };
    session.progress.expect(steps.length, null);
    for (const each of estimated) {
      const failure = await this.send(each, { edges: { source, container }, options }, session);
      // Later ones may build on it. Its old archive is still there, or the next run stores the new one.
      if (failure !== null) return failure;
    }
    session.output.line("`prune` deletes what nothing needs any more");
    return ended;
  }

  /** Returns an exit code; null when it is done. */
  private async send(
    estimated: EstimatedStep,
    { edges, options }: { readonly edges: SyncEdges; readonly options: SyncOptions },
    session: Session,
  ): Promise<number | null> {
    const { progress, output, signal, log } = session;
    const { step, estimate } = estimated;
    const { path } = step.snapshot;
    progress.start(printable(path), estimate?.bytes ?? null);
    const onProgress = (sent: StepProgress): void => progress.update(bytesSent(sent));
    try {
      const { stored, elapsedMs } = await runRebase(estimated, edges, { options, onProgress }, signal);
      progress.stop();
      const [before, bytes] = [step.replaces?.bytes ?? 0, stored?.bytes ?? 0];
      const size = `${formatBytes(bytes)} in ${formatDuration(elapsedMs)}, before ${formatBytes(before)}`;
      output.line(`rebased ${printable(path)}  ${size}`);
      output.record({ type: "receipt", ...toRecord(step), bytes, bytesBefore: before });
      return null;
    } catch (error) {
      const failure = toBackupError(error);
      progress.stop();
      if (endsTheRun(failure)) return this.report(failure, session, `${path}: `);
      log.error({ code: failure.code }, `${path} was not rebased: ${failure.message}`);
      return 3;
    }
  }

  private async readKeeping(source: Uuid, { container }: ArchiveView, session: Session): Promise<Keeping> {
    const { fullEvery, maxChain } = this;
    const typed = readKeeping(this);
    const rules = await requireRules(typed, { source, name: "this subvolume" }, container, session);
    return keepingBy(rules, typed.pinned, { fullEvery, maxChain, container });
  }
}

/** Plans one after the other, each as though those before it were done. */
function planAll(
  archives: readonly Archive[],
  inventory: Inventory,
  keeping: Keeping,
  { log }: Session,
): { readonly steps: readonly UploadStep[]; readonly refused: number } {
  const steps: UploadStep[] = [];
  let [current, refused] = [inventory, 0];
  for (const { key, path } of archives) {
    const archive = allArchives(current).find((each) => each.key === key);
    if (archive === undefined) continue;
    const plan = planRebase(archive, current, keeping);
    if ("refused" in plan) {
      log.warn(`${path} is not rebased: ${plan.refused}`);
      refused += 1;
      continue;
    }
    steps.push(plan.step);
    current = { ...current, archives: afterRebase(current.archives, plan.step) };
  }
  return { steps, refused };
}

function printStep({ step, estimate }: EstimatedStep, { output }: Session): void {
  const { snapshot, sendParent, reason, replaces } = step;
  const on = sendParent === null ? "full" : `on ${printable(sendParent.path)}`;
  const size = estimate === null ? "" : `, ${estimate.exact ? "" : "at most "}${formatBytes(estimate.bytes)}`;
  const why = reason === undefined ? "" : ` (${reason})`;
  output.line(
    `${printable(snapshot.path)}: ${on}${why}${size} to send, ${formatBytes(replaces?.bytes ?? 0)} to be replaced`,
  );
  output.record({ type: "step", ...toRecord(step), estimate, bytesBefore: replaces?.bytes ?? 0 });
}

function toRecord({ key, snapshot, sendParent, reason }: UploadStep): Record<string, unknown> {
  return {
    key,
    path: snapshot.path,
    otime: formatTime(snapshot.otime),
    sendParent: sendParent === null ? null : { path: sendParent.path, uuid: sendParent.uuid },
    reason: reason ?? null,
  };
}
