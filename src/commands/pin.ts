// `pin` and `unpin`: mark archives that no prune may delete, and take the mark away.

import { Command, Option } from "clipanion";
import { findSelected } from "../operations/restore.ts";
import { storeText } from "../operations/small-object.ts";
import { formatPinKey, PIN_TEXT } from "../plan/pin.ts";
import type { Archive, Chain } from "../plan/model.ts";
import { printable } from "../terminal/format.ts";
import { ReadCommand } from "./command.ts";
import { findLocal } from "./local-names.ts";
import type { Container } from "../operations/store-ports.ts";
import type { Session } from "./session.ts";
import { summaryOf } from "./summaries.ts";

/** A command that marks archives, or takes the mark away. */
abstract class MarkCommand extends ReadCommand {
  static readonly exits: readonly number[] = [0, 2, 10, 11, 13, 14, 75, 130];

  what = Option.Rest({ name: "WHAT", required: 1 });

  protected abstract mark(archive: Archive, container: Container, session: Session): Promise<string>;

  protected override async run(session: Session): Promise<number> {
    const { output, signal } = session;
    const reading = await this.openReading(session);
    const archives: Archive[] = [];
    // Finds all of them before it marks the first: a typing mistake marks nothing.
    for (const name of this.what) {
      const local = await findLocal(name, session);
      archives.push(targetOf(await findSelected({ by: "name", name, local }, reading, signal)));
    }
    session.progress.stop();
    const sources = archives.map(({ source }) => source);
    const lock = await session.lock({ container: reading.container.name, sources, wait: undefined });
    try {
      for (const archive of archives) {
        output.line(await this.mark(archive, reading.container, session));
        output.record({ key: archive.key, path: archive.path });
      }
    } finally {
      lock.close();
    }
    return 0;
  }
}

function targetOf(chain: Chain): Archive {
  return chain.at(-1) ?? chain[0];
}

export class PinCommand extends MarkCommand {
  static override paths = [["pin"]];
  static override usage = Command.Usage({
    description: summaryOf("pin"),
    details: `
      Marks archives in the container (an object \`pin\` beside each), and \`prune\` keeps them, with all that they build on,
      on whatever machine it runs. WHAT is an archive, as \`restore\` takes it.
    `,
    examples: [["Keep the state before an upgrade", "$0 pin --container-name backup snapshots/before-upgrade"]],
  });

  protected override async mark({ key, path }: Archive, container: Container, { signal }: Session): Promise<string> {
    await storeText({ key: formatPinKey(key), text: PIN_TEXT }, container, signal);
    return `${printable(path)} is pinned`;
  }
}

export class UnpinCommand extends MarkCommand {
  static override paths = [["unpin"]];
  static override usage = Command.Usage({
    description: summaryOf("unpin"),
    details: "Removes the marks that `pin` has set.",
    examples: [["Let prune delete it again", "$0 unpin --container-name backup snapshots/before-upgrade"]],
  });

  protected override async mark({ key, path }: Archive, container: Container, { signal }: Session): Promise<string> {
    const pin = formatPinKey(key);
    if ((await container.head(pin, signal)) === null) return `${printable(path)} was not pinned`;
    await container.delete(pin, signal);
    return `${printable(path)} is not pinned any more`;
  }
}
