#!/bin/bash
# A send stream says whose content it holds by a pair, UUID and ctransid, and an incremental one names its parent by such a
# pair. One would think that every unchanged copy of a snapshot bears the same pair. It does not: `btrfs send` of a received
# copy names the UUID of the original beside the ctransid that the copy has on its own disk, although the original's is kept
# there too (stransid). And `btrfs receive` does not look at it: an incremental stream of the original is applied to what
# came by way of the copy, whose recorded stransid fits neither. So content may be compared by that pair only among
# streams of one filesystem.
#
# Needs root and btrfs-progs (Debian; installed when missing). Fails when the behaviour changes.
# The product keeps stransid beside the pair, and knows copies by received UUID and stransid. Held by "that is one of
# several sends nothing again that another one has sent, and continues from there" in test/integration/received.test.ts.
set -euo pipefail
command -v btrfs >/dev/null || apt-get install -y -q btrfs-progs >/dev/null
work=$(mktemp -d)
trap 'cd /; umount "$work"/origin "$work"/disk "$work"/third 2>/dev/null || true; rm -rf "$work"' EXIT
for name in origin disk third; do
  truncate -s 256M "$work/$name.img"
  mkfs.btrfs -q "$work/$name.img" >"$work/mkfs" 2>&1
  mkdir "$work/$name"
  mount -o loop "$work/$name.img" "$work/$name"
done
echo "kernel $(uname -r), $(btrfs --version | head -n 1)"
cd "$work"

# The disk has seen more transactions than the origin.
for each in 1 2 3 4 5 6 7 8; do
  touch "disk/$each"
  sync -f disk
done
btrfs -q subvolume create origin/vol
echo one >origin/vol/file
btrfs -q subvolume snapshot -r origin/vol origin/first
echo two >origin/vol/file
btrfs -q subvolume snapshot -r origin/vol origin/second
btrfs -q send -f full origin/first
btrfs -q send -p origin/first -f incremental origin/second
btrfs -q receive -f full disk
btrfs -q send -f copy disk/first

names() { btrfs receive --dump -f "$1" | head -n 1 | grep -oE '(^|[[:space:]])(uuid|transid)=[^ ]+' | tr -d '\n'; }
of() { btrfs subvolume show "$1" | sed -n "s/^[[:space:]]*$2:[[:space:]]*//p"; }
echo "stream of the original:$(names full)"
echo "stream of its copy:    $(names copy)"
echo "the copy's own record: received UUID $(of disk/first 'Received UUID'), send transid $(of disk/first 'Send transid')"

btrfs -q receive -f copy third
status=0
btrfs -q receive -f incremental third || status=$?
echo "incremental of the original onto the copy's copy: exit $status, file: $(cat third/second/file)"

uuid() { names "$1" | grep -oE 'uuid=[^ ]+' | head -n 1; }
transid() { names "$1" | grep -oE 'transid=[^ ]+'; }
[ "$(uuid full)" = "$(uuid copy)" ] && [ "$(transid full)" != "$(transid copy)" ] && [ "$status" = 0 ] ||
  { echo "changed: a copy names the pair of its original, or receive compares it"; exit 1; }
echo "as found: one UUID, two transactions, and receive takes the one for the other"
