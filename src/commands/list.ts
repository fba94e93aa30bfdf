// `list`: prints the archives of a container beside the snapshots of this machine.

import { existsSync } from "node:fs";
import { Command, Option } from "clipanion";
import { switchOption } from "./options.ts";
import { listContainer, listSource, type ListedSnapshot, type ListedSource } from "../operations/list.ts";
import type { Reading } from "../operations/read-archive.ts";
import { formatTime } from "../plan/key.ts";
import { sameIdentity, sumBytes, type Archive, type Uuid } from "../plan/model.ts";
import { selectSource } from "../plan/select.ts";
import { arrangeTree } from "../plan/tree.ts";
import {
  count,
  describeChain,
  describeEncoding,
  formatBytes,
  formatDate,
  formatMinute,
  printable,
} from "../terminal/format.ts";
import { ReadCommand } from "./command.ts";
import { openOrigins, type Origins } from "./origins.ts";
import type { Session } from "./session.ts";
import { summaryOf } from "./summaries.ts";
import { identityText } from "../plan/chain.ts";

export class ListCommand extends ReadCommand {
  static override paths = [["list"]];
  static readonly exits = [0, 2, 3, 10, 13, 14, 15, 75, 130];
  static override usage = Command.Usage({
    description: summaryOf("list"),
    details: `
      Shows when each snapshot was taken, its path, the size of its archive, and its chain: how many archives a restore
      has to read, and what the archive builds on if that is not the line above. -v shows paths in full, and the keys of
      the archives; --json is for programs. \`restore\` takes the path or the key.

      PATH is a subvolume on this machine, or what \`restore --latest\` takes, such as @home. Only archives of the Python
      tool that are encrypted need --identity: without it, what they build on is unknown.
    `,
    examples: [
      ["Everything in the container", "$0 list --container-name backup"],
      ["The snapshots of /home, on this machine and in the container", "$0 list --container-name backup /home"],
    ],
  });

  flat = switchOption("flat");
  received = switchOption("received");
  subvolume = Option.String({ name: "PATH", required: false });

  protected override async run(session: Session): Promise<number> {
    const { output, signal } = session;
    const { subvolume } = this;
    // A subvolume of another machine is identified by the names of its snapshots.
    const elsewhere = subvolume !== undefined && !existsSync(subvolume) ? subvolume : null;
    const flags = { received: this.received, sendProto: null };
    const origins = subvolume === undefined || elsewhere !== null ? null : await openOrigins(subvolume, flags, session);
    const reading = await this.openReading(session);
    const found =
      origins === null
        ? { listed: await listContainer(reading, signal), findings: [] }
        : await this.listOrigins(origins, reading, session);
    const { findings } = found;
    const listed = elsewhere === null ? found.listed : narrow(found.listed, elsewhere);
    session.progress.stop();
    // Usually the PATH is a snapshot instead of its source.
    if (origins !== null && listed.length === 0) throw await origins.explainNone("other");
    for (const { message } of findings) session.log.warn(message);
    output.record({
      container: reading.container.name,
      archives: listed.map((each) => toRecord(each, origins !== null)),
      findings,
    });
    if (listed.length === 0) output.line("no archives");
    const view = { names: nameSnapshots(listed), withLocal: origins !== null, verbose: this.verbose > 0 };
    for (const uuid of new Set(listed.map((snapshot) => snapshot.source))) {
      const snapshots = listed.filter((snapshot) => snapshot.source === uuid);
      printSubvolume(uuid, snapshots, { ...view, flat: this.flat, isMixed: encodingsOf(snapshots).size > 1 }, session);
    }
    if (listed.some(({ archive }) => archive !== null && isInParts(archive))) {
      output.line(`Swift keeps the parts of multipart uploads in ${reading.container.name}+segments: nearly all bytes`);
    }
    return 0;
  }

  private async listOrigins(
    origins: Origins,
    reading: Reading,
    session: Session,
  ): Promise<Pick<ListedSource, "listed" | "findings">> {
    const view = { ...reading, proofs: (await session.openProofs())?.all ?? [], relies: true };
    const all: ListedSource[] = [];
    for (const { local } of await origins.list(() => Promise.resolve(view)))
      all.push(await listSource(local, view, session.signal));
    return { listed: all.flatMap(({ listed }) => listed), findings: all.flatMap(({ findings }) => findings) };
  }
}

/** @throws USAGE */
function narrow(listed: readonly ListedSnapshot[], text: string): readonly ListedSnapshot[] {
  const chosen = selectSource(
    listed.flatMap(({ archive }) => archive ?? []),
    { text, local: null },
  );
  return listed.filter(({ source }) => source === chosen);
}

/** Which snapshots of a subvolume are shown, and how. */
interface View {
  /** The name of each snapshot, by its identity. */
  readonly names: ReadonlyMap<string, string>;
  readonly withLocal: boolean;
  readonly verbose: boolean;
  readonly flat: boolean;
  /** True when the archives differ in their encoding, so that each line has to show its own. */
  readonly isMixed: boolean;
}

/** A snapshot with its place in the output: below the one it builds on, or one after the other. */
interface Placed {
  readonly snapshot: ListedSnapshot;
  readonly mark: string;
}

function printSubvolume(uuid: Uuid, snapshots: readonly ListedSnapshot[], view: View, { output }: Session): void {
  output.line(`subvolume ${uuid}`);
  output.line(`  ${describeAmount(snapshots)}`);
  const placed = view.flat ? snapshots.map((snapshot) => ({ snapshot, mark: "" })) : toTree(snapshots);
  const rows = placed.map((each, index) => toRow(each, placed[index - 1]?.snapshot ?? null, view));
  output.table([headings(view), ...rows], { right: [2], flexible: [1, 3] });
}

function headings({ withLocal, verbose, isMixed }: View): string[] {
  const encoding = isMixed || verbose ? ["ENCODING"] : [];
  return [
    "  TAKEN",
    "SNAPSHOT",
    "SIZE",
    "CHAIN",
    ...encoding,
    ...(withLocal ? ["WHERE"] : []),
    ...(verbose ? ["KEY"] : []),
  ];
}

function describeAmount(snapshots: readonly ListedSnapshot[]): string {
  const archives = snapshots.flatMap(({ archive }) => archive ?? []);
  const [encoding, ...others] = encodingsOf(snapshots);
  const alike = encoding === undefined || others.length > 0 ? "" : `, ${encoding}`;
  return `${count(snapshots.length, "snapshot")}, ${archives.length} archived, ${formatBytes(sumBytes(archives))}${alike}`;
}

function encodingsOf(snapshots: readonly ListedSnapshot[]): ReadonlySet<string> {
  return new Set(snapshots.flatMap(({ archive }) => (archive === null ? [] : describeEncoding(archive.encoding))));
}

function isInParts({ bytes, partBytes, volumes }: Archive): boolean {
  return volumes !== null || (partBytes !== null && bytes > partBytes);
}

/** Places each snapshot below the one it builds on. Snapshots without an archive build on nothing and come last. */
function toTree(snapshots: readonly ListedSnapshot[]): Placed[] {
  const byArchive = new Map(snapshots.map((snapshot) => [snapshot.archive, snapshot]));
  const archived = arrangeTree(snapshots.flatMap(({ archive }) => archive ?? [])).flatMap(({ archive, depth }) => {
    const snapshot = byArchive.get(archive);
    const mark = depth === 0 ? "" : `${"  ".repeat(depth - 1)}└ `;
    return snapshot === undefined ? [] : [{ snapshot, mark }];
  });
  const others = snapshots.filter(({ archive }) => archive === null);
  return [...archived, ...others.map((snapshot) => ({ snapshot, mark: "" }))];
}

function nameSnapshots(listed: readonly ListedSnapshot[]): ReadonlyMap<string, string> {
  return new Map(
    listed.flatMap(({ path, archive }) =>
      archive?.lineage == null ? [] : [[identityText(archive.lineage.snapshot), path] as const],
    ),
  );
}

function toRow(
  { snapshot, mark }: Placed,
  above: ListedSnapshot | null,
  { names, withLocal, verbose, isMixed }: View,
): string[] {
  const { archive, local, path } = snapshot;
  const time = local?.otime ?? archive?.otime ?? null;
  return [
    `  ${time === null ? "-" : verbose ? formatDate(time) : formatMinute(time)}`,
    mark + printable(path),
    archive === null ? "" : formatBytes(archive.bytes),
    describePlace(snapshot, above, names),
    ...(isMixed || verbose ? [archive === null ? "" : describeEncoding(archive.encoding)] : []),
    ...(withLocal ? [whereIs(snapshot)] : []),
    ...(verbose ? [archive === null ? "" : printable(archive.key)] : []),
  ];
}

/** Describes how many archives a restore has to read, and the send parent where that is not the line above. */
function describePlace(
  { archive, chainLength }: ListedSnapshot,
  above: ListedSnapshot | null,
  names: View["names"],
): string {
  if (archive === null) return "";
  if (archive.failure !== undefined) return "unreadable";
  const length = describeChain(archive.lineage, chainLength);
  const sendParent = archive.lineage?.sendParent ?? null;
  if (sendParent === null) return length;
  const isAbove = above?.archive?.lineage != null && sameIdentity(above.archive.lineage.snapshot, sendParent);
  return isAbove ? length : `${length}, parent ${printable(names.get(identityText(sendParent)) ?? sendParent.uuid)}`;
}

function whereIs({ archive, local }: ListedSnapshot): "archive" | "local" | "both" {
  if (local === null) return "archive";
  return archive === null ? "local" : "both";
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
    // Without a PATH, this machine was not examined.
    local: withLocal ? local !== null : null,
    bytes: archive?.bytes ?? null,
    encoding: archive?.encoding ?? null,
    uuid: archive?.lineage?.snapshot.uuid ?? local?.uuid ?? null,
    ctransid: archive?.lineage?.snapshot.ctransid ?? local?.ctransid ?? null,
    sendParent: archive?.lineage?.sendParent ?? null,
    chainLength,
    failure: archive?.failure ?? null,
  };
}
