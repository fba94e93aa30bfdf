// systemd units, as text.

import { BackupError } from "../errors.ts";

const NAME = "btrfs-snapshots-to-swift";

/** The paths that a target of the configuration file needs in its service. */
export interface UnitNeeds {
  /** The archived paths. */
  readonly paths: readonly string[];
  /** Directories that the service writes to. */
  readonly writes: readonly string[];
}

/**
 * Formats the drop-in of one target's service, by its file name. Null for a name that would need escaping.
 * @throws CONFIG for a path that a unit cannot name
 */
export function formatDropIn(
  target: string,
  { paths, writes }: UnitNeeds,
): readonly [file: string, text: string] | null {
  if (!/^[\w.:]([\w.:-]*[\w.:])?$/.test(target)) return null;
  const words = (all: readonly string[], prefix = ""): string =>
    all.map((path) => `"${prefix}${escape(path)}"`).join(" ");
  const mounts = paths.length === 0 ? "" : `[Unit]\nRequiresMountsFor=${words(paths)}\n`;
  const writable = writes.length === 0 ? "" : `[Service]\nReadWritePaths=${words(writes, "-")}\n`;
  const head = "# Made by install-units from the configuration file: run it again when the file has changed.\n";
  return [
    `${NAME}@${target}.service.d/target.conf`,
    head + [mounts, writable].filter((part) => part !== "").join("\n"),
  ];
}

/**
 * Formats systemd units by their file names: one service and one timer for every target of the configuration file.
 * @param words - the program and its command, with absolute paths
 * @throws CONFIG for words that a unit cannot hold
 */
export function formatUnits(words: readonly string[]): Readonly<Record<string, string>> {
  const command = words.map((word) => `"${escape(word).replaceAll("$", "$$$$")}"`).join(" ");
  return { [`${NAME}@.service`]: SERVICE.replace("@COMMAND@", () => command), [`${NAME}@.timer`]: TIMER };
}

function escape(word: string): string {
  // A line break would begin a new setting.
  if (/[\u0000-\u001f\u007f]/.test(word)) {
    throw new BackupError("CONFIG", `a unit cannot name ${word}: it holds a control character`);
  }
  return word.replace(/[\\"]/g, "\\$&").replaceAll("%", "%%");
}

const TIMER = `[Unit]
Description=Nightly archive of btrfs snapshots (%i)

[Timer]
OnCalendar=daily
RandomizedDelaySec=1h
Persistent=true

[Install]
WantedBy=timers.target
`;

/**
 * Not PrivateDevices nor ProtectClock: they hide the block device that the private mount of the top level needs. Not
 * MemoryDenyWriteExecute: V8 compiles. btrfs send and mounts need CAP_SYS_ADMIN, nsenter needs CAP_SYS_CHROOT, and
 * opening files of other owners without changing their times (O_NOATIME) needs CAP_FOWNER. V8 uses protection keys on
 * processors that have them (Node 20 and newer): without @pkey the filter would kill it at its start.
 */
const SERVICE = `[Unit]
Description=Archive btrfs snapshots (%i)
Wants=network-online.target
After=network-online.target

[Service]
Type=oneshot
ExecStart=@COMMAND@ --use %i
SyslogIdentifier=${NAME}
# Stopped by systemctl stop, or for the night: the next run resumes.
SuccessExitStatus=143
Nice=10
IOSchedulingClass=idle
# Again after 75 alone: the store cannot be reached, even after the run has waited for it. (systemd 252 refuses
# RestartForceExitStatus for a oneshot service.)
Restart=on-failure
RestartPreventExitStatus=1 2 3 10 11 12 13 14 15 129 130 143
RestartSec=15min
# A line for each secret in a file of its own, such as:
# LoadCredential=OS_PASSWORD:/etc/${NAME}/OS_PASSWORD
RuntimeDirectory=${NAME}
RuntimeDirectoryMode=0700
# Else the directory would go with the first run that ends, and with it the locks of the others.
RuntimeDirectoryPreserve=yes
StateDirectory=${NAME}
StateDirectoryMode=0700
# For work-dir: everything else is read-only, unless ReadWritePaths= names it.
CacheDirectory=${NAME}
CacheDirectoryMode=0700
ReadWritePaths=-/var/lib/prometheus/node-exporter
CapabilityBoundingSet=CAP_SYS_ADMIN CAP_SYS_CHROOT CAP_DAC_READ_SEARCH CAP_FOWNER
NoNewPrivileges=yes
ProtectSystem=strict
ProtectHome=read-only
PrivateTmp=yes
ProtectControlGroups=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
LockPersonality=yes
RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX AF_NETLINK
RestrictNamespaces=mnt
RestrictRealtime=yes
RestrictSUIDSGID=yes
SystemCallArchitectures=native
SystemCallFilter=@system-service @mount @pkey setns unshare
SystemCallErrorNumber=EPERM
UMask=0077
`;
