#!/bin/bash
# `btrfs send` that is stopped (Ctrl-Z, SIGSTOP, a frozen cgroup) and continued while its reader is slow writes part of its
# stream twice, and exits with 0: a signal interrupts the kernel's write into the pipe, and the ioctl goes over the same
# command again. Nobody but a reader of the stream notices: sizes differ, and a command's checksum is wrong.
#
# Needs root and btrfs-progs (Debian: btrfs-progs; installed when missing). Fails when the behaviour changes.
# The product runs send in a process group of its own and checks every command on the way. Held by
# "btrfs send is stopped and continued: the stream is right, or it fails" in test/fault/send.test.ts.
set -euo pipefail
command -v btrfs >/dev/null || apt-get install -y -q btrfs-progs >/dev/null
work=$(mktemp -d)
trap 'cd /; umount "$work/source" 2>/dev/null || true; rm -rf "$work"' EXIT
truncate -s 256M "$work/source.img"
mkfs.btrfs -q "$work/source.img" >"$work/mkfs" 2>&1
mkdir "$work/source"
mount -o loop "$work/source.img" "$work/source"
echo "kernel $(uname -r), $(btrfs --version | head -n 1)"

cd "$work/source"
btrfs -q subvolume create vol
head -c 30000000 /dev/urandom >vol/file
btrfs -q subvolume snapshot -r vol one
btrfs -q send one >"$work/whole"

mkfifo "$work/pipe"
btrfs -q send one >"$work/pipe" &
sender=$!
exec 3<"$work/pipe"
for _ in 1 2 3 4 5; do
  sleep 0.3 # the pipe is full: send waits
  kill -STOP "$sender"
  sleep 0.1
  kill -CONT "$sender"
  head -c 1000000 <&3 >>"$work/stopped"
done
cat <&3 >>"$work/stopped"
status=0
wait "$sender" || status=$?
whole=$(stat -c %s "$work/whole")
stopped=$(stat -c %s "$work/stopped")
echo "send: exit $status; $whole bytes when left alone, $stopped bytes when stopped five times"
btrfs receive --dump -f "$work/stopped" 2>&1 >/dev/null | tail -n 1 || true
[ "$status" = 0 ] && [ "$whole" != "$stopped" ] || { echo "changed: a stopped send is whole, or fails"; exit 1; }
echo "as found: exit 0, and another stream"
