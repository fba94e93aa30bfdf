// The commands by their names.

import type { CommandClass } from "clipanion";
import type { Context } from "./session.ts";
import type { CommandName } from "./summaries.ts";

/** A command's class, with the facts that clipanion does not know. */
export type CommandType = CommandClass<Context> & {
  /** The exit codes that its help lists, in their order. */
  readonly exits: readonly number[];
};

/** A command by name. Its module is loaded only when that command runs, so that the program starts fast. */
export interface Registered {
  readonly name: CommandName;
  readonly load: () => Promise<CommandType>;
}

export const registry: readonly Registered[] = [
  { name: "sync", load: async () => (await import("./sync.ts")).SyncCommand },
  { name: "list", load: async () => (await import("./list.ts")).ListCommand },
  { name: "ls", load: async () => (await import("./ls.ts")).LsCommand },
  { name: "find", load: async () => (await import("./find.ts")).FindCommand },
  { name: "dump", load: async () => (await import("./dump.ts")).DumpCommand },
  { name: "diff", load: async () => (await import("./diff.ts")).DiffCommand },
  { name: "restore", load: async () => (await import("./restore.ts")).RestoreCommand },
  { name: "verify", load: async () => (await import("./verify.ts")).VerifyCommand },
  { name: "prune", load: async () => (await import("./prune.ts")).PruneCommand },
  { name: "rebase", load: async () => (await import("./rebase.ts")).RebaseCommand },
  { name: "simulate", load: async () => (await import("./simulate.ts")).SimulateCommand },
  { name: "pin", load: async () => (await import("./pin.ts")).PinCommand },
  { name: "unpin", load: async () => (await import("./pin.ts")).UnpinCommand },
  { name: "doctor", load: async () => (await import("./doctor.ts")).DoctorCommand },
  { name: "config show", load: async () => (await import("./config-show.ts")).ConfigShowCommand },
  { name: "install-units", load: async () => (await import("./install-units.ts")).InstallUnitsCommand },
  { name: "version", load: async () => (await import("./version.ts")).VersionCommand },
  { name: "completion", load: async () => (await import("./completion.ts")).CompletionCommand },
];
