// `sync`: archives the snapshots of a subvolume that are not archived yet. Read `run` first: it is the story.

import { Command } from "clipanion";
import { BackupError, toBackupError } from "../errors.ts";
import type { Origin } from "../operations/origins.ts";
import type { Sender } from "../operations/ports.ts";
import { assertEncryptionKept } from "../operations/encryption.ts";
import { tryEncoding } from "../operations/encode.ts";
import type { EstimatedStep } from "../operations/sync-snapshot.ts";
import { estimateSteps, prepareSync, runSync } from "../operations/sync.ts";
import type { Inventory } from "../plan/inventory.ts";
import type { UploadStep } from "../plan/model.ts";
import { count } from "../terminal/format.ts";
import { parseDuration } from "../config/parse.ts";
import type { Session } from "./session.ts";
import { UNENCRYPTED } from "./encoding.ts";
import { removeOldLeftovers } from "./leftovers.ts";
import { endFull, checkQuotas } from "./sync-quotas.ts";
import { openOrigins, type Origins } from "./origins.ts";
import { NOTHING_KNOWN, openReporting, readState, type Reporting } from "./monitoring.ts";
import { joinEnded, stopsAll, sumCodes, type SubvolumeOutcome } from "./sync-ended.ts";
import { printNothingToDo, printPlan, printSummary, sumEstimates, reportFindings, watch } from "./sync-report.ts";
import { readKeeping } from "./keep-options.ts";
import { SyncOptions } from "./sync-options.ts";
import { summaryOf } from "./summaries.ts";
import { options } from "../config/options.ts";
import type { Agreed, LocalEdges, Settings, Store } from "./sync-run.ts";

export class SyncCommand extends SyncOptions {
  static override paths = [["sync"], Command.Default];
  static readonly exits: readonly number[] = [0, 2, 3, 10, 11, 13, 15, 75, 130];
  static override usage = Command.Usage({
    description: summaryOf("sync"),
    details: `
      Finds the read-only snapshots of PATH's subvolume wherever they are on its filesystem, and sends each one that is
      not archived yet: the first one in full, the others as incremental streams. On a terminal it shows the plan and
      asks once; elsewhere it carries the plan out. A PATH without read-only snapshots is an error (exit code 2), unless
      --allow-empty is given.

      With --received, PATH is a backup disk or a directory of it: each chain of snapshots that were received there is
      archived on its own.

      Without a PATH it uses the paths of the configuration file's target. Each of several subvolumes has its own plan; if
      one fails, the others are still archived.
    `,
    examples: [
      ["Archive the new snapshots of /home", "$0 sync /home --container-name backup"],
      ["Several subvolumes, each with its own plan", "$0 sync /home /srv --container-name backup"],
      ["Snapshots that were received on a backup disk", "$0 sync /mnt/disk --received --container-name backup"],
      ["Show what would be sent, without reading file data", "$0 sync /home --container-name backup --plan"],
    ],
  });

  /** Whether the user knows that archives are not encrypted: once is enough for several subvolumes. */
  private hasWarned = false;

  protected override async run(session: Session): Promise<number> {
    const silent = this.dryRun || this.planOnly;
    const flags = silent ? { metricsFile: undefined, pingUrl: undefined } : this;
    const reporting = await openReporting(flags, session);
    reporting.start();
    if (this.dryRun && !this.planOnly)
      session.log.info("dry run: reads everything that would be sent, and stores nothing; -n only shows the plan");
    const code = await this.syncAll(reporting, session).catch((error: unknown) =>
      this.report(toBackupError(error), session),
    );
    await reporting.end(code);
    return code;
  }

  private async syncAll(reporting: Reporting, session: Session): Promise<number> {
    const settings = await this.readSettings(session);
    const paths = [...new Set(this.subvolumes.length > 0 ? this.subvolumes : this.context.settings.paths)];
    if (paths.length === 0)
      throw new BackupError("USAGE", "no PATH given", {
        hint: "use sync PATH, with the subvolume whose snapshots to archive",
      });
    const codes: number[] = [];
    for (const path of paths) {
      const started = this.context.now();
      const ended = await this.syncOne(path, { ...settings, reporting }, session).catch(
        (error: unknown): SubvolumeOutcome => {
          const failure = toBackupError(error);
          const code = this.report(failure, session, paths.length === 1 ? "" : `${path}: `);
          return { code, stoppedBy: failure };
        },
      );
      codes.push(ended.code);
      reporting.record({
        path,
        container: this.containerName ?? "",
        exitCode: ended.code,
        durationMs: this.context.now() - started,
        receipts: ended.receipts ?? [],
        state: ended.state ?? null,
      });
      if (ended.stoppedBy !== null && stopsAll(ended.stoppedBy)) return ended.code;
    }
    return sumCodes(codes);
  }

  private async readSettings(session: Session): Promise<Omit<Settings, "reporting">> {
    const tuning = this.readTuning(session);
    const leftoverAgeMs = parseDuration(this.leftoverAge, "--leftover-age");
    const keeping = readKeeping(this);
    const settings = { policy: this.readPolicy(), sendProto: this.parseSendProto(), leftoverAgeMs, keeping };
    const encoding = await tryEncoding(this.encodingOptions(), session.signal);
    let store: Promise<Store> | null = null;
    const openOnce = async (): Promise<Store> => {
      const container = await session.openContainer(tuning);
      const [catalogue, proofs] = await Promise.all([session.openCatalogue(), session.openProofs()]);
      const view = { container, identities: [], catalogue, proofs: proofs?.all ?? [], relies: this.planOnly };
      return { container, view };
    };
    return { ...settings, encoding, open: () => (store ??= openOnce()) };
  }

  /** Syncs one PATH; each origin of its snapshots has its own plan and receipts. */
  private async syncOne(path: string, settings: Settings, session: Session): Promise<SubvolumeOutcome> {
    const { received, waitLock: wait } = this;
    const origins = await openOrigins(path, { received, sendProto: settings.sendProto }, session);
    const list = (): Promise<readonly Origin[]> => origins.list(async () => (await settings.open()).view);
    const found = await list();
    if (found.every(({ local }) => local.snapshots.length === 0)) return await this.endEmpty(origins, session);
    const { container, view } = await settings.open();
    const onlyLooks = this.dryRun || this.planOnly;
    const sources = found.map(({ local }) => local.source.uuid);
    const lock = onlyLooks ? null : await session.lock({ container: container.name, sources, wait });
    const all: SubvolumeOutcome[] = [];
    try {
      for (const { name, local } of lock?.waited === true ? await list() : found) {
        const request = await this.readRequest(local.source.uuid, { container, ...settings }, session);
        const edges = { container, view, source: origins.sender, local, request };
        const ended = await this.syncLocal(name, edges, settings, session);
        const wantsState = settings.reporting.wantsState && !onlyLooks;
        const state = wantsState
          ? await readState(local, { ...view, relies: true, keeping: request.keeping ?? null }, session.signal)
          : null;
        all.push({ ...ended, state });
        if (ended.stoppedBy !== null) break;
      }
      return joinEnded(all);
    } finally {
      lock?.close();
    }
  }

  /** Usually the path does not mean what the user typed it for; such a job must not succeed forever. */
  private async endEmpty(origins: Origins, session: Session): Promise<SubvolumeOutcome> {
    const failure = await origins.explainNone("sync");
    const state = { ...NOTHING_KNOWN, pendingSnapshots: 0 };
    if (!this.allowEmpty) return { code: this.report(failure, session), stoppedBy: null, state };
    session.log.info(`nothing to do: ${failure.message}`);
    return { code: 0, stoppedBy: null, state };
  }

  private async syncLocal(
    path: string,
    edges: LocalEdges,
    settings: Settings,
    session: Session,
  ): Promise<SubvolumeOutcome> {
    const { container, source, local, request } = edges;
    const { encoding, leftoverAgeMs: olderThanMs } = settings;
    const { inventory, plan } = await prepareSync(local, edges.view, request, session.signal);
    const incomplete = { code: reportFindings(plan.findings, session) ? 3 : 0, stoppedBy: null };
    if (plan.steps.length === 0) {
      printNothingToDo(
        path,
        { kept: plan.kept.length, of: local.snapshots.length, complete: incomplete.code === 0, notKept: plan.notKept },
        session,
      );
      // The store needs minutes to look for leftovers where there are very many segments, so a run with nothing to do
      // skips it.
      const removesLeftovers = this.leftoverAge !== options.leftoverAge.default && !this.dryRun && !this.planOnly;
      if (removesLeftovers)
        await removeOldLeftovers(inventory, { awaited: new Set(), olderThanMs }, container, session);
      return incomplete;
    }
    await this.checkEncryption(path, { ...edges, inventory }, session);
    const steps = await this.planSteps(plan.steps, source, session);
    const form = { ...encoding, ...source, chosen: this.sendProto === undefined };
    printPlan(path, { inventory, steps, plan, form }, session);
    if (this.planOnly) return incomplete;
    const question = this.dryRun ? "go through it without storing anything?" : "send it?";
    if (!(await this.agreed(question, session))) return { code: 0, stoppedBy: null };
    return await this.carryOut(path, { inventory, plan, steps, form, ended: incomplete }, edges, { settings, session });
  }

  private async carryOut(
    path: string,
    { inventory, plan, steps, form, ended }: Agreed,
    edges: LocalEdges,
    { settings, session }: { readonly settings: Settings; readonly session: Session },
  ): Promise<SubvolumeOutcome> {
    const { container, local, request } = edges;
    const { policy, encoding, leftoverAgeMs: olderThanMs } = settings;
    const removeLeftovers = (awaited: readonly UploadStep[]): Promise<void> =>
      removeOldLeftovers(
        inventory,
        { awaited: new Set(awaited.map(({ key }) => key)), olderThanMs },
        container,
        session,
      );
    // Removing leftovers may free the only room there is.
    const makeRoom = (): Promise<void> => removeLeftovers(plan.steps);
    const full = this.dryRun ? null : await checkQuotas({ steps, container: container.name }, makeRoom, session);
    const summary = { dryRun: this.dryRun, of: local.snapshots.length - plan.notKept.length, kept: plan.kept.length };
    if (full !== null) return endFull(path, full, { ...summary, untried: plan.steps }, session);
    session.progress.expect(steps.length, sumEstimates(steps)?.bytes ?? null);
    const options = { ...this.runOptions(), policy, encoding };
    const handling = { options, watcher: watch(session, form, this.dryRun) };
    const outcome = await runSync({ steps, inventory, request }, edges, handling, session.signal);
    session.progress.stop();
    printSummary(path, { ...summary, outcome }, session);
    const { stoppedBy, failures, receipts } = outcome;
    if (!this.dryRun && stoppedBy === null) await removeLeftovers(failures.map(({ step }) => step));
    if (stoppedBy !== null) return { code: stoppedBy.exitCode, stoppedBy, receipts };
    return failures.length > 0 ? { code: 3, stoppedBy, receipts } : { ...ended, receipts };
  }

  private async checkEncryption(
    path: string,
    { inventory, container }: LocalEdges & { readonly inventory: Inventory },
    session: Session,
  ): Promise<void> {
    const question = { intent: this.encodingOptions().intent, source: inventory.source.uuid, path };
    const begun = await assertEncryptionKept(question, { inventory, container }, session.signal);
    if (begun !== null) session.log.warn(begun);
    if (question.intent === "undecided" && !this.hasWarned) session.log.warn(UNENCRYPTED);
    this.hasWarned = true;
  }

  private async planSteps(steps: readonly UploadStep[], source: Sender, session: Session): Promise<EstimatedStep[]> {
    if (!this.estimate) return steps.map((step) => ({ step, estimate: null }));
    session.screen.status(`estimating ${count(steps.length, "stream")}…`);
    const estimated = await estimateSteps(steps, source, session.signal);
    session.screen.status(null);
    return estimated;
  }
}
