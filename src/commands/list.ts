import { Command, Option } from "clipanion";
import { listContainer, listSource, type ListedSnapshot } from "../operations/list.ts";
import { formatTime } from "../plan/key.ts";
import type { Identity } from "../plan/model.ts";
import { count, formatBytes, formatDate, printable } from "../terminal/format.ts";
import { StoreCommand, type House } from "./base.ts";

export class ListCommand extends StoreCommand {
  static override paths = [["list"]];
  static override usage = Command.Usage({
    description: "Show which snapshots are in the container, and with PATH which are on this machine too.",
    details: `
      The last column is the archive's key, by which \`restore\` takes it.

      Exit codes: 0 done, 2 usage or configuration, 10 no such container, 13 credentials refused, 15 btrfs refuses,
      75 the store cannot be reached (try again).
    `,
    examples: [
      ["Everything in a container", "$0 list --container-name backup"],
      ["The snapshots of /home, here and there", "$0 list --container-name backup /home"],
    ],
  });

  subvolume = Option.String({ name: "PATH", required: false });

  protected override async run(house: House): Promise<number> {
    const { output, signal } = house;
    const source = this.subvolume === undefined ? null : await house.openSource(this.subvolume, null);
    const container = await house.openContainer();
    const listed =
      source === null
        ? await listContainer(container, signal)
        : await listSource(await source.list(signal), container, signal);
    output.record({ container: container.name, archives: listed.map(toRecord) });
    if (listed.length === 0) output.line("there is nothing");
    const names = nameSnapshots(listed);
    for (const uuid of new Set(listed.map((snapshot) => snapshot.source))) {
      const snapshots = listed.filter((snapshot) => snapshot.source === uuid);
      output.line(`subvolume ${uuid}: ${count(snapshots.length, "snapshot")}`);
      output.table(snapshots.map((snapshot) => toRow(snapshot, names, source !== null)), [3]);
    }
    return 0;
  }
}

/** What a difference's send parent is called, by its identity. */
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

function toRow(snapshot: ListedSnapshot, names: ReadonlyMap<string, string>, withLocal: boolean): string[] {
  const { archive, local, path } = snapshot;
  const time = local?.otime ?? archive?.otime ?? null;
  return [
    `  ${time === null ? "-" : formatDate(time)}`,
    printable(path),
    describeKind(snapshot, names),
    archive === null ? "" : formatBytes(archive.bytes),
    ...(withLocal ? [local === null ? "archive only" : archive === null ? "local only" : "both"] : []),
    archive === null ? "" : printable(archive.key),
  ];
}

function describeKind({ archive }: ListedSnapshot, names: ReadonlyMap<string, string>): string {
  if (archive === null) return "";
  if (archive.lineage === null) return archive.encoding === "age" ? "encrypted" : "unknown";
  const { sendParent } = archive.lineage;
  if (sendParent === null) return "whole";
  const name = names.get(identityText(sendParent));
  return name === undefined ? `since ${sendParent.uuid}, which is not archived` : `since ${printable(name)}`;
}

function toRecord({ source, path, archive, local }: ListedSnapshot): Record<string, unknown> {
  const otime = local?.otime ?? archive?.otime ?? null;
  return {
    key: archive?.key ?? null,
    path,
    source,
    otime: otime === null ? null : formatTime(otime),
    archived: archive !== null,
    local: local !== null,
    bytes: archive?.bytes ?? null,
    encoding: archive?.encoding ?? null,
    uuid: archive?.lineage?.snapshot.uuid ?? local?.uuid ?? null,
    sendParent: archive?.lineage?.sendParent ?? null,
  };
}
