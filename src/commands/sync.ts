import { Command } from "clipanion";
import { BackupError, toBackupError } from "../errors.ts";
import type { Container, LocalSnapshots, Sender } from "../operations/ports.ts";
import { assertEncryptionKept } from "../operations/encryption.ts";
import { tryEncoding, type EncodingOptions } from "../operations/encode.ts";
import type { EstimatedStep } from "../operations/sync-snapshot.ts";
import type { Looking } from "../operations/inventory.ts";
import { estimateSteps, prepareSync, runSync } from "../operations/sync.ts";
import type { TransferPolicy } from "../plan/layout.ts";
import type { Inventory, SendProto, UploadStep } from "../plan/model.ts";
import type { SyncPlan, SyncRequest } from "../plan/sync.ts";
import type { Form } from "./encoding.ts";
import { count } from "../terminal/format.ts";
import { confirm } from "../terminal/prompt.ts";
import { parseDuration } from "../config/parse.ts";
import type { House } from "./session.ts";
import { UNENCRYPTED } from "./encoding.ts";
import { LEFTOVER_AGE, tidy } from "./leftovers.ts";
import { endFull, lookAtQuotas } from "./sync-quotas.ts";
import { openOrigins, type Origin, type Origins } from "./origins.ts";
import { NOTHING_KNOWN, openReporting, readState, type Reporting } from "./monitoring.ts";
import { joinEnded, stopsAll, sumCodes, type Ended } from "./sync-ended.ts";
import { showNothing, showPlan, showSummary, sumEstimates, tellFindings, watch } from "./sync-report.ts";
import { SyncOptions } from "./sync-options.ts";
import { summaryOf } from "./summaries.ts";

/** What holds for every subvolume of a run. */
interface Settings {
  readonly policy: TransferPolicy;
  readonly sendProto: SendProto | null;
  readonly encoding: EncodingOptions;
  /** How old what was left has to be before it is removed. */
  readonly leftoverAgeMs: number;
  /** The container and what is known of it, opened when it is first needed. */
  readonly open: () => Promise<Store>;
  readonly reporting: Reporting;
}

interface Store {
  readonly container: Container;
  readonly looking: Looking;
}

interface LocalEdges extends Store {
  readonly local: LocalSnapshots;
  readonly source: Sender;
}

/** A plan that somebody has agreed to. */
interface Agreed {
  readonly inventory: Inventory;
  readonly plan: SyncPlan;
  readonly steps: readonly EstimatedStep[];
  readonly request: SyncRequest;
  readonly form: Form;
  /** How the run ends when nothing fails. */
  readonly ended: Ended;
}

export class SyncCommand extends SyncOptions {
  static override paths = [["sync"], Command.Default];
  static readonly exits: readonly number[] = [0, 2, 3, 10, 11, 13, 15, 75, 130];
  static override usage = Command.Usage({
    description: summaryOf("sync"),
    details: `
      Finds the read-only snapshots of PATH's subvolume wherever they lie on its filesystem, and sends each one that is
      not archived yet as the difference to the one before it; the first one whole. On a terminal the plan is shown and
      asked about once; elsewhere it is carried out. A PATH without read-only snapshots is a failure (exit code 2),
      unless --allow-empty is given.

      With --received, PATH is a backup disk or a directory of it: each chain of snapshots that were received there is
      archived on its own.

      Without a PATH, the paths of the configuration file's target are meant. Each of several subvolumes has its own plan, and one that fails does not keep the others from being archived.
    `,
    examples: [
      ["Archive what is new of /home", "$0 sync /home --container-name backup"],
      ["Several subvolumes, each on its own", "$0 sync /home /srv --container-name backup"],
      ["The snapshots that were received on a backup disk", "$0 sync /mnt/disk --received --container-name backup"],
      ["See what would be sent, quickly", "$0 sync /home --container-name backup --plan"],
    ],
  });

  protected override async run(house: House): Promise<number> {
    const silent = this.dryRun || this.planOnly;
    const flags = silent ? { metricsFile: undefined, pingUrl: undefined } : this;
    const reporting = await openReporting(flags, house);
    reporting.start();
    if (this.dryRun && !this.planOnly)
      house.log.info("dry run: reads all that would be sent, and stores nothing; -n shows the plan alone");
    const code = await this.syncAll(reporting, house).catch((error: unknown) =>
      this.report(toBackupError(error), house),
    );
    await reporting.end(code);
    return code;
  }

  private async syncAll(reporting: Reporting, house: House): Promise<number> {
    const settings = await this.readSettings(house);
    const paths = [...new Set(this.subvolumes.length > 0 ? this.subvolumes : this.context.settings.paths)];
    if (paths.length === 0)
      throw new BackupError("USAGE", "no subvolume is named", {
        hint: "name the subvolume whose snapshots are to be archived: sync PATH",
      });
    const codes: number[] = [];
    for (const path of paths) {
      const started = this.context.now();
      const ended = await this.syncOne(path, { ...settings, reporting }, house).catch((error: unknown): Ended => {
        const failure = toBackupError(error);
        const code = this.report(failure, house, paths.length === 1 ? "" : `${path}: `);
        return { code, stoppedBy: failure };
      });
      codes.push(ended.code);
      reporting.note({
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

  private async readSettings(house: House): Promise<Omit<Settings, "reporting">> {
    const tuning = this.readTuning(house);
    const { encryption, ...wishes } = this.encodingConfig();
    const leftoverAgeMs = parseDuration(this.leftoverAge, "--leftover-age");
    const settings = { policy: this.readPolicy(), sendProto: this.parseSendProto(), leftoverAgeMs };
    const encoding = await tryEncoding(wishes, house.signal);
    let store: Promise<Store> | null = null;
    const openOnce = async (): Promise<Store> => {
      const container = await house.openContainer(tuning);
      if (encryption === "undecided") house.log.warn(UNENCRYPTED);
      const [catalogue, proofs] = await Promise.all([house.openCatalogue(), house.openProofs()]);
      return { container, looking: { container, identities: [], catalogue, proofs: proofs?.all ?? [] } };
    };
    return { ...settings, encoding, open: () => (store ??= openOnce()) };
  }

  /** One PATH; each origin of its snapshots has a plan and receipts of its own. */
  private async syncOne(path: string, settings: Settings, house: House): Promise<Ended> {
    const { received, waitLock: wait } = this;
    const origins = await openOrigins(path, { received, sendProto: settings.sendProto }, house);
    const list = (): Promise<readonly Origin[]> => origins.list(async () => (await settings.open()).looking);
    const found = await list();
    if (found.every(({ local }) => local.snapshots.length === 0)) return await this.endEmpty(origins, house);
    const store = await settings.open();
    const edges = { ...store, source: origins.sender };
    if (this.dryRun || this.planOnly) return await this.syncEach(found, edges, settings, house);
    const sources = found.map(({ local }) => local.source.uuid);
    const lock = await house.lock({ container: store.container.name, sources, wait });
    try {
      return await this.syncEach(lock.waited ? await list() : found, edges, settings, house);
    } finally {
      lock.close();
    }
  }

  private async syncEach(
    origins: readonly Origin[],
    edges: Omit<LocalEdges, "local">,
    settings: Settings,
    house: House,
  ): Promise<Ended> {
    const wantsState = settings.reporting.wantsState && !this.dryRun && !this.planOnly;
    const all: Ended[] = [];
    for (const { name, local } of origins) {
      const ended = await this.syncLocal(name, { ...edges, local }, settings, house);
      const looking = { ...edges.looking, relies: true };
      all.push(wantsState ? { ...ended, state: await readState(local, looking, house.signal) } : ended);
      if (ended.stoppedBy !== null) break;
    }
    return joinEnded(all);
  }

  /** Mostly a path that does not mean what it was typed for, which must not stay green for ever. */
  private async endEmpty(origins: Origins, house: House): Promise<Ended> {
    const failure = await origins.explainNone("sync");
    const state = { ...NOTHING_KNOWN, pendingSnapshots: 0 };
    if (!this.allowEmpty) return { code: this.report(failure, house), stoppedBy: null, state };
    house.log.info(`nothing to do: ${failure.message}`);
    return { code: 0, stoppedBy: null, state };
  }

  private async syncLocal(path: string, edges: LocalEdges, settings: Settings, house: House): Promise<Ended> {
    const { container, source, local } = edges;
    const { encoding, leftoverAgeMs: olderThanMs } = settings;
    const request = { full: this.full, rearchive: this.rearchive };
    const { inventory, plan } = await prepareSync(local, edges.looking, request, house.signal);
    const incomplete = { code: tellFindings(plan.findings, house) ? 3 : 0, stoppedBy: null };
    if (plan.steps.length === 0) {
      showNothing(path, { kept: plan.kept.length, of: local.snapshots.length, complete: incomplete.code === 0 }, house);
      // To look for leftovers takes the store minutes where there are very many segments: not for nothing every night.
      const wantsTidy = this.leftoverAge !== LEFTOVER_AGE && !this.dryRun && !this.planOnly;
      if (wantsTidy) await tidy(inventory, { awaited: new Set(), olderThanMs }, container, house);
      return incomplete;
    }
    await this.checkEncryption(path, edges, house);
    const steps = await this.planSteps(plan.steps, source, house);
    const form = { ...encoding, ...source, chosen: this.sendProto === undefined };
    showPlan(path, { inventory, steps, kept: plan.kept.length, form }, house);
    if (this.planOnly) return incomplete;
    if (!(await this.agreed(house))) return { code: 0, stoppedBy: null };
    return await this.carryOut(path, { inventory, plan, steps, request, form, ended: incomplete }, edges, {
      settings,
      house,
    });
  }

  private async carryOut(
    path: string,
    { inventory, plan, steps, request, form, ended }: Agreed,
    edges: LocalEdges,
    { settings, house }: { readonly settings: Settings; readonly house: House },
  ): Promise<Ended> {
    const { container, local } = edges;
    const { policy, encoding, leftoverAgeMs: olderThanMs } = settings;
    const tidyUp = (awaited: readonly UploadStep[]): Promise<void> =>
      tidy(inventory, { awaited: new Set(awaited.map(({ key }) => key)), olderThanMs }, container, house);
    // What is removed may be all the room there is.
    const makeRoom = (): Promise<void> => tidyUp(plan.steps);
    const full = this.dryRun ? null : await lookAtQuotas({ steps, container: container.name }, makeRoom, house);
    const summary = { dryRun: this.dryRun, of: local.snapshots.length, kept: plan.kept.length };
    if (full !== null) return endFull(path, full, { ...summary, untried: plan.steps }, house);
    house.progress.expect(steps.length, sumEstimates(steps)?.bytes ?? null);
    const options = { ...this.runOptions(), policy, encoding };
    const handling = { options, watcher: watch(house, form, this.dryRun) };
    const outcome = await runSync({ steps, inventory, request }, edges, handling, house.signal);
    house.progress.stop();
    showSummary(path, { ...summary, outcome }, house);
    const { stoppedBy, failures, receipts } = outcome;
    if (!this.dryRun && stoppedBy === null) await tidyUp(failures.map(({ step }) => step));
    if (stoppedBy !== null) return { code: stoppedBy.exitCode, stoppedBy, receipts };
    return failures.length > 0 ? { code: 3, stoppedBy, receipts } : { ...ended, receipts };
  }

  private async checkEncryption(path: string, { local, container }: LocalEdges, house: House): Promise<void> {
    const { encryption: intent } = this.encodingConfig();
    const begun = await assertEncryptionKept({ intent, source: local.source.uuid, path }, container, house.signal);
    if (begun !== null) house.log.warn(begun);
  }

  private async planSteps(steps: readonly UploadStep[], source: Sender, house: House): Promise<EstimatedStep[]> {
    if (!this.estimate) return steps.map((step) => ({ step, estimate: null }));
    house.screen.status(`estimating ${count(steps.length, "stream")}…`);
    const estimated = await estimateSteps(steps, source, house.signal);
    house.screen.status(null);
    return estimated;
  }

  /** Asks only where the plan is seen and somebody can answer: stdin, stdout and stderr are terminals. */
  private async agreed({ screen, output, signal, log }: House): Promise<boolean> {
    const { stdin, stdout, stderr } = this.context;
    const isSeen = screen.interactive && stdout.isTTY === true && !output.json;
    if (this.yes || !isSeen || !("isTTY" in stdin && stdin.isTTY === true)) return true;
    const question = this.dryRun ? "go through it without storing anything?" : "send it?";
    const agreed = await confirm(question, { input: stdin, output: stderr }, signal);
    if (!agreed) log.info("nothing was sent");
    return agreed;
  }
}
