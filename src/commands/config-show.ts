// `config show`: prints the settings that `sync` would use, and where each comes from.

import { Command } from "clipanion";
import { BackupError, toBackupError } from "../errors.ts";
import { describeEndpoint, describeLogin } from "../config/store.ts";
import { printable } from "../terminal/format.ts";
import type { Session } from "./session.ts";
import { summaryOf } from "./summaries.ts";
import { SyncCommand } from "./sync.ts";

/** Accepts the options of sync, and shows the values that sync would use. */
export class ConfigShowCommand extends SyncCommand {
  static override paths = [["config", "show"]];
  static override readonly exits: readonly number[] = [0, 2, 3];
  static override usage = Command.Usage({
    description: summaryOf("config show"),
    details: `
      Prints one line for each setting that a flag, a variable or the configuration file gives; they win in this order.
      Every other setting has the default that \`sync --help\` shows. The last lines show the credentials and the endpoint
      in use. It contacts no server.
    `,
    examples: [["What a nightly sync of a target would use", "$0 config show --use home"]],
  });

  protected override readonly narrates = false;

  protected override async run(session: Session): Promise<number> {
    const { inForce, paths, target } = this.context.settings;
    const chosen = this.subvolumes.length > 0 ? this.subvolumes : paths;
    // Values that cannot be used are shown too, with the reason.
    const login = await session.readLogin().catch((error: unknown) => toBackupError(error));
    const used =
      login instanceof BackupError
        ? { credentials: null, endpoint: null }
        : { credentials: describeLogin(login), endpoint: describeEndpoint(login) };
    session.output.table([
      ...inForce.map(({ key, value, from }) => [key, printable(value), from]),
      ["paths", chosen.map(printable).join(" "), ""],
      ["credentials", printable(used.credentials ?? "none that can be used"), ""],
      ["endpoint used", printable(used.endpoint ?? "none"), ""],
    ]);
    session.output.record({ target, settings: inForce, paths: chosen, ...used });
    return login instanceof BackupError ? this.report(login, session) : 0;
  }
}
