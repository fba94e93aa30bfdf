const NAME = "btrfs-snapshots-to-swift";

/**
 * Units of systemd by the names of their files: one service and one timer for every target of the configuration file.
 * @param program - how this program is started: absolute paths
 */
export function formatUnits(program: readonly string[]): Readonly<Record<string, string>> {
  const command = program.map((word) => `"${word.replace(/[\\"]/g, "\\$&").replaceAll("%", "%%").replaceAll("$", "$$$$")}"`).join(" ");
  return { [`${NAME}@.service`]: formatService(command), [`${NAME}@.timer`]: TIMER };
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
 * MemoryDenyWriteExecute: V8 compiles. CAP_SYS_ADMIN is what btrfs send and mounts take, CAP_SYS_CHROOT what nsenter takes.
 */
function formatService(command: string): string {
  return `[Unit]
Description=Archive btrfs snapshots (%i)
Wants=network-online.target
After=network-online.target

[Service]
Type=oneshot
ExecStart=${command} sync --use %i
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
ReadWritePaths=-/var/lib/prometheus/node-exporter
CapabilityBoundingSet=CAP_SYS_ADMIN CAP_SYS_CHROOT CAP_DAC_READ_SEARCH
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
SystemCallFilter=@system-service @mount setns unshare
UMask=0077
`;
}
