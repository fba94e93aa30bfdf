// One line for each command: for the overview, and for the head of its own help.

const summaries = {
  sync: "Archive the read-only snapshots of a subvolume that are not archived yet.",
  list: "List the archives; with PATH, also the snapshots on this machine.",
  restore: "Restore an archived snapshot, with all that it builds on.",
  ls: "Show the files of an archived snapshot.",
  find: "Show in which archived snapshots a file is, and when it changed.",
  diff: "Show what differs between two archived snapshots.",
  dump: "Write a file of an archived snapshot to stdout.",
  prune: "Delete archives that no keep rule keeps and that nothing needs.",
  rebase: "Send an archive again on a better parent, so that prune can delete more.",
  simulate: "Show what keep rules would keep, upload and need for a restore.",
  pin: "Keep an archive forever, whatever the keep rules say.",
  unpin: "Let the keep rules decide about an archive again.",
  verify: "Check whether the archives can be restored.",
  doctor: "Check whether a sync could succeed, and if not, why.",
  "config show": "Show the settings in force, and where each comes from.",
  "install-units": "Write a service and a timer for systemd.",
  version: "Print the versions of the program and of all that it uses.",
  completion: "Print completions for a shell, or the manual page.",
} as const;

/** The topics of `help TOPIC`. */
export const topicNames = ["credentials", "encryption", "format", "config"] as const;

export type TopicName = (typeof topicNames)[number];

export type CommandName = keyof typeof summaries;

export function summaryOf(name: CommandName): string {
  return summaries[name];
}
