// `verify`: finds damaged and missing archives, and sets the exit code accordingly.

import { randomInt } from "node:crypto";
import { existsSync } from "node:fs";
import { Command } from "clipanion";
import { BackupError, describeWriteError } from "../errors.ts";
import type { Reading } from "../operations/read-archive.ts";
import { compareWithLocal, findIncomparable } from "../operations/compare.ts";
import type { Sender } from "../operations/ports.ts";
import { describeUnproven, findChanged, proveUnchanged } from "../operations/unchanged.ts";
import { readArchives } from "../operations/inventory.ts";
import { survey } from "../operations/survey.ts";
import { indexArchives, withAncestors } from "../plan/chain.ts";
import { keyPrefix } from "../plan/key.ts";
import { sumBytes, type Archive, type Proof, type Uuid } from "../plan/model.ts";
import { selectSource } from "../plan/select.ts";
import { keysOf } from "../plan/standing.ts";
import { chooseSubset } from "../plan/subset.ts";
import { count, formatBytes, printable } from "../terminal/format.ts";
import { parseDuration, parseSubset } from "../config/parse.ts";
import type { Session } from "./session.ts";
import { openOrigins, type Origins } from "./origins.ts";
import { removeLeftovers, printLeftovers } from "./leftovers.ts";
import { printSummary } from "./verify-summary.ts";
import { summaryOf } from "./summaries.ts";
import { VerifyOptions } from "./verify-options.ts";
import { drill, findDrill, type ArchivedSnapshot } from "../operations/drill.ts";
import { doubtNewest, judge, notCompared, type Damage } from "../plan/damage.ts";
import type { Finding } from "../plan/finding.ts";
import { narrow, noArchiveOf, openContext, readChosen, type Local, type VerifyRun } from "./verify-run.ts";
import { reportAll } from "./verify-report.ts";

const exits = { well: 0, "not compared": 3, "not opened": 12, damaged: 14 } as const;

export class VerifyCommand extends VerifyOptions {
  static override paths = [["verify"]];
  static readonly exits = [0, 2, 3, 10, 11, 12, 13, 14, 15, 75, 130];
  static override usage = Command.Usage({
    description: summaryOf("verify"),
    details: `
      Without options it is quick: it checks the chain, sizes, metadata and first bytes of each archive, and what else
      is in the container. --read-data reads archives to their end and checks the store's checksum, the decryption, every command
      of the stream and its end. With PATH it checks only the archives of one subvolume, and all that they build on. PATH is the path of the
      subvolume on this machine, or what \`restore --latest\` takes, such as @home. --against-local and --drill need a PATH on
      this machine.
    `,
    examples: [
      ["Check every archive without reading it", "$0 verify --container-name backup"],
      [
        "Read another seventh of the data each day of the week",
        "$0 verify --container-name backup --read-data-subset 3/7",
      ],
      ["Restore the newest archive of /home for a test", "$0 verify --container-name backup /home --drill"],
    ],
  });

  protected override async run(session: Session): Promise<number> {
    const olderThanMs = parseDuration(this.leftoverAge, "--leftover-age");
    const subset = this.subset === undefined ? null : parseSubset(this.subset, "--read-data-subset");
    const origins = await this.openOrigins(session);
    const reading = await this.openReading(session);
    const local = origins === null ? null : await this.readLocal(origins, reading);
    const sources =
      local === null
        ? await this.findElsewhere(reading, session)
        : new Set(local.origins.map(({ source }) => source.uuid));
    if (this.removeLeftovers) {
      const clear = this.dryRun ? printLeftovers : removeLeftovers;
      for (const prefix of sources === null ? [""] : [...sources].map(keyPrefix))
        await clear({ prefix, olderThanMs }, reading.container, session);
    }
    const surveyed = narrow(await survey(reading, local?.keys ?? [], session.signal), sources);
    session.progress.stop();
    // A check of nothing would find nothing wrong and succeed forever.
    if (origins !== null && local !== null && surveyed.mine.length + surveyed.findings.length === 0)
      throw local.snapshots.length === 0 ? await origins.explainNone("other") : noArchiveOf(this.subvolume, surveyed);
    reportAll(surveyed.findings, session);
    const { mine } = surveyed;
    const doubts: Damage[] = [];
    const onDoubt = (finding: Finding): void => void doubts.push(doubtNewest(finding));
    const chosen =
      subset === null ? (this.readData ? mine : []) : chooseSubset(mine, subset, randomInt(2 ** 32), onDoubt);
    reportAll(doubts, session);
    const run = { ...surveyed, reading, session };
    if (this.dryRun) return this.printIntent(local, chosen, run);
    const comparable = this.againstLocal || this.drill ? (local?.origins ?? []) : [];
    const changed = comparable.flatMap((origin) => findChanged(origin, mine));
    const findings = [
      ...surveyed.findings,
      ...doubts,
      ...(await readChosen(chosen, run)),
      ...(local !== null && this.againstLocal ? await this.compare(local, changed, run) : []),
      ...(local !== null && (this.againstLocal || this.drill) ? await this.restoreForTest(local, changed, run) : []),
    ];
    const thorough = chosen.length > 0 || this.againstLocal || this.drill;
    printSummary({ surveyed, chosen, findings, thorough }, session);
    return exits[judge(findings)];
  }

  /**
   * True for a PATH that does not exist here: a subvolume of another machine is identified by the names of its
   * snapshots.
   */
  private isElsewhere(path: string): boolean {
    return !this.againstLocal && !this.drill && !this.received && !existsSync(path);
  }

  /** Returns null where all subvolumes are meant. @throws USAGE, ARCHIVE_MISSING */
  private async findElsewhere(reading: Reading, { signal }: Session): Promise<ReadonlySet<Uuid> | null> {
    const { subvolume: text } = this;
    return text === undefined
      ? null
      : new Set([selectSource(await readArchives("", reading, signal), { text, local: null })]);
  }

  /** Shows what a run would do after the quick check. */
  private printIntent(local: Local | null, chosen: readonly Archive[], { mine, findings, session }: VerifyRun): number {
    const { output } = session;
    const amount = (archives: readonly Archive[]): string =>
      `${count(archives.length, "archive")}, ${formatBytes(sumBytes(archives))}`;
    if (chosen.length > 0) output.line(`would read ${amount(chosen)}, to the end`);
    if (this.againstLocal) output.line(`would compare ${amount(mine)}, with the snapshots here`);
    const tested = this.drill && local !== null ? findDrill(mine, local.snapshots) : null;
    if (tested !== null) output.line(`would restore ${printable(tested.archive.path)} for a test`);
    output.record({ archives: mine.length, bytes: sumBytes(mine), wouldRead: chosen.map(({ key }) => key), findings });
    return exits[judge(findings)];
  }

  private async openOrigins(session: Session): Promise<Origins | null> {
    const flags = { received: this.received, sendProto: null };
    if (this.subvolume !== undefined && this.isElsewhere(this.subvolume)) return null;
    if (this.subvolume !== undefined) return await openOrigins(this.subvolume, flags, session);
    if (!this.againstLocal && !this.drill) return null;
    throw new BackupError("USAGE", "no PATH given: it names the snapshots to compare with", {
      hint: "use the path of their subvolume",
    });
  }

  private async readLocal(origins: Origins, reading: Reading): Promise<Local> {
    const all = (await origins.list(() => Promise.resolve(reading))).map(({ local }) => local);
    return {
      origins: all,
      snapshots: all.flatMap(({ snapshots }) => snapshots),
      keys: all.flatMap(({ source, snapshots }) => keysOf(source.uuid, snapshots)),
    };
  }

  private async compare(
    { origins, snapshots }: Local,
    changed: readonly ArchivedSnapshot[],
    run: VerifyRun,
  ): Promise<readonly Damage[]> {
    const { mine, session } = run;
    const { received } = this;
    const senders = new Map<number, Promise<Sender>>();
    const openSource = (proto: number): Promise<Sender> => {
      const flags = { received, sendProto: proto === 1 ? 1 : 2 } as const;
      const opened =
        senders.get(proto) ?? openOrigins(this.subvolume ?? "", flags, session).then(({ sender }) => sender);
      senders.set(proto, opened);
      return opened;
    };
    const context = openContext("compared with the snapshots here", mine, run);
    const side = { snapshots, openSource };
    const { compared, findings } = await compareWithLocal(mine, side, context, session.signal);
    session.progress.stop();
    const all = [...findings, ...origins.flatMap((local) => findIncomparable(local, mine))];
    if (compared + all.length + changed.length === 0) all.push(nothingCompared(this.subvolume ?? ""));
    reportAll(all, session);
    const left = mine.length - compared;
    const rest = left === 0 ? "" : `; the snapshots of ${left}, or those that they build on, are not here`;
    session.output.line(`${compared} of ${count(mine.length, "archive")} compared with the snapshots here${rest}`);
    return all;
  }

  private async restoreForTest(
    { snapshots }: Local,
    changed: readonly ArchivedSnapshot[],
    { archives, mine, reading, session }: VerifyRun,
  ): Promise<readonly Damage[]> {
    const chosen = this.drill ? findDrill(mine, snapshots) : null;
    const doubts = chosen?.doubt == null ? [] : [doubtNewest(chosen.doubt)];
    const [first, ...rest] = [...(chosen === null ? [] : [chosen]), ...changed];
    if (first === undefined && !this.drill) return [];
    if (first === undefined) throw new BackupError("ARCHIVE_MISSING", "no archived snapshot is still here");
    const chain = withAncestors(
      [first, ...rest].map(({ archive }) => archive),
      indexArchives(archives),
    );
    const options = { directory: this.workDir ?? null, bytes: sumBytes([...chain]), path: this.subvolume ?? "" };
    const scratch = await session.openScratch(options).catch((error: unknown) => {
      if (this.drill || !(error instanceof BackupError && error.code === "CONFIG")) throw error;
      return error;
    });
    if (scratch instanceof BackupError) {
      const unproven = describeUnproven(changed, scratch.message);
      reportAll(unproven, session);
      return unproven;
    }
    const { progress, output } = session;
    const watcher = {
      onStart: ({ path, bytes: size }: Archive) => progress.start(`drill: ${printable(path)}`, size),
      onProgress: (read: number) => progress.update(read),
      onReceipt: () => undefined,
    };
    const context = { archives, reading, onBytes: () => undefined };
    const drilling = { context, run: { watcher, now: this.context.now } };
    const drilled = chosen === null ? [] : await drill(chosen, scratch, drilling, session.signal);
    const compared = await proveUnchanged(changed, scratch, drilling, session.signal);
    progress.stop();
    const findings = [...doubts, ...drilled, ...compared.findings];
    reportAll(findings, session);
    if (chosen !== null && judge(drilled) === "well") {
      const restored = `drill: ${printable(chosen.archive.path)} restored (${count(chain.size, "archive")})`;
      output.line(`${restored}, equal to the snapshot here${drilled.length === 0 ? "" : " in all that was sent"}`);
    }
    await keepProofs(compared.proofs, session);
    return findings;
  }
}

/** Exit code 0 would claim that everything was proven. */
function nothingCompared(path: string): Damage {
  return notCompared(path, `nothing was compared: no archived snapshot of ${path} is still here`, {
    remedy: "compare while the snapshots that were archived are still here",
  });
}

/** Records snapshots that btrfs reports as changed but that hold the same data: `sync` then treats them as archived. */
async function keepProofs(proofs: readonly Proof[], { openProofs, output }: Session): Promise<void> {
  if (proofs.length === 0) return;
  const kept = await openProofs();
  if (kept === null)
    throw new BackupError("CONFIG", "no directory is known for the results of the comparison", {
      hint: "set HOME or STATE_DIRECTORY",
    });
  await kept.add(proofs).catch((error: unknown) => {
    throw new BackupError("CONFIG", `cannot keep the results of the comparison: ${describeWriteError(error)}`, {
      cause: error,
    });
  });
  output.line(`${count(proofs.length, "snapshot")} deduplicated since, and equal to what is archived`);
}
