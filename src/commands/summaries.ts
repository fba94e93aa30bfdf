// One line for each command: for the overview, and for the head of its own help.

const summaries = {
  sync: "Archive the read-only snapshots of a subvolume that are not in the container yet.",
  list: "Show which snapshots are in the container, and with PATH which are on this machine too.",
  restore: "Bring an archived snapshot back, with all that it builds on.",
  verify: "Find out whether what is archived can be restored.",
  doctor: "Find out whether a sync could succeed, and if not, why.",
  "config show": "Show what a sync would use, and where each setting is from.",
  "install-units": "Write a service and a timer for systemd.",
  completion: "Print completions for a shell, or the manual page.",
} as const;

export type CommandName = keyof typeof summaries;

export function summaryOf(name: CommandName): string {
  return summaries[name];
}
