import { Command, Option } from "clipanion";
import { prepareRestore, runRestore, type RestoreWatcher } from "../operations/restore.ts";
import { count, formatBytes, formatDuration, printable } from "../terminal/format.ts";
import { BackupError } from "../errors.ts";
import { StoreCommand, type House } from "./base.ts";

export class RestoreCommand extends StoreCommand {
  static override paths = [["restore"]];
  static override usage = Command.Usage({
    description: "Bring an archived snapshot back, with all that it builds on.",
    details: `
      ARCHIVE is a key as \`list\` shows it. Every snapshot of its chain that DIR's filesystem does not hold yet is
      received under DIR, at its own path. Needs root.

      Exit codes: 0 done, 2 usage or configuration, 10 no such container, 13 credentials refused, 14 an archive is
      missing or damaged, 15 btrfs refuses, 75 the store cannot be reached (try again), 130 interrupted.
    `,
    examples: [
      ["Restore a snapshot", "$0 restore --container-name backup '6f1e…\\x2fsnapshots\\x2fhome-1' --target /mnt/restored"],
    ],
  });

  target = Option.String("--target", { description: "Directory on btrfs to restore into." });
  archive = Option.String({ name: "ARCHIVE" });

  protected override async run(house: House): Promise<number> {
    const { output, signal, progress } = house;
    if (this.target === undefined) {
      throw new BackupError("USAGE", "no target is named", { hint: "say --target DIR, a directory on btrfs" });
    }
    const target = await house.openTarget(this.target);
    const container = await house.openContainer();
    const edges = { container, target };
    const plan = await prepareRestore(this.archive, edges, signal);
    const bytes = plan.steps.reduce((sum, step) => sum + step.archive.bytes, 0);
    if (plan.steps.length === 0) output.line(`${this.target} holds it already, as ${plan.held?.path ?? ""}`);
    else output.line(`${plan.steps.length} of ${count(plan.chain.length, "archive")} to receive, ${formatBytes(bytes)}`);
    const receipts = await runRestore(plan, edges, { watcher: watch(house), now: this.context.now }, signal);
    progress.stop();
    output.record({ type: "summary", received: receipts.length, bytes });
    return 0;
  }
}

function watch({ output, progress }: House): RestoreWatcher {
  return {
    onStart: ({ archive }) => {
      progress.start(printable(archive.path), archive.bytes);
    },
    onProgress: (bytes) => {
      progress.update(bytes);
    },
    onReceipt: ({ step, snapshot, bytes, elapsedMs }) => {
      const { key, path } = step.archive;
      progress.stop();
      output.line(`restored ${printable(path)}  ${formatBytes(bytes)} in ${formatDuration(elapsedMs)}`);
      output.record({ type: "receipt", key, path, uuid: snapshot.uuid, bytes, elapsedMs: Math.round(elapsedMs) });
    },
  };
}
