#!/bin/bash
# A disk that refuses all data does not make `btrfs receive` fail, and `btrfs filesystem sync` right after it does not
# either: both exit with 0 over a file of which nothing is on disk. receive writes into the page cache and never asks
# whether that got out, and the ioctl of the sync (BTRFS_IOC_SYNC) starts a commit and reports only what the metadata met.
# syncfs(2) does report it (here as coreutils' `sync -f`), to whoever asks first, and the counters of `btrfs device stats`
# rise. "Restored, synced, exit 0" is no proof.
#
# Needs root and btrfs-progs (Debian; installed when missing). The disk is a loop device that shrinks under its filesystem,
# so that the kernel gets real I/O errors. Fails when the behaviour changes.
# The product holds a descriptor from before the first write for syncfs, and compares the counters of all devices. Held by
# "plain writes: the restore fails, and leaves nothing" in test/btrfs/failing-disk.test.ts.
set -euo pipefail
command -v btrfs >/dev/null || apt-get install -y -q btrfs-progs >/dev/null
work=$(mktemp -d)
trap 'cd /; umount "$work/origin" "$work/target" 2>/dev/null || true; rm -rf "$work"' EXIT
for name in origin target; do
  truncate -s 128M "$work/$name.img"
  mkfs.btrfs -q "$work/$name.img" >"$work/mkfs" 2>&1
  mkdir "$work/$name"
  mount -o loop "$work/$name.img" "$work/$name"
done
echo "kernel $(uname -r), $(btrfs --version | head -n 1), $(sync --version | head -n 1)"
cd "$work"

btrfs -q subvolume create origin/vol
head -c 24M /dev/urandom >origin/vol/file
btrfs -q subvolume snapshot -r origin/vol origin/snapshot
btrfs -q send -f stream origin/snapshot

# Data goes to the second disk, which has more room left, once the 8 MiB on the first are full.
truncate -s 60M second.img
device=$(losetup --find --show second.img)
btrfs device add -f "$device" target >/dev/null 2>&1
losetup --detach "$device" # Takes effect when the filesystem is unmounted.
truncate -s 2M second.img
losetup --set-capacity "$device"

status() { local code=0; "$@" >/dev/null 2>"$work/said" || code=$?; echo "$code"; }
received=$(status btrfs receive -f stream target)
synced=$(status btrfs filesystem sync target)
asked=$(status sync -f target/snapshot/file)
errors=$(btrfs device stats "$device" | sed -n 's/.*write_io_errs *//p')
echo 3 >/proc/sys/vm/drop_caches
readable=$(status cmp origin/snapshot/file target/snapshot/file)
echo "btrfs receive: exit $received, btrfs filesystem sync: exit $synced, sync -f: exit $asked, write errors: $errors, cmp: exit $readable"
[ "$errors" -gt 0 ] && [ "$readable" != 0 ] || { echo "the set-up is wrong: nothing was lost"; exit 1; }
[ "$received" = 0 ] && [ "$synced" = 0 ] && [ "$asked" != 0 ] || { echo "changed: another call reports the loss"; exit 1; }
echo "as found: received, synced, exit 0, and the file is not on disk"
