#!/bin/bash
# A setuid program is given to another owner and gets its bit back, both between two snapshots. Linux takes the bit away at
# chown, so the administrator has to set it again. The mode of the file is then the same in both snapshots: `btrfs send`
# writes the new owner and no mode, and the chown of `btrfs receive` takes the bit away. Send and receive exit with 0.
#
# Needs root and btrfs-progs (Debian: btrfs-progs; installed when missing). Fails when the behaviour changes.
# The product sets the bit again, by the mode that the same inode has in the snapshot before. Held by "keeps the setuid bit
# of a program that got another owner and its bit again" in test/btrfs/received-trees.test.ts.
set -euo pipefail
command -v btrfs >/dev/null || apt-get install -y -q btrfs-progs >/dev/null
work=$(mktemp -d)
trap 'cd /; umount "$work"/source "$work"/target 2>/dev/null || true; rm -rf "$work"' EXIT
for name in source target; do
  truncate -s 256M "$work/$name.img"
  mkfs.btrfs -q "$work/$name.img" >"$work/mkfs" 2>&1
  mkdir "$work/$name"
  mount -o loop "$work/$name.img" "$work/$name"
done
echo "kernel $(uname -r), $(btrfs --version | head -n 1)"

cd "$work/source"
btrfs -q subvolume create vol
cp /bin/true vol/tool
chmod 4755 vol/tool
btrfs -q subvolume snapshot -r vol one
chown 1000:1000 vol/tool # takes the bit away, as Linux does
chmod 4755 vol/tool      # and the administrator sets it again
btrfs -q subvolume snapshot -r vol two

btrfs -q send one | btrfs -q receive "$work/target"
btrfs -q send -p one two | tee "$work/stream" | btrfs -q receive "$work/target"
echo "the stream: $(btrfs receive --dump -f "$work/stream" | grep -E '^(chown|chmod)' | tr -s ' ' | cut -d ' ' -f 1 | tr '\n' ' ')"
sent=$(stat -c '%a %u' two/tool)
got=$(stat -c '%a %u' "$work/target/two/tool")
echo "sent:     mode and owner $sent"
echo "received: mode and owner $got"
[ "$sent" = "4755 1000" ] && [ "$got" = "755 1000" ] || { echo "changed: receive keeps the bit now"; exit 1; }
echo "as found: the bit is lost"
