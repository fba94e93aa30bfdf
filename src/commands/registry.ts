import type { CommandClass } from "clipanion";
import type { Context } from "./session.ts";

/** A command's class, with what clipanion does not know of. */
export type CommandType = CommandClass<Context> & {
  /** The exit codes that its help tells, in their order. */
  readonly exits: readonly number[];
};

/** What can be typed first. A command's module is loaded only when it is meant, so that starting costs little. */
export interface Registered {
  readonly name: string;
  /** One line, for the overview. */
  readonly summary: string;
  readonly load: () => Promise<CommandType>;
}

export const registry: readonly Registered[] = [
  {
    name: "sync",
    summary: "Archive the read-only snapshots of a subvolume that are not in the container yet.",
    load: async () => (await import("./sync.ts")).SyncCommand,
  },
  {
    name: "list",
    summary: "Show which snapshots are in the container, and with PATH which are on this machine too.",
    load: async () => (await import("./list.ts")).ListCommand,
  },
  {
    name: "restore",
    summary: "Bring an archived snapshot back, with all that it builds on.",
    load: async () => (await import("./restore.ts")).RestoreCommand,
  },
  {
    name: "verify",
    summary: "Find out whether what is archived can be restored.",
    load: async () => (await import("./verify.ts")).VerifyCommand,
  },
  {
    name: "doctor",
    summary: "Find out whether a sync could succeed, and if not, why.",
    load: async () => (await import("./doctor.ts")).DoctorCommand,
  },
  {
    name: "config show",
    summary: "Show what a sync would use, and where each setting is from.",
    load: async () => (await import("./config-show.ts")).ConfigShowCommand,
  },
  {
    name: "install-units",
    summary: "Write a service and a timer for systemd.",
    load: async () => (await import("./install-units.ts")).InstallUnitsCommand,
  },
  {
    name: "completion",
    summary: "Print completions for a shell, or the manual page.",
    load: async () => (await import("./completion.ts")).CompletionCommand,
  },
];

/** The summary of a command, for its own help. */
export function summaryOf(name: string): string {
  return registry.find((registered) => registered.name === name)?.summary ?? "";
}
