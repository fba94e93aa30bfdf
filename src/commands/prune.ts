// `prune`: deletes the archives that no keep rule keeps, after it has shown its plan.

import { existsSync } from "node:fs";
import { Command, Option } from "clipanion";
import { switchOption, textOption } from "./options.ts";
import { BackupError } from "../errors.ts";
import { readArchives } from "../operations/inventory.ts";
import { storeKeepRules } from "../operations/keep-rules.ts";
import { hasGrown, runPrune, takePruneInventory, toInventory, type PruneInventory } from "../operations/prune.ts";
import type { LocalSnapshots } from "../operations/ports.ts";
import type { Reading } from "../operations/read-archive.ts";
import { openCalendar } from "../plan/keep.ts";
import type { ZonedRules } from "../plan/keep-object.ts";
import { keyPrefix } from "../plan/key.ts";
import { originOf, streamIdentity, type Uuid } from "../plan/model.ts";
import { planPrune, type PrunePlan, type PruneRequest } from "../plan/prune.ts";
import { suggestRebases } from "../plan/rebase.ts";
import { selectArchive, selectSource } from "../plan/select.ts";
import { parseDuration } from "../config/parse.ts";
import { confirm } from "../terminal/prompt.ts";
import { ReadCommand } from "./command.ts";
import { nowOf, readKeeping, requireRules, withKeepRules, type TypedKeeping } from "./keep-options.ts";
import { printLeftovers, removeLeftovers } from "./leftovers.ts";
import { findLocal } from "./local-names.ts";
import { openOrigins } from "./origins.ts";
import { printOutcome, printPrunePlan, printSuggested, watchPrune } from "./prune-report.ts";
import type { Session } from "./session.ts";
import { summaryOf } from "./summaries.ts";

/** One subvolume whose archives are pruned, here or elsewhere. */
interface Pruned {
  readonly name: string;
  readonly source: Uuid;
  /** Null where it is not on this machine. */
  readonly local: LocalSnapshots | null;
}

interface Planned {
  readonly inventory: PruneInventory;
  readonly request: PruneRequest;
  readonly plan: PrunePlan;
  readonly rules: ZonedRules;
}

export class PruneCommand extends withKeepRules(ReadCommand) {
  static override paths = [["prune"]];
  static readonly exits = [0, 2, 3, 10, 11, 12, 13, 15, 75, 130];
  static override usage = Command.Usage({
    description: summaryOf("prune"),
    details: `
      Shows for each archive of PATH's subvolume whether it is kept, and why. It deletes only with --confirm, or after a yes
      on a terminal. PATH is a subvolume here, or what \`restore --latest\` takes, such as @home. Without it, prune uses the paths
      of the configuration file's target.

      The rules come from the options, the configuration file, or what an earlier prune left in the container. Whatever they
      say, it keeps the newest archive, the newest whose snapshot is here, pinned ones, those whose date or contents are
      unknown, and all that kept ones build on. The applied rules are left in the container, and \`sync\` follows them: what was
      pruned is not sent again.
    `,
    examples: [
      ["Show what would be deleted", '$0 prune /home --container-name backup --keep "30d 8w 24m *y"'],
      ["Delete it, at night", '$0 prune /home --container-name backup --keep "30d 8w 24m *y" --confirm'],
      ["Remove what interrupted runs have left", "$0 prune --leftovers --container-name backup"],
    ],
  });

  protected override readonly narrates = true;
  confirmed = switchOption("confirm");
  dryRun = switchOption("showPrune");
  leftovers = switchOption("leftovers");
  leftoverAge = textOption("leftoverAgeToPrune");
  received = switchOption("received");
  waitLock = textOption("waitLock");
  subvolumes = Option.Rest({ name: "PATH" });

  protected override async run(session: Session): Promise<number> {
    const keeping = readKeeping(this);
    const olderThanMs = parseDuration(this.leftoverAge, "--leftover-age");
    const paths = this.subvolumes.length > 0 ? this.subvolumes : this.context.settings.paths;
    if (paths.length === 0 && !this.leftovers)
      throw new BackupError("USAGE", "no PATH given", {
        hint: "use prune PATH, with the subvolume whose archives to prune",
      });
    const reading = await this.openReading(session);
    const found = await this.findSources(paths, reading, session);
    session.progress.stop();
    if (this.leftovers) return await this.clear(found, { olderThanMs }, reading, session);
    const codes: number[] = [];
    for (const pruned of found) codes.push(await this.pruneOne(pruned, keeping, reading, session));
    return Math.max(0, ...codes);
  }

  private async findSources(paths: readonly string[], reading: Reading, session: Session): Promise<Pruned[]> {
    const found: Pruned[] = [];
    for (const name of paths) {
      if (existsSync(name)) {
        const origins = await openOrigins(name, { received: this.received, sendProto: null }, session);
        for (const { name: each, local } of await origins.list(() => Promise.resolve(reading)))
          found.push({ name: each, source: local.source.uuid, local });
        continue;
      }
      const archives = await readArchives("", reading, session.signal);
      found.push({ name, source: selectSource(archives, { text: name, local: null }), local: null });
    }
    return found;
  }

  private async clear(
    found: readonly Pruned[],
    { olderThanMs }: { readonly olderThanMs: number },
    { container }: Reading,
    session: Session,
  ): Promise<number> {
    const clear = this.dryRun ? printLeftovers : removeLeftovers;
    for (const prefix of found.length === 0 ? [""] : found.map(({ source }) => keyPrefix(source)))
      await clear({ prefix, olderThanMs }, container, session);
    return 0;
  }

  private async pruneOne(pruned: Pruned, keeping: TypedKeeping, reading: Reading, session: Session): Promise<number> {
    const { name, source } = pruned;
    const { container } = reading;
    const lock = await session.lock({ container: container.name, sources: [source], wait: this.waitLock });
    try {
      const planned = await this.plan(pruned, keeping, reading, session);
      printPrunePlan(name, planned.plan, session);
      await this.suggest(pruned, planned, session);
      const isAgreed = planned.plan.deletions.length > 0 && (await this.agreed(session));
      if (!isAgreed) return 0;
      // Another machine may have archived on top of what was planned for deletion, while somebody read the plan.
      if (await hasGrown([source], planned.inventory, container, session.signal))
        throw new BackupError("LOCKED", `archives of ${name} have appeared since the plan was made`, {
          hint: "prune again, when no other machine archives it",
        });
      // First the rules, so that no sync sends again what is deleted.
      await storeKeepRules(source, planned.rules, container, session.signal);
      const edges = { container, watcher: watchPrune(session) };
      const outcome = await runPrune(planned.plan.deletions, planned.inventory, edges, session.signal);
      printOutcome(name, outcome, session);
      if (outcome.stoppedBy !== null) return this.report(outcome.stoppedBy, session);
      return outcome.failures.length > 0 ? 3 : 0;
    } finally {
      lock.close();
    }
  }

  private async plan(
    { name, source, local }: Pruned,
    keeping: TypedKeeping,
    reading: Reading,
    session: Session,
  ): Promise<Planned> {
    const rules = await requireRules(keeping, { source, name }, reading.container, session);
    session.progress.start("looking through the container", null);
    const inventory = await takePruneInventory(local === null ? [] : [local], reading, session.signal);
    const pinned = new Set(inventory.pinned);
    for (const text of keeping.pinned) {
      const selection = { by: "name", name: text, local: await findLocal(text, session) } as const;
      pinned.add(selectArchive(inventory.archives, selection).key);
    }
    session.progress.stop();
    const request: PruneRequest = {
      archives: inventory.archives,
      sources: new Set([source]),
      rules: rules.rules,
      calendar: openCalendar(rules.timeZone),
      now: nowOf(reading.container),
      local: (local?.snapshots ?? []).flatMap((snapshot) => [streamIdentity(snapshot), originOf(snapshot)]),
      pinned,
    };
    return { inventory, request, plan: planPrune(request), rules };
  }

  /** Names rebases after which more can be deleted; for those, snapshots must be here. */
  private async suggest(
    { name, local }: Pruned,
    { inventory: { archives }, request, plan }: Planned,
    session: Session,
  ): Promise<void> {
    if (local === null || plan.ancestors.count === 0) return;
    const suggested = suggestRebases(plan, request, toInventory(local, archives));
    if (suggested.length === 0) return;
    const { seenAt } = await (await session.openSource(name, null)).surroundings();
    printSuggested(suggested, seenAt, session);
  }

  /** Without --confirm, only somebody who has seen the plan can agree to it. */
  private async agreed(session: Session): Promise<boolean> {
    const { log, signal } = session;
    if (this.dryRun) return false;
    if (this.confirmed) return true;
    const terminal = this.askAt(session);
    if (terminal === null) {
      log.info("nothing was deleted: use --confirm to delete what the plan shows");
      return false;
    }
    const agreed = await confirm("delete them?", { ...terminal, byDefault: false }, signal);
    if (!agreed) log.info("nothing was deleted");
    return agreed;
  }
}
