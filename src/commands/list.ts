import { Command, Option } from "clipanion";
import { listContainer, listSource, type ListedSnapshot } from "../operations/list.ts";
import { isSilent } from "../plan/chain.ts";
import { formatTime } from "../plan/key.ts";
import type { Archive, Identity } from "../plan/model.ts";
import { arrangeTree } from "../plan/tree.ts";
import { count, formatBytes, formatDate, printable } from "../terminal/format.ts";
import { ReadCommand, type House } from "./base.ts";
import { summaryOf } from "./registry.ts";

export class ListCommand extends ReadCommand {
  static override paths = [["list"]];
  static readonly exits = [0, 2, 10, 13, 15, 75, 130];
  static override usage = Command.Usage({
    description: summaryOf("list"),
    details: `
      For each snapshot: when it was taken, its path, what it builds on, size and encoding of its archive, how many
      archives have to be read to restore it, and the archive's key. \`restore\` takes the path or the key.
    `,
    examples: [
      ["Everything in a container", "$0 list --container-name backup"],
      ["The snapshots of /home, here and there", "$0 list --container-name backup /home"],
    ],
  });

  flat = Option.Boolean("--flat", false, { description: "One after the other by age, instead of a tree." });
  subvolume = Option.String({ name: "PATH", required: false });

  protected override async run(house: House): Promise<number> {
    const { output, signal } = house;
    const source = this.subvolume === undefined ? null : await house.openSource(this.subvolume, null);
    const reading = await this.openReading(house);
    const listed =
      source === null
        ? await listContainer(reading, signal)
        : await listSource(await source.list(signal), reading, signal);
    house.progress.stop();
    output.record({ container: reading.container.name, archives: listed.map((each) => toRecord(each, source !== null)) });
    if (listed.length === 0) output.line("there is nothing");
    const columns = { names: nameSnapshots(listed), withLocal: source !== null };
    for (const uuid of new Set(listed.map((snapshot) => snapshot.source))) {
      const snapshots = listed.filter((snapshot) => snapshot.source === uuid);
      output.line(`subvolume ${uuid}: ${describeAmount(snapshots)}`);
      const rows = this.flat ? snapshots.map((each) => toRow(each, "", columns)) : toTree(snapshots, columns);
      output.table(rows, [3, 5]);
    }
    return 0;
  }
}

interface Columns {
  /** What snapshots are called, by their identity. */
  readonly names: ReadonlyMap<string, string>;
  readonly withLocal: boolean;
}

function describeAmount(snapshots: readonly ListedSnapshot[]): string {
  const archives = snapshots.flatMap(({ archive }) => archive ?? []);
  const bytes = archives.reduce((sum, archive) => sum + archive.bytes, 0);
  return `${count(snapshots.length, "snapshot")}, ${archives.length} archived, ${formatBytes(bytes)}`;
}

/** What builds on another stands below it; what is not archived builds on nothing and comes last. */
function toTree(snapshots: readonly ListedSnapshot[], columns: Columns): string[][] {
  const byArchive = new Map(snapshots.map((snapshot) => [snapshot.archive, snapshot]));
  const archived = arrangeTree(snapshots.flatMap(({ archive }) => archive ?? [])).flatMap(({ archive, depth }) => {
    const snapshot = byArchive.get(archive);
    const mark = depth === 0 ? "" : `${"  ".repeat(depth - 1)}└ `;
    return snapshot === undefined ? [] : [toRow(snapshot, mark, columns)];
  });
  const others = snapshots.filter(({ archive }) => archive === null);
  return [...archived, ...others.map((snapshot) => toRow(snapshot, "", columns))];
}

function nameSnapshots(listed: readonly ListedSnapshot[]): ReadonlyMap<string, string> {
  return new Map(
    listed.flatMap(({ path, archive }) =>
      archive?.lineage == null ? [] : [[identityText(archive.lineage.snapshot), path] as const],
    ),
  );
}

function identityText({ uuid, ctransid }: Identity): string {
  return `${uuid} ${ctransid}`;
}

function toRow(snapshot: ListedSnapshot, mark: string, { names, withLocal }: Columns): string[] {
  const { archive, local, path, chainLength } = snapshot;
  const time = local?.otime ?? archive?.otime ?? null;
  return [
    `  ${time === null ? "-" : formatDate(time)}`,
    mark + printable(path),
    describeKind(snapshot, names),
    archive === null ? "" : formatBytes(archive.bytes),
    archive?.encoding ?? "",
    archive === null ? "" : describeChain(archive, chainLength),
    ...(withLocal ? [whereIs(snapshot)] : []),
    archive === null ? "" : printable(archive.key),
  ];
}

function describeChain({ lineage }: Archive, length: number | null): string {
  if (lineage === null) return "chain unknown";
  return length === null ? "chain broken" : `chain of ${length}`;
}

function whereIs({ archive, local }: ListedSnapshot): "archive only" | "local only" | "both" {
  if (local === null) return "archive only";
  return archive === null ? "local only" : "both";
}

function describeKind({ archive }: ListedSnapshot, names: ReadonlyMap<string, string>): string {
  if (archive === null) return "";
  if (archive.lineage === null) return isSilent(archive) ? "encrypted" : "unknown";
  const { sendParent } = archive.lineage;
  if (sendParent === null) return "whole";
  const name = names.get(identityText(sendParent));
  return name === undefined ? `since ${sendParent.uuid}` : `since ${printable(name)}`;
}

function toRecord(snapshot: ListedSnapshot, withLocal: boolean): Record<string, unknown> {
  const { source, path, archive, local, chainLength } = snapshot;
  const otime = local?.otime ?? archive?.otime ?? null;
  return {
    key: archive?.key ?? null,
    path,
    source,
    otime: otime === null ? null : formatTime(otime),
    archived: archive !== null,
    // Without a PATH nobody looked.
    local: withLocal ? local !== null : null,
    bytes: archive?.bytes ?? null,
    encoding: archive?.encoding ?? null,
    uuid: archive?.lineage?.snapshot.uuid ?? local?.uuid ?? null,
    ctransid: archive?.lineage?.snapshot.ctransid ?? local?.ctransid ?? null,
    sendParent: archive?.lineage?.sendParent ?? null,
    chainLength,
  };
}
